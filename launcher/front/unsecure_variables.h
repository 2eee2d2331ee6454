/* Variables that the C library takes from a setuid program before it can look. */
#ifndef SINGULARITY_FRONT_CARRY_H
#define SINGULARITY_FRONT_CARRY_H

#include "../environment/arena.h"

/* The environment, and each such variable a second time under a name of ours; the starter gives them to the program. */
char **carry_variables(struct arena *arena, char **environment);

#endif
