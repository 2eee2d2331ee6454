/* What a process that waits for its answer names: its memory, and what its paths lead to, looked at from the host with the caller's rights. */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "../descriptor.h"

enum { NAME_SIZE = 96, PAGE = 4096 };

/* ---- memory ---- */

bool look_memory(const struct caller_of *who, uint64_t from, void *bytes, size_t size)
{
    struct iovec here = {bytes, size}, there = {(void *)(uintptr_t)from, size};

    return process_vm_readv(who->process, &here, 1, &there, 1, 0) == (ssize_t)size;
}

/* Page by page: the text may end just before what cannot be read. */
bool look_text(const struct caller_of *who, uint64_t from, char text[static PATH_MAX])
{
    for (size_t used = 0; used < PATH_MAX;) {
        size_t part = PAGE - (size_t)((from + used) % PAGE);
        if (part > PATH_MAX - used)
            part = PATH_MAX - used;
        if (!look_memory(who, from + used, text + used, part))
            return false;
        if (memchr(text + used, '\0', part) != NULL)
            return true;
        used += part;
    }
    return false;
}

/* ---- paths ---- */

/* A link of /proc, as the container has the path: what is mounted in another mount namespace has its name there (proc(5)). */
static bool read_link(const char *name, char path[static PATH_MAX])
{
    ssize_t length = readlink(name, path, PATH_MAX - 1);

    if (length <= 0 || path[0] != '/')
        return false;
    path[length] = '\0';
    return true;
}

static bool begins(const char **path, const char *with)
{
    size_t length = strlen(with);

    if (strncmp(*path, with, length) != 0)
        return false;
    *path += length;
    return true;
}

/* What of /proc and /dev leads to what somebody has open, or is in: "fd/3" of a process. The rest of the path, which begins with "/" or is
 * "", goes on from there; NULL: it is no such link. */
static const char *rest_of_link(const char *path)
{
    bool numbered = begins(&path, "fd/");
    size_t digits = strspn(path, "0123456789");

    if (numbered ? digits == 0 : !begins(&path, "cwd") && !begins(&path, "root"))
        return NULL;
    path += numbered ? digits : 0;
    return *path == '/' || *path == '\0' ? path : NULL;
}

/* What of a path is below the directory of a process in /proc: the caller's, or that of `number`. NULL: nothing. */
static const char *behind_process(const char *path, int *number)
{
    *number = 0;
    if (strncmp(path, "/dev/fd/", strlen("/dev/fd/")) == 0)
        return path + strlen("/dev/");
    if (begins(&path, "/proc/self/") || begins(&path, "/proc/thread-self/"))
        return path;
    const char *rest = sscanf(path, "/proc/%d/", number) == 1 && *number > 0 ? strchr(path + strlen("/proc/"), '/') : NULL;
    return rest != NULL ? rest + 1 : NULL;
}

/* The same link as this process has it: the caller's own, or that of another one, which its /proc has by another number. */
static const char *own_link(const struct caller_of *who, const char *path, char link[static NAME_SIZE])
{
    static const char *const streams[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};
    int number;
    const char *from = behind_process(path, &number), *rest = from != NULL ? rest_of_link(from) : NULL;

    for (int i = 0; i < 3; i++)
        if (strcmp(path, streams[i]) == 0) {
            snprintf(link, NAME_SIZE, "/proc/%d/fd/%d", (int)who->process, i);
            return path + strlen(path);
        }
    if (rest != NULL && number > 0)
        snprintf(link, NAME_SIZE, "/proc/%d/root/proc/%d/%.*s", (int)who->process, number, (int)(rest - from), from);
    else if (rest != NULL)
        snprintf(link, NAME_SIZE, "/proc/%d/%.*s", (int)who->process, (int)(rest - from), from);
    return rest;
}

static void descriptor_link(const struct caller_of *who, int fd, char link[static NAME_SIZE])
{
    if (fd == AT_FDCWD)
        snprintf(link, NAME_SIZE, "/proc/%d/cwd", (int)who->process);
    else
        snprintf(link, NAME_SIZE, "/proc/%d/fd/%d", (int)who->process, fd);
}

static bool uninteresting(const char *path)
{
    static const char *const kernels[] = {"/proc/", "/sys/", "/dev/"};

    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
        if (strncmp(path, kernels[i], strlen(kernels[i])) == 0)
            return true;
    return false;
}

/* By the kernel's own walk, where ".." and links end at the root. Links of /proc to what a process has open lead to what we have open,
 * and are not followed. */
static int open_beneath(int root, const char *path, bool named)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC | (named ? O_NOFOLLOW : 0), .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd;

    do
        fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    while (fd < 0 && errno == EAGAIN);
    return fd;
}

/* struct statx (statx(2)): not every C library has it, and the kernel's header does not go with those that have. */
struct kernel_time {
    int64_t seconds;
    uint32_t nanoseconds, gap;
};
struct kernel_stat {
    uint32_t mask, block_size;
    uint64_t attributes;
    uint32_t links, uid, gid;
    uint16_t mode, gap;
    uint64_t inode, size, blocks, attributes_mask;
    struct kernel_time accessed, born, changed, modified;
    uint32_t special[2], device[2]; /* major, minor */
    uint64_t mount, more[13];
};
_Static_assert(offsetof(struct kernel_stat, mount) == 0x90 && sizeof(struct kernel_stat) == 256, "as the kernel has it");

