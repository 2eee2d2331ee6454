/* Shell scripts that are read on the host, as the user: --env-file, and the init scripts of version 2. */
#ifndef SINGULARITY_FRONT_HOST_SCRIPT_H
#define SINGULARITY_FRONT_HOST_SCRIPT_H

#include <stdbool.h>

#include "../message.h"
#include "../environment/variables.h"

/* Evaluates the script at `path` in a shell that has `environment` and, as $1 and so on, `arguments` (both ended by
 * NULL), and leaves the variables of that shell in `variables`, whose arena must be ready. `keep_all`: assigned
 * variables count as exported. Plain assignments are evaluated here; for anything else /bin/sh runs.
 * False with the error set; its number is ENOENT when there is no such file. */
bool host_script_evaluate(const char *path, char *const *environment, char *const *arguments, bool keep_all,
                          struct variables *variables, struct error *error);

/* PWD, OLDPWD, SHLVL and _ : a shell's own, which say nothing about its script. */
bool host_script_own_variable(const char *name, size_t length);

#endif
