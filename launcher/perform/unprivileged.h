/* What only launches without the setuid program do: user namespaces, and file systems that are served or are layers although
 * the host has them. The setuid program has launcher/setuid/absent.c in its place. All stop the process on failure. */
#ifndef SINGULARITY_UNPRIVILEGED_H
#define SINGULARITY_UNPRIVILEGED_H

#include "perform.h"

/* Makes the user namespace and what must be made with it, and starts the servers of file systems. Returns which of the
 * plan's namespaces are still to be made. */
int unprivileged_namespaces(struct plan *plan, const struct caller *caller, struct fuse *servers);

/* Mounts a part that is served, or another directory than the image. */
int unprivileged_part(const struct plan *plan, const struct stage *stage, const struct part *part, struct fuse *server);

#endif
