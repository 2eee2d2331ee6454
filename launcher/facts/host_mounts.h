/* The mount points of the host. */
#ifndef SINGULARITY_FACTS_HOST_MOUNTS_H
#define SINGULARITY_FACTS_HOST_MOUNTS_H

#include "../plan/plan.h"

/* For "mount hostfs": where the host has file systems mounted, but the root, the kernel's own and those of running
 * services; NULL-terminated, as long as the plan. Never part of a decision about rights. */
const char *const *host_mounts(struct plan *plan);

#endif
