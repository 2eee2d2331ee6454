/* What all of singularity-pack uses: the ways out, memory, growing buffers, little-endian numbers. The program runs as the
 * user, without any privilege, on bytes of strangers; whatever is wrong ends it, and nobody uses what it has written. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum status { STATUS_FAILED = 1, STATUS_BAD_INPUT = 2, STATUS_DAMAGED = 3 }; /* what the Python half tells apart */

_Noreturn void usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void stop(int number, const char *format, ...) __attribute__((format(printf, 2, 3))); /* the system refuses */
_Noreturn void bad(const char *format, ...) __attribute__((format(printf, 1, 2)));              /* of the archive's making */
_Noreturn void damaged(const char *format, ...) __attribute__((format(printf, 1, 2)));          /* a layer file is not whole */

/* Called in place of leaving, where it is set: a fuzz target goes on with the next input. */
extern void (*on_bad)(void);

/* Some bytes of a foreign name or text; in memory of somebody else. */
struct text {
    const char *at;
    size_t size;
};

#define TEXT(literal) ((struct text){literal, sizeof(literal) - 1})
#define SHOWN_SIZE 1024
#define SHOWN(text) shown((char[SHOWN_SIZE]){0}, text)

bool text_is(struct text text, const char *word);
bool text_same(struct text one, struct text other);
bool text_begins(struct text text, const char *start);
const char *shown(char *room, struct text text); /* for a message: escaped, cut where it is very long */

/* Whether a path, with a zero byte behind it, matches one of the patterns of fnmatch(3), which NULL ends: itself, or with
 * `below` what it lies in. */
bool matches(const char *const *patterns, const char *path, bool below);

void *must_allocate(size_t size);
void *must_resize(void *memory, size_t size);

/* Bytes that grow; `data` moves. */
struct buffer {
    uint8_t *data;
    size_t size, room;
};

void *buffer_add(struct buffer *buffer, size_t size); /* room for `size` more bytes at its end */
void buffer_put(struct buffer *buffer, const void *data, size_t size);
void buffer_put16(struct buffer *buffer, uint32_t number);
void buffer_put32(struct buffer *buffer, uint32_t number);
void buffer_put64(struct buffer *buffer, uint64_t number);
void buffer_free(struct buffer *buffer);

void store16(void *at, uint32_t number);
void store32(void *at, uint32_t number);
void store64(void *at, uint64_t number);
uint32_t load16(const void *at);
uint32_t load32(const void *at);
uint64_t load64(const void *at);
uint64_t hash(const void *data, size_t size, uint64_t seed);

size_t read_some(int fd, void *data, size_t size); /* fewer than `size` at the end only */
void write_at(int fd, const void *data, size_t size, uint64_t offset);
void write_out(int fd, const void *data, size_t size);
