/* Variables that the C library takes from a setuid program before it can look. */
#ifndef SINGULARITY_FRONT_UNSECURE_VARIABLES_H
#define SINGULARITY_FRONT_UNSECURE_VARIABLES_H

#include "../environment/arena.h"

/* The environment, and each such variable a second time under a name of ours; the starter gives them to the program. */
char **unsecure_variables_keep(struct arena *arena, char **environment);

#endif
