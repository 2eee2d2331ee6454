/* The command of an image that came from a registry, for images that have no shell to run their runscript. */
#ifndef SINGULARITY_ENVIRONMENT_OCI_COMMAND_H
#define SINGULARITY_ENVIRONMENT_OCI_COMMAND_H

#include <stdbool.h>

#include "environment/variables.h"

/* What a runscript with OCI_ENTRYPOINT and OCI_CMD executes: the entry point with `arguments`, or without any with the
 * default ones; without an entry point the arguments, or the default command. Variables in them are replaced, in the
 * arguments unless `no_eval`. In the table's arena, ended by NULL; NULL: the file is no such script, or live code. */
char *const *oci_command(const char *runscript, char *const *arguments, bool no_eval, struct variables *variables);

#endif
