/* A text that grows in an arena. */
#ifndef SINGULARITY_ENVIRONMENT_TEXT_H
#define SINGULARITY_ENVIRONMENT_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "environment/arena.h"

struct text {
    struct arena *arena;
    char *bytes;   /* ended by a NUL once something was added */
    size_t length;
    size_t room;
    bool short_of_memory; /* something could not be added: the text is of no use */
};

void text_add(struct text *text, const char *bytes, size_t length);
void text_add_string(struct text *text, const char *string);

/* Several strings, the last one NULL. */
void text_add_strings(struct text *text, const char *first, ...) __attribute__((sentinel));

/* As one word of a shell, in single quotes. */
void text_add_quoted(struct text *text, const char *string);

#endif
