/* The environment scripts that an image has. */
#ifndef SINGULARITY_ENVIRONMENT_SCRIPTS_H
#define SINGULARITY_ENVIRONMENT_SCRIPTS_H

#include <stdbool.h>
#include <stddef.h>

#include "environment/arena.h"

#define SCRIPTS_DIRECTORY "/.singularity.d/env"

struct scripts {
    const char **paths; /* in the order in which they are evaluated */
    size_t count;
    bool modern;        /* from SCRIPTS_DIRECTORY; else /environment, or none */
};

enum script_kind {
    SCRIPT_OWN,      /* any other */
    SCRIPT_FIRST,    /* 01-base.sh and what a Docker image declares: before them PATH has no value */
    SCRIPT_DOCKER,   /* one of those that set PATH as the Docker image has it */
    SCRIPT_LATE      /* after 99-base.sh: the caller's variables are there */
};

/* Lists *.sh in the order of their bytes. Stops the process when it has no memory. */
void scripts_list(struct arena *arena, struct scripts *scripts);

enum script_kind script_kind(const char *path);

#endif
