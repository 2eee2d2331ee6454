/* What the parts of the script evaluator share: where it reads, what it changes, and how it says "live code". */
#ifndef SINGULARITY_ENVIRONMENT_EVALUATION_H
#define SINGULARITY_ENVIRONMENT_EVALUATION_H

#include <stdbool.h>
#include <stddef.h>

#include "environment/script.h"

enum {
    NESTING_LIMIT = 64,    /* of `if`, ${ } and `.` together */
    WORK_LIMIT = 64 << 20  /* bytes read and made: a script that sources itself, or doubles a value, ends there */
};

struct cursor {
    const char *at;
    const char *end;
    unsigned line;
    const char *file;
};

struct evaluation {
    struct cursor cursor;
    struct variables *variables;
    struct script_result *result;
    size_t work;       /* bytes left of WORK_LIMIT */
    unsigned nesting;
    int status;        /* of the last command, 0 or 1 */
    bool execute;      /* false in a branch that is not taken: read, and nothing else */
    bool dump;         /* reading `export -p` */
    bool value;        /* reading one value: nothing may be assigned */
};

/* Records why the text is live code, the first time; always false. */
bool evaluation_live(struct evaluation *evaluation, const char *why);

/* The next character with line continuations taken out, or -1 at the end. */
static inline int evaluation_peek(struct evaluation *evaluation)
{
    struct cursor *cursor = &evaluation->cursor;
    while (cursor->end - cursor->at >= 2 && cursor->at[0] == '\\' && cursor->at[1] == '\n') {
        cursor->at += 2;
        cursor->line++;
    }
    return cursor->at < cursor->end ? (unsigned char)*cursor->at : -1;
}

/* Goes on by one character as it stands in the text. */
static inline void evaluation_advance(struct evaluation *evaluation)
{
    if (*evaluation->cursor.at++ == '\n')
        evaluation->cursor.line++;
}

#endif
