/* The variables that stand for options: SINGULARITY_X and APPTAINER_X. */
#ifndef SINGULARITY_FRONT_OPTION_VARIABLES_H
#define SINGULARITY_FRONT_OPTION_VARIABLES_H

#include <stdbool.h>

#include "options.h"

enum { VARIABLE_NAMES = 4, VARIABLE_PREFIXES = 2 };

/* What the environment holds, by option, place of the name in the option's list, and prefix: whole "NAME=value" texts. */
struct option_variables {
    const char *entry[OPTION_COUNT][VARIABLE_NAMES][VARIABLE_PREFIXES];
};

/* One pass over the environment; empty and blank values count as unset. */
void option_variables_read(char *const *environment, struct option_variables *variables);

/* Adds to `options` what the variables of one scope say and the command line does not. A variable with both prefixes
 * and different values is warned of. False with the error set when a value is wrong. */
bool option_variables_apply(const struct option_variables *variables, unsigned scope, struct options *options, struct error *error);

#endif
