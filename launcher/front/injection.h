/* Variables for the container: --env and --env-file, handed on as SINGULARITYENV_NAME. */
#ifndef SINGULARITY_FRONT_INJECTION_H
#define SINGULARITY_FRONT_INJECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "../message.h"
#include "../environment/arena.h"
#include "../environment/variables.h"
#include "options.h"

enum { INJECTION_FILES = 64 };

struct injection {
    struct variables given; /* --env */
    struct {
        const char *path;
        const struct option_value *use;
    } files[INJECTION_FILES];
    uint32_t file_count;
};

void injection_begin(struct injection *injection, struct arena *arena);

/* "NAME=VALUE" or, quoted as CSV, several. False with the error set. */
bool injection_take(struct injection *injection, const char *text, struct error *error);

/* A file for injection_finish to read; `use` is what names it. */
bool injection_take_file(struct injection *injection, const struct option_value *use, const char *path, struct error *error);

/* Reads the files and returns the environment to hand on: `environment` with SINGULARITYENV_NAME for all that was
 * given, in place of what it has by that name and by APPTAINERENV_NAME. --env goes before files, a later file before an
 * earlier one. `arguments` are the program's, which a file sees as $1 and so on. NULL with the error set. */
char **injection_finish(struct injection *injection, char **environment, char *const *arguments, struct error *error);

#endif
