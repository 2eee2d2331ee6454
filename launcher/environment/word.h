/* One word of a script: its quotes taken off, its variables replaced. */
#ifndef SINGULARITY_ENVIRONMENT_WORD_H
#define SINGULARITY_ENVIRONMENT_WORD_H

#include "environment/evaluation.h"

enum word_use {
    WORD_COMMAND,    /* where a command may begin: NAME=VALUE is an assignment */
    WORD_DECLARED,   /* after `export`: the same, but braces may expand */
    WORD_ARGUMENT    /* fields split and patterns expand, so what would do either is live code */
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
};

/* Reads the word at the cursor, of one character at least. False: live code. */
bool word_read(struct evaluation *evaluation, enum word_use use, struct word *word);

/* Reads to the end of the text as if it stood in double quotes, as script_expand tells. */
bool word_read_value(struct evaluation *evaluation, struct word *word);

/* $'...' after its first quote, in a dump. */
bool word_read_ansi(struct evaluation *evaluation, struct word *word);

bool word_add(struct evaluation *evaluation, struct word *word, const char *bytes, size_t length);

/* Whether shells compute the variable themselves, or change their ways when it is set. */
bool word_name_special(const char *name, size_t length);

/* Gives the value of "NAME=VALUE", unless the name is special. */
bool word_assign(struct evaluation *evaluation, const char *text, size_t name_length, size_t value_length);

#endif
