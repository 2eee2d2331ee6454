/* Descriptors of the caller: standard streams, and those that the program gets too. */
#ifndef SINGULARITY_FRONT_DESCRIPTORS_H
#define SINGULARITY_FRONT_DESCRIPTORS_H

#include <stdbool.h>

#include "../request.h"
#include "options.h"

/* Opens /dev/null in place of a closed standard stream, so that no later file becomes one. Stops when it cannot. */
void descriptors_begin(void);

/* Adds "N" or "all" (those that are open now) to the request's keep_fd. A directory is refused: it would lead out of
 * the container. */
bool descriptor_keep(struct request *request, const struct option_value *use, const char *text, struct error *error);

/* Adds the descriptor that `value` (the variable PMI_FD of an MPI launcher) names if it is a socket or a pipe. */
void descriptor_keep_pmi(struct request *request, const char *value);

#endif
