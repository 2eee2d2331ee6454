/* The two languages of user binds. */
#ifndef SINGULARITY_FRONT_BIND_H
#define SINGULARITY_FRONT_BIND_H

#include <stdbool.h>

#include "launch.h"

/* Adds the binds of "SOURCE[:TARGET[:OPTIONS]],..." to the request; "\:" and "\," stand for the characters. Relative
 * sources start at the current directory, targets are absolute. A bind that is there already is not added again.
 * False with the error set, which names the option or variable of `use`. */
bool bind_take(struct launch *launch, const struct option_value *use, const char *text, struct error *error);

/* The same for "type=bind,source=S,target=T[,readonly]", one or several separated by newlines. */
bool mount_value_take(struct launch *launch, const struct option_value *use, const char *text, struct error *error);

#endif
