/* Which variables of the caller's process enter the container. */
#ifndef SINGULARITY_ENVIRONMENT_HOST_H
#define SINGULARITY_ENVIRONMENT_HOST_H

#include "environment/variables.h"

/* Those that the program gets unless the image or the caller sets them. The texts are `caller_environment`'s own.
 * `host_mpi`: the program is started with the host's MPI, so that where its parts lie holds inside too.
 * Stops the process when it has no memory. */
void host_variables(char *const *caller_environment, bool cleanenv, bool host_mpi, struct variables *host);

/* What the caller sets by SINGULARITYENV_NAME and APPTAINERENV_NAME, under the names that the scripts of images know;
 * a warning where two differ (the first kind counts) or a name is not for that. Stops as above. */
void host_injected(char *const *caller_environment, struct variables *injected);

#endif
