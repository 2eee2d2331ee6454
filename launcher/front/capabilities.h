/* Names of capabilities. */
#ifndef SINGULARITY_FRONT_CAPABILITIES_H
#define SINGULARITY_FRONT_CAPABILITIES_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"

/* Adds one capability to a bit mask: its name with or without "CAP_", in any case, or "all". */
bool capability_take(const struct option_value *use, const char *name, uint64_t *mask, struct error *error);

#endif
