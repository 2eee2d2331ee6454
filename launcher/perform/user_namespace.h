/* Whom the caller is shown as in a user namespace. Both stop the process on failure. */
#ifndef SINGULARITY_USER_NAMESPACE_H
#define SINGULARITY_USER_NAMESPACE_H

#include "../caller.h"
#include "../request.h"

/* In a namespace that was just made. */
void user_namespace_map(uid_t uid, gid_t gid, const struct caller *caller);

/* Where the program is a user of the image: in a namespace of its own, as the last act, when nothing else is open. */
void user_namespace_show(const struct request *request, const struct caller *caller);

#endif
