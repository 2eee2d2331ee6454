/* Live code in environment scripts: the image's own shell evaluates them, once, as a child. */
#ifndef SINGULARITY_ENVIRONMENT_LIVE_H
#define SINGULARITY_ENVIRONMENT_LIVE_H

#include <sys/types.h>

#include "environment/scripts.h"
#include "environment/variables.h"
#include "payload.h"

struct live {
    const char *shell;                /* of the image */
    const struct payload *payload;    /* its arguments are what the scripts see as $1 and so on */
    const struct scripts *scripts;
    const struct variables *injected;
    const struct variables *host;     /* a script may set one of them without exporting it: the program has it not then */
};

/* The shell for live code: /bin/bash, since Apptainer evaluates scripts by a shell that knows much of bash's language and
 * images rely on it; else /bin/sh. NULL: the image has neither. */
const char *live_shell(void);

/* Replaces `variables`, which the shell starts with, by those that it has in the end; returns the umask that it has.
 * Stops the process with the shell's status when a script ends it. */
mode_t live_evaluate(const struct live *live, struct variables *variables);

#endif
