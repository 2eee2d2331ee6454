/* Whom the caller is shown as in a user namespace. Needs no privilege, and the setuid program has none of it. */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "../privilege.h"

/* ---- why there is none ---- */

/* A small file of the kernel's; "" where it is not there. */
static void read_setting(const char *name, char text[static 64])
{
    OWNED_FD file = openat(proc_fd(), name, O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, text, 63) : -1;

    text[length > 0 ? length : 0] = '\0';
}

/* In the words of namespaces/fakeroot.py. */
static const struct {
    const char *name;
    char forbids;
    const char *way_out;
} settings[] = {
    {"sys/user/max_user_namespaces", '0', "sysctl user.max_user_namespaces is 0: an administrator raises it"},
    {"sys/kernel/unprivileged_userns_clone", '0', "sysctl kernel.unprivileged_userns_clone is 0: an administrator sets it to 1"},
    {"sys/kernel/apparmor_restrict_unprivileged_userns", '1', "sysctl kernel.apparmor_restrict_unprivileged_userns is 1: an "
     "administrator sets it to 0, or installs an AppArmor profile that allows userns to singularity"},
};
enum { SETTING_APPARMOR = 2, SETTINGS };

static const char *obstacle(int number)
{
    char text[64] = "";

    for (size_t i = 0; i < SETTINGS; i++) {
        read_setting(settings[i].name, text);
        if (text[0] == settings[i].forbids && (text[1] == '\n' || text[1] == '\0'))
            return settings[i].way_out;
    }
    if (number == ENOSPC)
        return "sysctl user.max_user_namespaces is reached: an administrator raises it";
    return number == EPERM && prctl(PR_GET_SECCOMP) == 2 ? "a seccomp filter is in force, as in Docker's containers: start those with "
                                                           "--security-opt seccomp=unconfined"
                                                         : "";
}

/* Ubuntu makes the namespace, and moves the process into a profile without any capability: the first mount would fail. */
static void check_profile(void)
{
    char text[64];

    read_setting(settings[SETTING_APPARMOR].name, text);
    if (text[0] != settings[SETTING_APPARMOR].forbids)
        return;
    read_setting("self/attr/current", text);
    if (strncmp(text, "unprivileged_userns", strlen("unprivileged_userns")) == 0)
        stop(0, "a user namespace has no rights here (%s)", settings[SETTING_APPARMOR].way_out);
}

/* ---- the caller's own id ---- */

/* One write(2) of the whole text: the kernel takes a map once and in one piece (user_namespaces(7)). */
static void write_map(const char *name, const char *text)
{
    char path[32];

    snprintf(path, sizeof path, "self/%s", name);
    OWNED_FD file = openat(proc_fd(), path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text))
        stop(errno, "map the user into the namespace (%s)", name);
}

bool user_namespace_maps_one(void)
{
    char text[64];
    unsigned count, more;

    read_setting("self/uid_map", text);
    return sscanf(text, "%*u %*u %u %u", &count, &more) == 1 && count == 1;
}

/* "deny" first: without it the kernel takes no gid_map from an unprivileged process (Linux 3.19), since setgroups(2)
 * would let it shed groups that are meant to keep it out of files (CVE-2014-8989). One line that maps the caller's
 * own id is all that needs no right. */
static void user_namespace_map(uid_t uid, gid_t gid, uid_t outside, gid_t outside_group)
{
    char line[64];

    write_map("setgroups", "deny");
    snprintf(line, sizeof line, "%u %u 1", (unsigned)uid, (unsigned)outside);
    write_map("uid_map", line);
    snprintf(line, sizeof line, "%u %u 1", (unsigned)gid, (unsigned)outside_group);
    write_map("gid_map", line);
    privilege_mapped(uid);
}

/* ---- and those that the site gives him ---- */

/* Two processes that stay outside, a map each: only there may ids be mapped for us, by root of the namespace around or by programs that
 * are setuid and look whose the ids are (newuidmap(1)). Both at once, for most of the time is that of starting them. */
struct mappers {
    pid_t namespace; /* the process whose maps are written */
    pid_t children[2];
    int go[2];
    bool directly;
    unsigned own[2], first[2], size[2];
    char tools[2][64];
};

static const struct {
    const char *tool, *file, *list;
} maps[] = {{"newuidmap", "uid_map", "/etc/subuid"}, {"newgidmap", "gid_map", "/etc/subgid"}};
static const char purpose[] = "map the ids of the image to those given to you"; /* as Python says it */

static bool map_directly(const struct mappers *mappers, int which)
{
    char name[32], text[96];

    snprintf(name, sizeof name, "%d/%s", (int)mappers->namespace, maps[which].file);
    int length = snprintf(text, sizeof text, "0 %u 1\n1 %u %u\n", mappers->own[which], mappers->first[which], mappers->size[which]);
    OWNED_FD file = openat(proc_fd(), name, O_WRONLY | O_CLOEXEC);
    return file >= 0 && write(file, text, (size_t)length) == length;
}

