/* One word of a script, its quotes taken off and its variables replaced; and what the parts of the evaluator share: where
 * it reads, what it changes, and how it says "live code". */
#ifndef SINGULARITY_ENVIRONMENT_WORD_H
#define SINGULARITY_ENVIRONMENT_WORD_H

#include "environment/script.h"

/* Of `if`, ${ } and `.` together. The arena has a limit of its own: a script that sources itself twice ends there. */
enum { NESTING_LIMIT = 64 };

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
    unsigned nesting;
    int status;        /* of the last command, 0 or 1 */
    bool execute;      /* false in a branch that is not taken: read, and nothing else */
    bool dump;         /* reading `export -p` */
};

struct word {
    struct word *next;
    char *bytes;        /* ended by a NUL */
    size_t length;
    size_t room;
    size_t name_length; /* of the NAME in an assignment, else 0 */
    bool plain;         /* no quote, no expansion: may be a reserved word */
    bool field;         /* counts as a word even when it is empty */
    bool no_value;      /* in a dump: NAME=( ... ), which no environment can hold */
    bool arguments;     /* "$@" is in it: the script's own arguments, which are not known here */
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

/* Reads the word at the cursor; with `assigns`, NAME=VALUE is an assignment. False: live code. */
bool word_read(struct evaluation *evaluation, bool assigns, struct word *word);

/* Reads to the end of the text as if it stood in double quotes, as script_expand tells. */
bool word_read_value(struct evaluation *evaluation, struct word *word);

/* Whether shells compute the variable themselves, or change their ways when it is set. */
bool word_name_special(const char *name, size_t length);

/* Gives the value of "NAME=VALUE", which has `length` bytes, unless the name is special. */
bool word_assign(struct evaluation *evaluation, const char *text, size_t name_length, size_t length);

/* ---- `test` and `[ ]` (condition.c) ---- */

enum condition { CONDITION_TRUE, CONDITION_FALSE, CONDITION_UNKNOWN };

enum { CONDITION_WORDS = 4 };

/* What `test` with these words says, by the rules that POSIX gives for their number; UNKNOWN: not one of ours. */
enum condition condition_evaluate(const char *const *words, size_t count);

#endif
