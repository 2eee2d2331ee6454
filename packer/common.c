/* The ways out, memory, growing buffers, little-endian numbers. */
#include "common.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void (*on_bad)(void);

/* One line, from whichever thread is first; nothing is cleaned up, since the caller throws away what was written. */
static _Noreturn void leave(enum status status, int number, const char *format, va_list arguments)
{
    char line[4096];
    int size = vsnprintf(line, sizeof line, format, arguments);
    size_t used = size < 0 ? 0 : (size_t)size < sizeof line ? (size_t)size : sizeof line - 1;
    if (number)
        snprintf(line + used, sizeof line - used, ": %s", strerror(number));
    if (on_bad)
        on_bad();
    fprintf(stderr, "%s\n", line);
    fflush(stderr);
    _exit((int)status);
}

#define LEAVE(status, number)                                                                                              \
    va_list arguments;                                                                                                     \
    va_start(arguments, format);                                                                                           \
    leave(status, number, format, arguments)

void usage(const char *format, ...) { LEAVE(STATUS_FAILED, 0); }
void stop(int number, const char *format, ...) { LEAVE(STATUS_FAILED, number); }
void bad(const char *format, ...) { LEAVE(STATUS_BAD_INPUT, 0); }
void damaged(const char *format, ...) { LEAVE(STATUS_DAMAGED, 0); }

bool text_is(struct text text, const char *word)
{
    return text.size == strlen(word) && !memcmp(text.at, word, text.size);
}

bool text_same(struct text one, struct text other)
{
    return one.size == other.size && (!one.size || !memcmp(one.at, other.at, one.size));
}

bool text_begins(struct text text, const char *start)
{
    size_t size = strlen(start);
    return text.size >= size && !memcmp(text.at, start, size);
}

const char *shown(char *room, struct text text)
{
    size_t used = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (i == 120 && text.size > 200) {
            used += (size_t)snprintf(room + used, SHOWN_SIZE - used, "...");
            i = text.size - 60;
        }
        unsigned char byte = (unsigned char)text.at[i];
        if (byte < ' ' || byte == 127)
            used += (size_t)snprintf(room + used, SHOWN_SIZE - used, "\\x%02x", byte);
        else
            room[used++] = (char)byte;
    }
    room[used] = 0;
    return room;
}

static size_t slashes(const char *path)
{
    size_t count = 0;
    for (; *path; path++)
        count += *path == '/';
    return count;
}

/* Most patterns are told apart from most paths by how they begin, and by how many names they have. */
bool matches(const char *const *patterns, const char *path, bool below)
{
    size_t depth = slashes(path);
    for (; patterns && *patterns; patterns++) {
        size_t plain = strcspn(*patterns, "*?[\\"), wanted = slashes(*patterns);
        if ((below ? depth < wanted : depth != wanted) || strncmp(*patterns, path, plain))
            continue;
        if (!fnmatch(*patterns, path, FNM_PATHNAME | (below ? FNM_LEADING_DIR : 0)))
            return true;
    }
    return false;
}

void *must_allocate(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    if (!memory)
        stop(ENOMEM, "%zu bytes", size);
    return memory;
}

void *must_resize(void *memory, size_t size)
{
    void *found = realloc(memory, size ? size : 1);
    if (!found)
        stop(ENOMEM, "%zu bytes", size);
    return found;
}

void *buffer_add(struct buffer *buffer, size_t size)
{
    if (buffer->room - buffer->size < size) {
        size_t room = buffer->room + buffer->room / 2 + size + 64;
        buffer->data = must_resize(buffer->data, room);
        buffer->room = room;
    }
    uint8_t *at = buffer->data + buffer->size;
    buffer->size += size;
    return at;
}

void buffer_put(struct buffer *buffer, const void *data, size_t size)
{
    if (size)
        memcpy(buffer_add(buffer, size), data, size);
}

void buffer_put16(struct buffer *buffer, uint32_t number) { store16(buffer_add(buffer, 2), number); }
void buffer_put32(struct buffer *buffer, uint32_t number) { store32(buffer_add(buffer, 4), number); }
void buffer_put64(struct buffer *buffer, uint64_t number) { store64(buffer_add(buffer, 8), number); }

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

void store16(void *at, uint32_t number)
{
    uint8_t *to = at;
    to[0] = (uint8_t)number;
    to[1] = (uint8_t)(number >> 8);
}

void store32(void *at, uint32_t number)
{
    store16(at, number);
    store16((uint8_t *)at + 2, number >> 16);
}

void store64(void *at, uint64_t number)
{
    store32(at, (uint32_t)number);
    store32((uint8_t *)at + 4, (uint32_t)(number >> 32));
}

uint32_t load16(const void *at)
{
    const uint8_t *from = at;
    return (uint32_t)(from[0] | from[1] << 8);
}

uint32_t load32(const void *at) { return load16(at) | load16((const uint8_t *)at + 2) << 16; }
uint64_t load64(const void *at) { return load32(at) | (uint64_t)load32((const uint8_t *)at + 4) << 32; }

/* FNV-1a with another mixing at the end; the seed keeps strangers from choosing names that fall together. */
uint64_t hash(const void *data, size_t size, uint64_t seed)
{
    const uint8_t *from = data;
    uint64_t value = 0xcbf29ce484222325U ^ seed;
    for (size_t i = 0; i < size; i++)
        value = (value ^ from[i]) * 0x100000001b3U;
    value ^= value >> 32;
    value *= 0x9e3779b97f4a7c15U;
    return value ^ value >> 29;
}

size_t read_some(int fd, void *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t count = read(fd, (uint8_t *)data + done, size - done);
        if (count < 0 && errno != EINTR)
            stop(errno, "standard input");
        if (!count)
            break;
        done += count > 0 ? (size_t)count : 0;
    }
    return done;
}

void write_at(int fd, const void *data, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = pwrite(fd, (const uint8_t *)data + done, size - done, (off_t)(offset + done));
        if (count < 0 && errno != EINTR)
            stop(errno, "write");
        done += count > 0 ? (size_t)count : 0;
    }
}

void write_out(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = write(fd, (const uint8_t *)data + done, size - done);
        if (count < 0 && errno != EINTR)
            stop(errno, "standard output");
        done += count > 0 ? (size_t)count : 0;
    }
}