/* Never by PATH. Before anything is mapped: one map without the other is of no use, and cannot be taken back. */
static bool tools_find(struct mappers *mappers)
{
    static const char *const directories[] = {"/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/usr/local/sbin"};

    for (int which = 0; which < 2; which++) {
        bool found = false;
        for (size_t i = 0; !found && i < sizeof directories / sizeof directories[0]; i++) {
            snprintf(mappers->tools[which], sizeof mappers->tools[which], "%s/%s", directories[i], maps[which].tool);
            found = access(mappers->tools[which], X_OK) == 0;
        }
        if (!found) {
            message_info("%s not found, needed to %s (install uidmap): only your own id is mapped, to root", maps[which].tool, purpose);
            return false;
        }
    }
    return true;
}

/* What it says is seen with --debug: our own line names it. */
static _Noreturn void map_by_tool(const struct mappers *mappers, int which)
{
    static char *const environment[] = {NULL};
    static char zero[] = "0", one[] = "1";
    char process[16], own[16], first[16], size[16];
    char *const words[] = {(char *)(uintptr_t)maps[which].tool, process, zero, own, one, one, first, size, NULL};

    snprintf(process, sizeof process, "%d", (int)mappers->namespace);
    snprintf(own, sizeof own, "%u", mappers->own[which]);
    snprintf(first, sizeof first, "%u", mappers->first[which]);
    snprintf(size, sizeof size, "%u", mappers->size[which]);
    OWNED_FD null = message_level_get() < LEVEL_DEBUG ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
    if (null >= 0)
        (void)dup2(null, STDERR_FILENO);
    execve(mappers->tools[which], words, environment);
    _exit(EXIT_OWN_FAILURE);
}

/* A byte is the word that the namespace is there; the end of the pipe, that there will be none. */
static pid_t mapper_start(const struct mappers *mappers, int which)
{
    char byte;
    pid_t child = fork();

    if (child != 0)
        return child;
    close(mappers->go[1]);
    if (read(mappers->go[0], &byte, 1) != 1)
        _exit(EXIT_OWN_FAILURE);
    if (!mappers->directly)
        map_by_tool(mappers, which);
    _exit(map_directly(mappers, which) ? 0 : EXIT_OWN_FAILURE);
}

static bool mappers_begin(struct mappers *mappers, const char *ranges, uid_t uid, gid_t gid, bool inner)
{
    *mappers = (struct mappers){.namespace = getpid(), .directly = geteuid() == 0, .own = {uid, gid}};
    if (sscanf(ranges, "%u %u %u %u", &mappers->first[0], &mappers->size[0], &mappers->first[1], &mappers->size[1]) != 4)
        return false;
    if (!mappers->directly && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
        message_info("no_new_privs is set, so newuidmap cannot %s: only your own id is mapped, to root", purpose);
        return false;
    }
    if (!mappers->directly && !tools_find(mappers))
        return false;
    if (inner) /* within a namespace that has them: each is itself */
        mappers->first[0] = mappers->first[1] = 1;
    if (pipe2(mappers->go, O_CLOEXEC) < 0)
        stop(errno, "%s", purpose);
    for (int i = 0; i < 2; i++)
        if ((mappers->children[i] = mapper_start(mappers, i)) < 0)
            stop(errno, "%s", purpose);
    close(mappers->go[0]);
    return true;
}

/* False: nothing is mapped. */
static bool mappers_map(struct mappers *mappers)
{
    int status[2] = {-1, -1};
    bool sent = write(mappers->go[1], "12", 2) == 2;

    close(mappers->go[1]);
    for (int i = 0; i < 2; i++)
        while (waitpid(mappers->children[i], &status[i], 0) < 0 && errno == EINTR)
            continue;
    if (sent && status[0] == 0 && status[1] == 0)
        return true;
    int failed = status[0] != 0 ? 0 : 1;
    if (status[0] == 0 || status[1] == 0)
        stop(0, "%s could not %s (see %s)", maps[failed].tool, purpose, maps[failed].list);
    message_warning("newuidmap could not %s: only your own id is mapped, to root", purpose);
    return false;
}

void user_namespace_enter(const struct plan *plan, uid_t uid, gid_t gid, int flags, const char *what, const char *hint)
{
    struct mappers mappers;
    bool inner = plan->kept_user > 0;
    bool more = plan->id_ranges != NULL && plan->root_mapped && mappers_begin(&mappers, plan->id_ranges, uid, gid, inner);

    if (PRIVILEGE_RAISED("unshare", PRIVILEGE_MOUNT, unshare(flags)) < 0) {
        int number = errno;
        const char *setting = obstacle(number);
        stop(number, "%s (%s)", what, *setting != '\0' ? setting : hint);
    }
    check_profile();
    if (more && mappers_map(&mappers))
        privilege_mapped(0);
    else
        user_namespace_map(plan->root_mapped ? 0 : uid, plan->root_mapped ? 0 : gid, uid, gid);
}

/* ---- a user of the image ---- */

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
