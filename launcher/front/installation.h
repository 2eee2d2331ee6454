/* Where the parts of this installation are. */
#ifndef SINGULARITY_FRONT_INSTALLATION_H
#define SINGULARITY_FRONT_INSTALLATION_H

#include <limits.h>
#include <stdbool.h>

#include "../message.h"

struct installation {
    char starters[PATH_MAX];      /* directory of sexec and sexec-suid */
    char configuration[PATH_MAX]; /* directory of singularity.conf */
    char python[PATH_MAX];
};

/* As compiled in, or, in a relocatable build, as they lie around /proc/self/exe. */
bool installation_find(struct installation *installation, struct error *error);

/* The path of the starter to execute, into `path`. `why` is a word on the choice. */
bool installation_starter(const struct installation *installation, bool userns, char path[PATH_MAX], const char **why,
                          struct error *error);

/* NAME in the configuration directory. */
bool installation_file(const struct installation *installation, const char *name, char path[PATH_MAX]);

#endif
