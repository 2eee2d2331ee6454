/* The variables of a shell: each has a name, may have a value, and may be exported to the programs it starts. */
#ifndef SINGULARITY_ENVIRONMENT_VARIABLES_H
#define SINGULARITY_ENVIRONMENT_VARIABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "environment/arena.h"

struct variable {
    const char *text;     /* "NAME=VALUE"; for a variable without a value "NAME=" */
    uint32_t name_length;
    uint32_t value_length;
    uint32_t hash;
    bool set;             /* has a value */
    bool exported;        /* enters the environment once it has a value */
};

/* To look at all: entries[0 .. count-1], in the order in which they came; those not `set` have no value. */
struct variables {
    struct arena *arena;
    struct variable *entries;
    uint32_t *slots;      /* 1 + index of the entry, 0 free */
    uint32_t count;
    uint32_t room;        /* entries; the slots are twice as many */
};

/* An empty table whose texts live in `arena`. */
void variables_begin(struct variables *variables, struct arena *arena);

/* A table of its own with the same variables, in the same arena. False: no memory. */
bool variables_copy(struct variables *copy, const struct variables *variables);

/* [A-Za-z_][A-Za-z0-9_]* */
bool variable_name_valid(const char *name, size_t length);

static inline const char *variable_value(const struct variable *variable)
{
    return variable->text + variable->name_length + 1;
}

/* The variable of that name if it has a value, else NULL. */
const struct variable *variables_find(const struct variables *variables, const char *name, size_t length);

/* The value, ended by a NUL, or NULL. */
const char *variables_get(const struct variables *variables, const char *name);

/* Gives a value, copying it; an exported variable stays exported. False: no memory. */
bool variables_set(struct variables *variables, const char *name, const char *value);

/* The same without a copy: `text` is "NAME=VALUE" and must live as long as the table. */
bool variables_adopt(struct variables *variables, const char *text, size_t name_length, size_t value_length);

/* Marks as exported, now or once it has a value. */
bool variables_export(struct variables *variables, const char *name, size_t length);

/* Gives a value and exports. */
bool variables_put(struct variables *variables, const char *name, const char *value);

/* Takes value and export mark away. */
void variables_unset(struct variables *variables, const char *name, size_t length);

/* The exported variables as execve wants them, ended by NULL; NULL: no memory. */
char **variables_environment(const struct variables *variables);

#endif
