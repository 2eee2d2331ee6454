/* Live code in environment scripts: the image's own shell evaluates them, once, as a child. */
#ifndef SINGULARITY_ENVIRONMENT_LIVE_H
#define SINGULARITY_ENVIRONMENT_LIVE_H

#include "environment/scripts.h"
#include "environment/variables.h"

struct live {
    const char *shell;                /* of the image */
    char *const *arguments;           /* what the scripts see as $1 and so on */
    const struct scripts *scripts;
    const struct variables *injected;
    const struct variables *host;     /* to tell which of them a script sets without exporting it */
    const char *home;                 /* HOME where the script of a Docker image has not set it; NULL: set before */
    bool path_exact;                  /* the PATH of a Docker image stays as it is */
    bool no_eval;                     /* injected values are literal */
};

/* The shell for live code: /bin/bash, which understands what today's interpreters of the family do, or /bin/sh;
 * NULL: the image has neither. */
const char *live_shell(void);

/* Replaces `variables`, which the shell starts with, by those that it has in the end; returns the umask that it has.
 * Stops the process with the shell's status when a script ends it. */
int live_evaluate(const struct live *live, struct variables *variables);

#endif
