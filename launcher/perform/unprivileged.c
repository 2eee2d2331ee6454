/* What only launches without the setuid program do. */
#include "unprivileged.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../privilege.h"
#include "inside.h"

static void write_map(const char *name, const char *text)
{
    char path[32];

    snprintf(path, sizeof path, "self/%s", name);
    OWNED_FD file = openat(proc_fd(), path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text))
        stop(errno, "map the user into the namespace (%s)", name);
}

static void map_ids(uid_t uid, gid_t gid, const struct caller *caller)
{
    char line[64];

    write_map("setgroups", "deny");
    snprintf(line, sizeof line, "%u %u 1", (unsigned)uid, (unsigned)caller->uid);
    write_map("uid_map", line);
    snprintf(line, sizeof line, "%u %u 1", (unsigned)gid, (unsigned)caller->gid);
    write_map("gid_map", line);
    privilege_mapped(uid);
}

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
        map_ids(plan->root_mapped ? 0 : caller->uid, plan->root_mapped ? 0 : caller->gid, caller);
    }
    if (at_once)
        return 0;
    fuse_prepare(plan, servers);
    return others;
}

/* Opens a directory again in the new mount namespace, and makes sure that it is the one that was judged. */
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

void user_namespace_show(const struct request *request, const struct caller *caller)
{
    int wish = 0;

    if (prctl(PR_SET_DUMPABLE, 1) < 0) /* nothing is left to hide, and the maps of a hidden process are root's */
        stop(errno, "USER %s of the image", request->user_spec);
    proc_open();
    pid_t parent = getppid();
    (void)prctl(PR_GET_PDEATHSIG, &wish);
    if (unshare(CLONE_NEWUSER) < 0)
        stop(errno, "a user namespace for USER %s of the image (--no-compat does without)", request->user_spec);
    map_ids((uid_t)(request->user_uid - 1), (gid_t)(request->user_gid - 1), caller);
    privilege_forget(caller);
    if (wish != 0 && (prctl(PR_SET_PDEATHSIG, wish) < 0 || getppid() != parent)) /* perform_follow()'s, lost with the ids */
        _exit(EXIT_OWN_FAILURE);
}
