/* The launch request: a flat, typed, versioned record, handed from the front door to the starter in a sealed memfd.
 *
 * Layout, little-endian: "SGRQ", version u32, length of the whole u32, number of fields u32; then each field:
 * tag u16, zero u16, length of the value u32, value. Fields stand in the order of request.def, a list as one
 * field an entry: number u64, length of the first text u32, first text, second text. No text holds a NUL.
 */
#ifndef SINGULARITY_REQUEST_H
#define SINGULARITY_REQUEST_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"

enum { REQUEST_VERSION = 1, REQUEST_LIMIT = 1 << 20 };

/* Numbers of the format: new ones go to the end. */
enum action { ACTION_EXEC, ACTION_RUN, ACTION_SHELL, ACTION_TEST, ACTION_LINGER, ACTION_START, ACTION_BOOT, ACTION_HOLD, ACTION_COUNT };
/* 0 is what a request without the field means. */
enum dry_run { DRY_RUN_NO, DRY_RUN_TEXT, DRY_RUN_JSON };
enum bind_option {
    BIND_READONLY = 1,
    BIND_MOUNT = 2, BIND_NONESTED = 4, /* by --mount, not --bind; not told to launches in the container */
    BIND_VARIABLE = 8, /* from this bit on: which entry of `variable` gave it, counted from 1; 0: the command line */
};
enum fuse_option { FUSE_HOST = 1, FUSE_DAEMON = 2 }; /* a program of the host, else of the container; one that goes to the background */
enum overlay_option {
    OVERLAY_READONLY = 1,
    OVERLAY_THROWAWAY = 2, /* a directory in which one is made that is gone afterwards */
    OVERLAY_LAYER = 4,     /* the image itself, on its base */
};

/* The number of an entry of `library`: by which option it came, and what decides whether it goes in. */
enum library_option {
    LIBRARY_NV,
    LIBRARY_ROCM,
    LIBRARY_FABRIC,
    LIBRARY_MPI,
    LIBRARY_OPTION = 0xf,      /* mask of these */
    LIBRARY_OBJECT = 1 << 4,   /* a library or program: the image must have the symbol versions that it needs */
    LIBRARY_DRIVER = 1 << 5,   /* belongs to the kernel's driver: goes before any other version of the image */
    LIBRARY_SUPPORT = 1 << 6,  /* what others of its set need: only where the image has none, or an older one */
    LIBRARY_ALWAYS = 1 << 7,   /* even where the image has a newer one */
    LIBRARY_ASKED = 1 << 8,    /* by the user and not by the site: he is told when something cannot go in */
    LIBRARY_LEAD = 1 << 9,     /* the library of its set that decides for all of it */
    LIBRARY_SET = 16,          /* from this bit on: the number of a set that goes in together; 0: none */
};

/* The option that brings a library of the host in, by that number, and the directory that programs find it in. */
/* Of a network that is carried from outside: where names are asked for. */
#define NETWORK_NAMESERVER "10.0.2.3"

#define LIBRARIES_INSIDE "/.singularity.d/libs"
const char *library_option(uint64_t number);

/* What the texts and the number mean depends on the list: request.def says it beside each. */
struct request_entry {
    const char *first;
    const char *second; /* "" where the list has no second text */
    uint64_t number;
};

struct request {
#define REQUEST_FLAG(tag, member) bool member;
#define REQUEST_NUMBER(tag, member) uint64_t member;
#define REQUEST_TEXT(tag, member) const char *member; /* NULL: not given */
#define REQUEST_LIST(tag, member, limit) struct request_entry member[limit]; uint32_t member##_count;
#include "request.def"
#undef REQUEST_FLAG
#undef REQUEST_NUMBER
#undef REQUEST_TEXT
#undef REQUEST_LIST
    char text_store[REQUEST_LIMIT]; /* the texts of a decoded request */
};

/* Whether the launch enters an instance, whose container is there: nothing of its image is opened or mounted. */
static inline bool request_enters(const struct request *request)
{
    return request->instance != NULL && !request->instance_starts;
}

/* Bytes written, or 0 with the error set when a limit is passed. `size` is the room in `bytes`. */
size_t request_encode(const struct request *request, uint8_t *bytes, size_t size, struct error *error);

/* Fills `request`, which is all zero before; its texts then point into itself. Anything unknown, doubled, out of order or too
 * long is refused. */
bool request_decode(const uint8_t *bytes, size_t size, struct request *request, struct error *error);

/* A sealed memfd, close-on-exec off, that holds the encoded request; -1 with the error set. */
int request_send(const struct request *request, struct error *error);

/* Reads one request from a descriptor and closes it. */
bool request_receive(int fd, struct request *request, struct error *error);

#endif
