/* What the program finds in its environment: host < image < what the caller injects. */
#ifndef SINGULARITY_ENVIRONMENT_H
#define SINGULARITY_ENVIRONMENT_H

#include <errno.h>
#include <stdbool.h>

#include "environment/variables.h"
#include "message.h"
#include "payload.h"

/* Where commands of the host are in the container (commands/commands.h). */
#define COMMANDS_INSIDE "/.singularity.d/host"

/* Fills `variables`, whose arena must be ready, with all that the program gets, exported; sets the umask that a script
 * asks for. Reads the image's scripts and starts its shell if one of them is live code. Stops the process when a script
 * ends the launch, or memory is short. */
void environment_make(const struct payload *payload, struct variables *variables);

static inline void environment_need(bool done)
{
    if (!done)
        stop(ENOMEM, "the environment of the container");
}

/* What a runscript with OCI_ENTRYPOINT and OCI_CMD executes: the entry point with `arguments`, or without any with the
 * default ones; without an entry point the arguments, or the default command. Variables in them are replaced, in the
 * arguments unless `no_eval`. In the table's arena, ended by NULL; NULL: the file is no such script, or live code. */
char *const *oci_command(const char *runscript, char *const *arguments, bool no_eval, struct variables *variables);

#endif
