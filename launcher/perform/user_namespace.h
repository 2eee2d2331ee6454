/* Whom the caller is shown as in a user namespace. Needs no privilege, and the setuid program has none of it. */
#ifndef SINGULARITY_USER_NAMESPACE_H
#define SINGULARITY_USER_NAMESPACE_H

#include "../plan/plan.h"

/* In the user namespace of a launch, just made. Both stop the process on failure. */
void user_namespace_map(const struct plan *plan, const struct caller *caller);

/* Where the program is a user of the image: in a namespace of its own, as the last act, when nothing else is open. */
void user_namespace_show(const struct request *request, const struct caller *caller);

#endif
