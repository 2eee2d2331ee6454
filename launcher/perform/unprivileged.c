/* What only launches without the setuid program do: user namespaces, FUSE servers, images that are kept mounted, overlay directories.
 * No privilege at all. */
#include "data_images.h"
#include "fuse_mounts.h"
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include "../descriptor.h"
#include "../inside.h"

/* From the keeper's mount namespace, whose root directory is the image, and back. */
static int take_kept(const struct plan *plan)
{
    const struct part *part = &plan->parts[0];
    OWNED_FD own = openat(proc_fd(), "self/ns/mnt", O_RDONLY | O_CLOEXEC);

    if (own < 0 || setns(plan->kept_mount, CLONE_NEWNS) < 0)
        stop(errno, "enter the mount namespace of the keeper of %s (singularity linger end, and try again)", part->source);
    OWNED_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int tree = root < 0 ? -1 : mount_take(root);
    if (tree < 0 || setns(own, CLONE_NEWNS) < 0)
        stop(errno, "take over the mount of %s", part->source);
    return tree;
}

/* --fakeroot: the program has all rights over its user namespace. In the keeper's these would be rights over the mount that all later
 * launches get (a mount over it, by way of NS_MNT_GET_NEXT of Linux 6.12) and over its server (umount -f, from Linux 6.15 on). So the
 * program has a user namespace below, and the mount is copied before that is made, in mounts of the keeper's user namespace. */
static void leave_keeper(struct plan *plan)
{
    perform_unshare(CLONE_NEWNS, "make a mount namespace");
    plan->kept_tree = take_kept(plan);
    user_namespace_enter(plan, 0, 0, CLONE_NEWUSER, "make a user namespace within that of the image's keeper", "--linger=0 does without");
}

/* File system servers must be in the user namespace but not in the mount namespace: they start in between. So must who
 * waits for the end of one, for it ends when nobody has its mount any more. */
int unprivileged_namespaces(struct plan *plan, const struct caller *caller, struct fuse *servers)
{
    int user = (int)(plan->namespaces & CLONE_NEWUSER), others = (int)plan->namespaces & ~CLONE_NEWUSER;
    bool at_once = user != 0 && !fuse_needed(plan) && plan->guard_lock <= 0;
    int network = network_begin(plan);

    if (plan->kept_user > 0) { /* the rights over a mount are those of its user namespace */
        if (setns(plan->kept_user, CLONE_NEWUSER) < 0)
            stop(errno, "enter the user namespace of the keeper of %s (singularity linger end, and try again)", plan->parts[0].source);
        privilege_mapped(plan->root_mapped ? 0 : caller->uid);
        if (plan->root_mapped)
            leave_keeper(plan);
        perform_unshare(at_once ? others : 0, "make the container's namespaces");
    } else if (user != 0) {
        user_namespace_enter(plan, caller->uid, caller->gid, at_once ? user | others : user,
                             plan_text(plan, "make a user namespace, needed here: %s", plan->mode_reason),
                             "install or allow the setuid starter, or have user namespaces allowed: sysctl user.max_user_namespaces, "
                             "kernel.unprivileged_userns_clone");
    }
    if (network >= 0) {
        perform_unshare(at_once ? 0 : CLONE_NEWNET, "make a network namespace");
        others &= ~CLONE_NEWNET;
        network_connect(network);
    }
    if (at_once)
        return 0;
    fuse_prepare(plan, servers);
    data_images_prepare(plan);
    fuse_mounts_prepare(plan);
    guard_start(plan);
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
    if (part->way == WAY_KEPT)
        return plan->kept_tree > 0 ? plan->kept_tree : take_kept(plan);
    OWNED_FD again = reopen(part);
    return part_bind(plan, stage, part, again);
}
