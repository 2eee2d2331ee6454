/* Mounts by descriptor: fsopen, fsmount, open_tree, move_mount (Linux 5.2), mount_setattr (5.12), and mount(2) before them. Each
 * privileged call stands in a bracket of its own; no path of a user reaches the kernel here. */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "../message.h"

/* mount(2) flags, from <sys/mount.h>, which does not go with <linux/mount.h>. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
enum { UNMOUNT_DETACH = 2, FILE_PATH = 64 };

/* ---- privileged calls that are made in more than one place ---- */

static int privileged_move_mount(int tree, int target)
{
    return PRIVILEGE_RAISED("move_mount", PRIVILEGE_MOUNT,
                            syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}

static int privileged_fsconfig(const struct new_filesystem *filesystem, int fd, unsigned command, const char *key,
                               const char *value, int number)
{
    return PRIVILEGE_RAISED("fsconfig", filesystem->privilege, syscall(SYS_fsconfig, fd, command, key, value, number));
}

static int privileged_mount(const char *source, const char *target, const char *type, unsigned long flags,
                            const char *data, enum privilege privilege)
{
    return PRIVILEGE_RAISED("mount", privilege, mount(source, target, type, flags, data));
}

/* ---- kernels without the descriptor calls ---- */

/* mount(2) takes only text. This text leads by way of /proc to the descriptor and to nothing else: proc_open() has
 * made sure that /proc is the kernel's. */
static const char *file_path(char path[FILE_PATH], int fd)
{
    snprintf(path, FILE_PATH, "/proc/self/fd/%d", fd);
    return path;
}

/* These are the same numbers for both kinds of calls. */
enum { BOTH_FLAGS = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
_Static_assert(MOUNT_ATTR_RDONLY == MS_RDONLY && MOUNT_ATTR_NOSUID == MS_NOSUID && MOUNT_ATTR_NODEV == MS_NODEV &&
                   MOUNT_ATTR_NOEXEC == MS_NOEXEC && ST_RDONLY == MS_RDONLY && ST_NOSUID == MS_NOSUID && ST_NODEV == MS_NODEV &&
                   ST_NOEXEC == MS_NOEXEC && ST_NOATIME == MS_NOATIME && ST_NODIRATIME == MS_NODIRATIME,
               "the flags of mounts");

/* A mount point in the session directory for one tree at a time. */
static const char *stage_name(const struct session *session, bool directory)
{
    const char *name = directory ? "stage" : "stage-file";

    if (directory)
        (void)mkdirat(session->fd, name, 0700);
    else {
        OWNED_FD file = openat(session->fd, name, O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    }
    return name;
}

/* Older kernels have no detached mounts whose flags could change, so the tree is mounted in the session directory,
 * changed there, and moved to its place (MS_MOVE). The session is in a private mount namespace: the moment before the
 * change is nobody's to use (R-M3). */
static int staged(const struct session *session, bool directory, const struct new_filesystem *filesystem, unsigned long flags)
{
    const char *stage = stage_name(session, directory);

    if (fchdir(session->fd) < 0 || privileged_mount(filesystem->source, stage, filesystem->type, flags, filesystem->options,
                                                    filesystem->privilege) < 0)
        return -1;
    return openat(session->fd, stage, O_PATH | O_CLOEXEC);
}

/* Flags that the mount has stay: in a user namespace the kernel refuses a remount that would clear them (mount_namespaces(7)). */
static int remount(int tree, uint64_t attributes)
{
    char path[FILE_PATH];
    struct statvfs status;

    if (fstatvfs(tree, &status) < 0)
        return -1;
    unsigned long flags = (status.f_flag & (BOTH_FLAGS | ST_NOATIME | ST_NODIRATIME)) | (status.f_flag & ST_RELATIME ? MS_RELATIME : 0);
    return privileged_mount(NULL, file_path(path, tree), NULL, MS_REMOUNT | MS_BIND | flags | (attributes & BOTH_FLAGS), NULL,
                            PRIVILEGE_MOUNT);
}

/* Every mount below the tree's root too. mount(2) changes one mount a call, and what is mounted below would keep its
 * setuid files. A mount that has gone meanwhile is none that could do harm. mountinfo only names what to change here;
 * no right is given by what it says (R-M10). */
static int remount_all(int tree, uint64_t attributes)
{
    char base[PATH_MAX], line[3 * PATH_MAX], path[PATH_MAX];
    OWNED_FD info = openat(proc_fd(), "self/mountinfo", O_RDONLY | O_CLOEXEC);
    int result = remount(tree, attributes);
    FILE *stream = info >= 0 && descriptor_path(tree, base, sizeof base) ? fdopen(fd_give(&info), "r") : NULL;

    if (stream == NULL)
        return result;
    while (result == 0 && fgets(line, sizeof line, stream) != NULL) {
        if (sscanf(line, "%*s %*s %*s %*s %4095s", path) != 1)
            continue;
        mountinfo_unescape(path);
        if (strncmp(path, base, strlen(base)) != 0 || path[strlen(base)] != '/')
            continue;
        OWNED_FD below = inside_open(tree, path + strlen(base), O_PATH);
        if (below >= 0)
            result = remount(below, attributes);
    }
    fclose(stream);
    return result;
}

/* ---- the calls of the header ---- */

/* Both calls with arguments that can do nothing: any other errno than ENOSYS says that the kernel knows them. */
void session_begin(struct session *session)
{
    session->fd = -1;
    session->staged = (syscall(SYS_mount_setattr, -1, "", 0, NULL, 0) < 0 && errno == ENOSYS) ||
                      (syscall(SYS_open_tree, -1, "", 0) < 0 && errno == ENOSYS);
}

int session_entry(const struct session *session, const char *path, bool directory, int flags)
{
    if (inside_make(session->fd, path, directory, 0755) < 0 && errno != EEXIST)
        stop(errno, "make %s in the session directory (larger \"sessiondir max size\"?)", path);
    int fd = inside_open(session->fd, path, flags);
    if (fd < 0)
        stop(errno, "session directory: %s", path);
    return fd;
}

int mount_clone(const struct session *session, int source, bool directory)
{
    char path[FILE_PATH];

    if (session->staged)
        return staged(session, directory, &(struct new_filesystem){.source = file_path(path, source), .privilege = PRIVILEGE_MOUNT},
                      MS_BIND | MS_REC);
    return mount_take(source);
}

/* AT_RECURSIVE: what is mounted below comes along; a user namespace may not look under mounts that it has inherited,
 * so the kernel refuses to copy the top one alone (mount_namespaces(7)). */
int mount_take(int source)
{
    return PRIVILEGE_RAISED("open_tree", PRIVILEGE_MOUNT,
                            syscall(SYS_open_tree, source, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE));
}

/* The layers of an overlay as descriptors; false: this kernel goes by text. Overlayfs takes descriptors from Linux
 * 6.13 on, and O_PATH ones, as ours are, from 6.15 on (6.14.2, 6.13.11). The text is ours and holds nothing but
 * numbers: /proc is the mount that proc_open() has judged, in a mount namespace that nobody else can change, and its
 * links to open files lead to these very directories (R-M11). */
static bool configure_descriptors(const struct new_filesystem *filesystem, int fd, const char *key, const char *value)
{
    const char *one = strcmp(key, "lowerdir") == 0 ? "lowerdir+" : key;

    for (; value != NULL; value = strchr(value + 1, ':'))
        if (strncmp(value + 1, MOUNT_DESCRIPTOR, strlen(MOUNT_DESCRIPTOR)) != 0 ||
            privileged_fsconfig(filesystem, fd, FSCONFIG_SET_FD, one, NULL, atoi(value + 1 + strlen(MOUNT_DESCRIPTOR))) < 0)
            return false;
    return true;
}

/* FSCONFIG_CMD_CREATE last: the kernel collects parameters until then, and only then opens the device and reads a
 * byte of it. */
static int configure(const struct new_filesystem *filesystem, int fd)
{
    char key[64], value[4096];
    const char *option = filesystem->options;

    if (filesystem->source != NULL &&
        privileged_fsconfig(filesystem, fd, FSCONFIG_SET_STRING, "source", filesystem->source, 0) < 0)
        return -1;
    while (*option != '\0') {
        size_t length = strcspn(option, ","), name = strcspn(option, ",=");
        if (name >= sizeof key || length - name >= sizeof value) {
            errno = ENAMETOOLONG;
            return -1;
        }
        snprintf(key, sizeof key, "%.*s", (int)name, option);
        snprintf(value, sizeof value, "%.*s", (int)(length - name), option + name);
        if ((*value == '\0' || !configure_descriptors(filesystem, fd, key, value)) &&
            privileged_fsconfig(filesystem, fd, *value != '\0' ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key,
                                *value != '\0' ? value + 1 : NULL, 0) < 0)
            return -1;
        option += length + (option[length] == ',' ? 1 : 0);
    }
    return privileged_fsconfig(filesystem, fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}

int mount_new(const struct session *session, const struct new_filesystem *filesystem)
{
    OWNED_FD fd = PRIVILEGE_RAISED("fsopen", filesystem->privilege, syscall(SYS_fsopen, filesystem->type, FSOPEN_CLOEXEC));

    if (fd < 0 && errno == ENOSYS && session->fd >= 0)
        return staged(session, true, filesystem, filesystem->attributes & BOTH_FLAGS);
    if (fd < 0 || configure(filesystem, fd) < 0)
        return -1;
    return PRIVILEGE_RAISED("fsmount", PRIVILEGE_MOUNT, syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, filesystem->attributes));
}

int mount_first(int place, const struct new_filesystem *filesystem)
{
    char path[PATH_MAX], target[FILE_PATH];

    if (privileged_mount(filesystem->source, file_path(target, place), filesystem->type, filesystem->attributes & BOTH_FLAGS,
                         filesystem->options, filesystem->privilege) < 0 ||
        !descriptor_path(place, path, sizeof path))
        return -1;
    return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* mount_setattr(2) on a tree that is attached nowhere yet: with nosuid and nodev before anybody can reach it. The one
 * call mount(MS_BIND | MS_NOSUID) would ignore them, as mount(2) says; that was the hole of the family's version 2.2
 * (R-M1). */
int mount_restrict(int tree, uint64_t attributes)
{
    struct mount_attr change = {.attr_set = attributes};
    int result = PRIVILEGE_RAISED("mount_setattr", PRIVILEGE_MOUNT,
                                  syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &change, sizeof change));

    if (result < 0 && errno == ENOSYS)
        return remount_all(tree, attributes);
    return result;
}

int mount_attach(int tree, int target)
{
    char source[FILE_PATH], place[FILE_PATH];
    int result = privileged_move_mount(tree, target);

    if (result < 0 && errno == ENOSYS)
        return privileged_mount(file_path(source, tree), file_path(place, target), NULL, MS_MOVE, NULL, PRIVILEGE_MOUNT);
    return result;
}

/* Before the first mount (R-M3). MS_SLAVE: later mounts of the host, an automounter's for example, still arrive;
 * nothing goes back either way. */
int mount_propagation(bool slave)
{
    return privileged_mount(NULL, "/", NULL, MS_REC | (slave ? MS_SLAVE : MS_PRIVATE), NULL, PRIVILEGE_MOUNT);
}

/* Where "/" is no mount of its own (a node that runs from its initramfs, a chroot): the tree moves over it instead, and
 * what it hides can be reached by nobody without the right to unmount. */
static int move_over_root(int root, int old)
{
    if (privileged_move_mount(root, old) < 0 || fchdir(root) < 0)
        return -1;
    return PRIVILEGE_RAISED("chroot", PRIVILEGE_MOUNT, chroot("."));
}

/* pivot_root(2) and not chroot(2) alone: with the old root detached there is no directory left that "..", a kept
 * descriptor or a second chroot could lead back to (R-M8). It refuses with EINVAL where the current root is no mount
 * or the initial ramfs. */
int mount_pivot(int root)
{
    OWNED_FD old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int detached = 0;

    if (old < 0 || fchdir(root) < 0)
        return -1;
    if (PRIVILEGE_RAISED("pivot_root", PRIVILEGE_MOUNT, syscall(SYS_pivot_root, ".", ".")) < 0)
        return errno == EINVAL ? move_over_root(root, old) : -1;
    if (fchdir(old) < 0)
        return -1;
    /* pivot_root(".", ".") stacks the old root on the new one (pivot_root(2)), and the session directory may be mounted on that:
     * unmount until EINVAL says that the new root is reached */
    while (PRIVILEGE_RAISED("umount", PRIVILEGE_MOUNT, umount2(".", UNMOUNT_DETACH)) == 0)
        detached++;
    return detached > 0 && errno == EINVAL ? fchdir(root) : -1;
}
