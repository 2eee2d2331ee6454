/* Whom the caller is shown as in a user namespace. Needs no privilege, and the setuid program has none of it. */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "../privilege.h"

/* One write(2) of the whole text: the kernel takes a map once and in one piece (user_namespaces(7)). */
static void write_map(const char *name, const char *text)
{
    char path[32];

    snprintf(path, sizeof path, "self/%s", name);
    OWNED_FD file = openat(proc_fd(), path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text))
        stop(errno, "map the user into the namespace (%s)", name);
}

/* "deny" first: without it the kernel takes no gid_map from an unprivileged process (Linux 3.19), since setgroups(2)
 * would let it shed groups that are meant to keep it out of files (CVE-2014-8989). One line that maps the caller's
 * own id is all that needs no right. */
void user_namespace_map(uid_t uid, gid_t gid, uid_t outside, gid_t outside_group)
{
    char line[64];

    write_map("setgroups", "deny");
    snprintf(line, sizeof line, "%u %u 1", (unsigned)uid, (unsigned)outside);
    write_map("uid_map", line);
    snprintf(line, sizeof line, "%u %u 1", (unsigned)gid, (unsigned)outside_group);
    write_map("gid_map", line);
    privilege_mapped(uid);
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
    user_namespace_map((uid_t)(request->user_uid - 1), (gid_t)(request->user_gid - 1), caller->uid, caller->gid);
    privilege_forget(caller);
    if (wish != 0 && (prctl(PR_SET_PDEATHSIG, wish) < 0 || getppid() != parent)) /* perform_follow()'s, lost with the ids */
        _exit(EXIT_OWN_FAILURE);
}