/* The number of the mount, too: STATX_MNT_ID (Linux 5.8). */
static bool status_of(int fd, struct stat *status, uint64_t *mount)
{
    enum { BASIC = 0x7ff, MOUNT = 0x1000 };
    struct kernel_stat all;

    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, BASIC | MOUNT, &all) < 0 || !(all.mask & MOUNT))
        return false;
    *mount = all.mount;
    *status = (struct stat){.st_mode = all.mode, .st_nlink = all.links, .st_ino = all.inode, .st_size = (off_t)all.size,
                            .st_dev = makedev(all.device[0], all.device[1])};
    status->st_mtim.tv_sec = all.modified.seconds, status->st_mtim.tv_nsec = all.modified.nanoseconds;
    status->st_ctim.tv_sec = all.changed.seconds, status->st_ctim.tv_nsec = all.changed.nanoseconds;
    return true;
}

/* Which file of the host that is: the mount's, and below it the rest of the path. */
static bool name_host(const struct caller_of *who, int fd, struct place *place)
{
    char name[NAME_SIZE];
    uint64_t number;

    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (!status_of(fd, &place->status, &number) || place->status.st_nlink == 0) /* nothing has a name that is gone */
        return false;
    const struct mount_known *mount = mount_find(who->process, number);
    if (mount == NULL || !mount->outside) /* that is most of them */
        return mount != NULL;
    size_t length = strlen(mount->inside);
    const char *rest = place->inside + (length == 1 ? 0 : length); /* of "/" nothing is taken */
    if (!read_link(name, place->inside) || strncmp(place->inside, mount->inside, length) != 0 || (*rest != '/' && *rest != '\0'))
        return false;
    place->outside = (size_t)snprintf(place->host, PATH_MAX, "%s%s", strcmp(mount->host, "/") == 0 ? "" : mount->host, rest) < PATH_MAX;
    return true;
}

/* `name` in the directory that `place` is. */
static bool append(struct place *place, const char *name)
{
    size_t inside = strlen(place->inside), host = strlen(place->host);

    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    return (size_t)snprintf(place->inside + inside, PATH_MAX - inside, "/%s", name) < PATH_MAX - inside &&
           (!place->outside || (size_t)snprintf(place->host + host, PATH_MAX - host, "/%s", name) < PATH_MAX - host);
}

/* Of who asked last it stays open, until somebody gets another root directory (look_roots_changed()). */
static pid_t whose_root;
static int own_root = -1;
static ino_t own_mounts;

ino_t look_mounts(pid_t process)
{
    char name[NAME_SIZE];
    struct stat status;

    snprintf(name, sizeof name, "/proc/%d/ns/mnt", (int)process);
    return stat(name, &status) == 0 ? status.st_ino : 0;
}

static int root_of(const struct caller_of *who)
{
    char name[NAME_SIZE];

    if (whose_root != who->process || own_root < 0) {
        fd_close(&own_root);
        snprintf(name, sizeof name, "/proc/%d/root", (int)who->process);
        own_root = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        own_mounts = look_mounts(who->process);
        whose_root = who->process;
    }
    return own_root;
}

void look_roots_changed(void)
{
    fd_close(&own_root);
}

static void forget(struct place *place)
{
    fd_close(&place->fd);
    place->there = place->outside = false;
    place->host[0] = place->inside[0] = '\0';
}

/* Takes `fd`, which is what was asked for. */
static bool found(const struct caller_of *who, int fd, struct place *place)
{
    place->fd = fd;
    place->there = fd >= 0 && name_host(who, fd, place);
    return place->there;
}

static bool find_link(const struct caller_of *who, const char *link, struct place *place)
{
    return found(who, open(link, O_PATH | O_CLOEXEC), place);
}

bool look_descriptor(const struct caller_of *who, int fd, struct place *place)
{
    char link[NAME_SIZE];

    forget(place);
    descriptor_link(who, fd, link);
    return find_link(who, link, place);
}

/* Where the walk begins: the path from the root, and whether it is that of a directory that the caller has. */
static bool whole_path(const struct caller_of *who, int directory, const char *path, char whole[static PATH_MAX], char link[static NAME_SIZE])
{
    const char *rest = path;

    link[0] = '\0';
    if (path[0] != '/')
        descriptor_link(who, directory, link);
    else
        rest = own_link(who, path, link);
    if (rest == NULL || link[0] == '\0')
        return !uninteresting(path) && (size_t)snprintf(whole, PATH_MAX, "%s", path) < PATH_MAX;
    if (*rest == '\0')
        return whole[0] = '\0', true;
    char base[PATH_MAX];
    return read_link(link, base) && (size_t)snprintf(whole, PATH_MAX, "%s/%s", base, rest) < PATH_MAX && !uninteresting(whole);
}

bool look_place(const struct caller_of *who, int directory, const char *path, bool named, bool making, struct place *place)
{
    char whole[PATH_MAX], link[NAME_SIZE];

    forget(place);
    if (path[0] == '\0' || !whole_path(who, directory, path, whole, link))
        return false;
    if (whole[0] == '\0') /* what is open is meant, and not the link to it */
        return !named && find_link(who, link, place);
    int root = root_of(who);
    if (link[0] != '\0' && own_mounts == who->mounts) /* a directory's path is that from the namespace's root, whatever chroot(2) did */
        root = who->root;
    int fd = open_beneath(root, whole, named);
    if (fd >= 0)
        return found(who, fd, place);
    char *last = strrchr(whole, '/');
    if (!making || errno != ENOENT || last == NULL)
        return false;
    *last = '\0';
    OWNED_FD above = open_beneath(root, *whole != '\0' ? whole : "/", false);
    return above >= 0 && name_host(who, above, place) && append(place, last + 1);
}
