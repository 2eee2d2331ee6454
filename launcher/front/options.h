/* The command line as words mean it: which options, which verb, which words are left. */
#ifndef SINGULARITY_FRONT_OPTIONS_H
#define SINGULARITY_FRONT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../message.h"

enum option_id {
#define OPTION(identifier, ...) OPTION_##identifier,
#define VARIABLE(identifier, ...) OPTION_##identifier,
#include "../options.def"
#undef OPTION
#undef VARIABLE
    OPTION_COUNT
};

enum option_kind { KIND_FLAG, KIND_COUNT, KIND_TEXT, KIND_LIST_CSV, KIND_LIST_RAW, KIND_OPTIONAL, KIND_NONE_HERE };

/* Where an option stands: the bits of its VERBS. */
enum option_scope {
    SCOPE_GLOBAL = 1 << 0,
    SCOPE_EXEC = 1 << 1,
    SCOPE_RUN = 1 << 2,
    SCOPE_SHELL = 1 << 3,
    SCOPE_TEST = 1 << 4,
    SCOPE_ACTIONS = SCOPE_EXEC | SCOPE_RUN | SCOPE_SHELL | SCOPE_TEST
};

struct option {
    const char *names; /* "--name,synonym,..."; "--" for a variable that has no option */
    const char *variables;
    const char *help;
    unsigned scopes;
    enum option_kind kind;
    char letter; /* 0: none */
};
extern const struct option option_table[OPTION_COUNT];

/* One use of an option: by a word of the command line or by a variable. */
struct option_value {
    enum option_id id;
    bool from_variable;
    const char *name; /* "--bind=...", "SINGULARITY_BIND=...": ends at its "=" or "," */
    const char *text; /* NULL: a flag that is set, or an OPTIONAL without its value */
};

/* The two arguments of "%.*s" that show the name of a use. */
#define OPTION_NAME(value) (int)strcspn((value)->name, "=,"), (value)->name

enum { OPTION_VALUES = 4096, OPTION_NAME_SIZE = 64 };

struct options {
    struct option_value values[OPTION_VALUES];
    uint32_t count;
    bool given[OPTION_COUNT]; /* on the command line */
};

enum line_kind {
    LINE_LAUNCH, /* exec, run, shell, test: `scope` says which, `rest` is the image and what follows it */
    LINE_HELP,   /* `rest` names what about, or is empty */
    LINE_VERSION,
    LINE_BARE_VERSION,
    LINE_OTHER /* a verb that Python knows or will refuse: `rest` begins with it */
};

struct command_line {
    enum line_kind kind;
    unsigned scope;
    char *const *rest; /* NULL-terminated */
    struct options options;
};

/* `words` follow the program's name, NULL-terminated. False: wrong usage, which ends with EXIT_USAGE. */
bool command_line_parse(char *const *words, struct command_line *line, struct error *error);

/* "exec" for SCOPE_EXEC and so on. */
const char *scope_verb(unsigned scope);

/* Adds one use; false with the error set when there are too many. */
bool options_add(struct options *options, struct option_value value, struct error *error);

/* A flag after all of its uses; the last one counts. */
bool options_flag(const struct options *options, enum option_id id);

/* How often a COUNT was given. */
int options_times(const struct options *options, enum option_id id);

/* The last use, or NULL. */
const struct option_value *options_last(const struct options *options, enum option_id id);

/* The last text given, or NULL. */
const char *options_text(const struct options *options, enum option_id id);

/* The family's spellings of true and false: Go's, and yes, on, y, no, off, n of 2.2, in any case. */
bool boolean_parse(const char *text, bool *value);

/* Whether a comma list holds this name; its place is left in `rank` unless that is NULL. */
bool name_listed(const char *list, const char *name, size_t length, unsigned *rank);

#endif
