/* --nv, --rocm, --fabric and --mpi: which tables of the site are read for a launch, and whether the host's MPI is found. */
#ifndef SINGULARITY_LIBRARIES_FAMILIES_H
#define SINGULARITY_LIBRARIES_FAMILIES_H

#include "../front/installation.h"
#include "../front/launch.h"

/* What the options or the site want, unless --no-nv or --no-rocm, goes into the request; without them nothing is read but
 * the site's configuration. Returns the environment to hand on: with --cleanenv it injects the variables that say which
 * devices a job may use. NULL: no memory. */
char **host_families_take(struct launch *launch, const struct installation *installation, const struct options *options,
                          char **environment, struct arena *arena);

#endif
