/* What only launches without the setuid program do: user namespaces, FUSE servers, overlay directories. No privilege at all. */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include "../descriptor.h"
#include "../inside.h"

/* File system servers must be in the user namespace but not in the mount namespace: they start in between. So must who
 * waits for the end of one, for it ends when nobody has its mount any more. */
int unprivileged_namespaces(struct plan *plan, const struct caller *caller, struct fuse *servers)
{
    int user = (int)(plan->namespaces & CLONE_NEWUSER), others = (int)plan->namespaces & ~CLONE_NEWUSER;
    bool at_once = user != 0 && !fuse_needed(plan);

    if (user != 0) {
        perform_unshare(at_once ? user | others : user,
                        plan_text(plan, "make a user namespace, needed here: %s (install or allow the setuid starter, or have user namespaces "
                                  "allowed: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)", plan->mode_reason));
        user_namespace_map(plan->root_mapped ? 0 : caller->uid, plan->root_mapped ? 0 : caller->gid, caller);
    }
    if (at_once)
        return 0;
    fuse_prepare(plan, servers);
    return others;
}

/* Opens a directory again in the new mount namespace, and makes sure that it is the one that was judged. Its
 * descriptor from before the namespace leads to mounts of the old one, which cannot be copied (open_tree(2)). */
static int reopen(const struct part *part)
{
    struct stat before, now;
    int fd = host_open(part->source, O_PATH | O_DIRECTORY);

    if (fd < 0 || fstat(fd, &now) < 0 || fstat(part->fd, &before) < 0 || before.st_dev != now.st_dev ||
        before.st_ino != now.st_ino)
        stop(errno, "%s changed while it was being opened", part->source);
    return fd;
}

int unprivileged_part(const struct plan *plan, const struct stage *stage, const struct part *part, struct fuse *server)
{
    if (part->way == WAY_FUSE)
        return fuse_mount(&stage->session, part, server);
    OWNED_FD again = reopen(part);
    return part_bind(plan, stage, part, again);
}
