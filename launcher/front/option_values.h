/* What each option that has a value means: one function an option, from its text to the request. */
#ifndef SINGULARITY_FRONT_OPTION_VALUES_H
#define SINGULARITY_FRONT_OPTION_VALUES_H

#include "launch.h"

/* `text` is the value, or one element of a CSV list. False with the error set, which names the option. */
typedef bool take_value(struct launch *launch, const struct option_value *use, const char *text, struct error *error);

/* By option; NULL where there is nothing to do with a value here. */
extern take_value *const option_takers[OPTION_COUNT];

/* Sets the error of a request whose texts have no room left; always false. */
bool request_full(struct error *error);

#endif
