/* Who calls: ids, groups and name, from the kernel, with every privilege down. */
#include "caller.h"

#include <errno.h>
#include <unistd.h>

#include "message.h"

/* The real ids: in a setuid program they are the caller's, and only the effective and saved ones root's
 * (credentials(7)). No name is looked up, for that would load code (R-L4), and no environment is asked. */
void caller_read(struct caller *caller)
{
    uid_t effective, saved;
    gid_t effective_group, saved_group;

    if (getresuid(&caller->uid, &effective, &saved) < 0 || getresgid(&caller->gid, &effective_group, &saved_group) < 0)
        stop(errno, "the caller's ids");
    if ((caller->group_count = getgroups(CALLER_GROUPS, caller->groups)) < 0)
        stop(errno, "the caller's groups");
}
