/* What stays outside of a container that writes into a directory of the host. Not in the setuid program, which never has such a layer. */
#ifndef SINGULARITY_PERFORM_GUARD_H
#define SINGULARITY_PERFORM_GUARD_H

#include "perform.h"

/* Where the overlay's writes go to a directory of the host, one container at a time has it: locked on the host, kept by a process that
 * stays outside and is made in the user namespace, until nobody uses the container's root directory any more. What --writable-tmpfs
 * writes to disk is removed then. */
void guard_lock(struct plan *plan, const struct request *request);
void guard_start(struct plan *plan);
void guard_watch(const struct plan *plan);

#endif
