/* A text that grows in an arena. Who adds to one stops when there is no memory. */
#ifndef SINGULARITY_ENVIRONMENT_TEXT_H
#define SINGULARITY_ENVIRONMENT_TEXT_H

#include <stddef.h>

#include "environment/arena.h"

struct text {
    struct arena *arena;
    char *bytes;   /* ended by a NUL once something was added */
    size_t length;
    size_t room;
};

/* `bytes` may hold NULs and need not end with one; the text gets its own. */
void text_add(struct text *text, const char *bytes, size_t length);
void text_add_string(struct text *text, const char *string);

/* Several strings, the last one NULL. */
void text_add_strings(struct text *text, const char *first, ...) __attribute__((sentinel));

/* The three as one text, in the arena. */
const char *text_join(struct arena *arena, const char *first, const char *second, const char *third);

/* As one word of a shell, in single quotes. */
void text_add_quoted(struct text *text, const char *string);

#endif
