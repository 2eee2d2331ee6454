/* Paths inside the container: resolved beneath an open root, without privilege. */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "descriptor.h"
#include "message.h"

enum { LINKS_LIMIT = 64, DIRECTORIES_LIMIT = 512 };

static int proc = -1;

/* Once, at the start, before any mount of a launch: a /proc that somebody has bound there could show files of his own
 * as "self/fd" (R-L9). */
void proc_open(void)
{
    struct statfs status;

    proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (proc < 0 || fstatfs(proc, &status) < 0 || status.f_type != PROC_SUPER_MAGIC)
        stop(proc < 0 ? errno : 0, "/proc is not the kernel's process file system");
}

int proc_fd(void)
{
    return proc;
}

void proc_forget(void)
{
    proc = -1;
}

/* What the kernel calls an open file (proc_pid_fd(5)). Of a deleted one the text ends in " (deleted)": it is for
 * messages, and for comparison with what is found by it, and proves nothing. */
bool descriptor_path(int fd, char *path, size_t size)
{
    char name[32];

    snprintf(name, sizeof name, "self/fd/%d", fd);
    ssize_t length = readlinkat(proc, name, path, size);
    if (length <= 0 || (size_t)length >= size || path[0] != '/')
        return false;
    path[length] = '\0';
    return true;
}

/* The kernel writes blank, tab, newline and backslash as three octal digits (proc_pid_mountinfo(5)). */
void mountinfo_unescape(char *text)
{
    char *out = text;

    for (; *text != '\0'; text++)
        if (text[0] == '\\' && strspn(text + 1, "01234567") >= 3) {
            *out++ = (char)(((text[1] - '0') << 6) + ((text[2] - '0') << 3) + (text[3] - '0'));
            text += 3;
        } else {
            *out++ = *text;
        }
    *out = '\0';
}

const char *path_last(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

int directory_beneath(int directory, const char *name)
{
    return openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* ---- component by component: without openat2, and where something is missing ---- */

/* The directories walked through, so that ".." never leads above the root. As many directories as a path of PATH_MAX
 * could name is more than a launch should hold open: 512 deep is far beyond any image. 64 links, where the kernel
 * allows 40 (path_resolution(7)). */
struct walk {
    int root;
    int directories[DIRECTORIES_LIMIT];
    int depth;
    int links;
    char rest[2 * PATH_MAX];
};

static int walk_top(const struct walk *walk)
{
    return walk->depth > 0 ? walk->directories[walk->depth - 1] : walk->root;
}

static void walk_up(struct walk *walk, int depth)
{
    while (walk->depth > depth)
        close(walk->directories[--walk->depth]);
}

/* The text of a link takes the place of its name. An absolute link starts again at the container's root, not at the
 * host's: that is what RESOLVE_IN_ROOT does (openat2(2)), and what keeps "/etc -> /host" inside (R-M4). */
static bool walk_link(struct walk *walk, const char *name, const char *rest)
{
    char text[PATH_MAX], joined[2 * PATH_MAX];
    ssize_t length = readlinkat(walk_top(walk), name, text, sizeof text - 1);

    if (length < 0)
        return false;
    text[length] = '\0';
    int size = snprintf(joined, sizeof joined, "%s%s", text, rest);
    if (++walk->links > LINKS_LIMIT || size < 0 || (size_t)size >= sizeof joined) {
        errno = ELOOP;
        return false;
    }
    memcpy(walk->rest, joined, (size_t)size + 1);
    if (text[0] == '/')
        walk_up(walk, 0);
    return true;
}

/* Into a directory, which stays open. */
static bool walk_down(struct walk *walk, const char *name)
{
    int next = directory_beneath(walk_top(walk), name);

    if (next >= 0 && walk->depth == DIRECTORIES_LIMIT) {
        close(next);
        errno = ENAMETOOLONG;
        return false;
    }
    if (next >= 0)
        walk->directories[walk->depth++] = next;
    return next >= 0;
}

/* Takes the next component; 1: more to come, 0: `*result` is open, -1: errno, and `rest` begins with that component.
 * Looked at without following, then opened with O_NOFOLLOW: if a link takes its place between the two, the open fails
 * and nothing is followed (CVE-2018-15664 was that race). ".." goes back to the directory that was walked through,
 * which is open already, so that a directory moved meanwhile cannot lead above the root. */
static int walk_step(struct walk *walk, int flags, int *result)
{
    char name[NAME_MAX + 1];
    const char *start = walk->rest + strspn(walk->rest, "/"), *rest = start + strcspn(start, "/");
    size_t length = (size_t)(rest - start);
    bool last = rest[strspn(rest, "/")] == '\0', up = length == 2 && strncmp(start, "..", length) == 0;
    struct stat status = {0};

    if (length > NAME_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(name, length == 0 ? "." : start, length == 0 ? 1 : length);
    name[length == 0 ? 1 : length] = '\0';
    if (!up && fstatat(walk_top(walk), name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (!up && S_ISLNK(status.st_mode) && !(last && (flags & O_NOFOLLOW)))
        return walk_link(walk, name, rest) ? 1 : -1;
    if (length == 0 || (!up && last && !S_ISDIR(status.st_mode))) {
        *result = openat(walk_top(walk), name, flags | O_CLOEXEC | (length == 0 ? 0 : O_NOFOLLOW));
        return *result < 0 ? -1 : 0;
    }
    if (up)
        walk_up(walk, walk->depth > 0 ? walk->depth - 1 : 0);
    else if (strcmp(name, ".") != 0 && !walk_down(walk, name))
        return -1;
    memmove(walk->rest, rest, strlen(rest) + 1);
    return 1;
}

/* The whole path; -1: errno, and the walk stands where it could not go on. */
static int walk_path(struct walk *walk, const char *path, int flags)
{
    int result = -1, more = 1;

    if (strlen(path) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(walk->rest, path, strlen(path) + 1);
    while (more == 1)
        more = walk_step(walk, flags, &result);
    return more == 0 ? result : -1;
}

static int walk_open(int root, const char *path, int flags)
{
    struct walk walk = {.root = root};
    int result = walk_path(&walk, path, flags), number = errno;

    walk_up(&walk, 0);
    errno = number;
    return result;
}

/* EAGAIN: a rename somewhere else while ".." was resolved, so the kernel could not be sure that the root was not
 * left; it may succeed the next time (openat2(2)). EPERM comes from seccomp filters that do not know the call and say
 * so wrongly. */
static int resolve(int root, const char *path, int flags, uint64_t resolution)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)flags | O_CLOEXEC, .resolve = resolution | RESOLVE_NO_MAGICLINKS};
    long fd;

    do
        fd = syscall(SYS_openat2, root, path, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
        return (int)fd;
    /* old kernels, and filters written for them */
    OWNED_FD top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return walk_open(root >= 0 ? root : top, path, flags);
}

int inside_open(int root, const char *path, int flags)
{
    return resolve(root, *path != '\0' ? path : ".", flags, RESOLVE_IN_ROOT);
}

int host_open(const char *path, int flags)
{
    if (*path == '/')
        return resolve(AT_FDCWD, path, flags, 0);
    errno = ENOENT;
    return -1;
}

/* The last component is for mkdirat(2) and the like, which do not follow it. */
int inside_parent(int root, const char *path, const char **name)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int length = snprintf(directory, sizeof directory, "%.*s", slash != NULL ? (int)(slash - path) : 0, path);

    if (length < 0 || (size_t)length >= sizeof directory) {
        errno = ENAMETOOLONG;
        return -1;
    }
    *name = slash != NULL ? slash + 1 : path;
    return inside_open(root, directory, O_PATH | O_DIRECTORY);
}

/* O_EXCL with O_CREAT: a file or link that is there already is never opened for writing. */
static int make_entry(int root, const char *path, bool directory, mode_t mode)
{
    const char *name;
    OWNED_FD parent = inside_parent(root, path, &name);

    if (parent < 0 || directory)
        return parent < 0 ? -1 : mkdirat(parent, name, mode);
    OWNED_FD file = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
    return file < 0 ? -1 : 0;
}

/* Part by part, each looked up from the root again: a directory that was just made may have been moved (R-M5). */
int inside_make(int root, const char *path, bool directory, mode_t mode)
{
    char part[PATH_MAX];
    size_t length = strlen(path);

    if (length >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (size_t end = 1; end < length; end++) {
        if (path[end] != '/' || path[end - 1] == '/')
            continue;
        memcpy(part, path, end);
        part[end] = '\0';
        OWNED_FD there = inside_open(root, part, O_PATH | O_DIRECTORY);
        if (there < 0 && (errno != ENOENT || make_entry(root, part, true, 0755) < 0))
            return -1;
    }
    return make_entry(root, path, directory, mode);
}

/* ---- where a missing path would be ---- */

/* "..", once something is missing, cannot be told: what it would lead to does not exist. */
bool inside_missing(int root, const char *path, struct missing *missing)
{
    char base[PATH_MAX], here[PATH_MAX];
    struct walk walk = {.root = root};
    OWNED_FD there = walk_path(&walk, path, O_PATH);
    bool absent = there < 0 && (errno == ENOENT || errno == ENOTDIR);
    const char *rest = walk.rest + strspn(walk.rest, "/");
    bool known = absent && descriptor_path(walk_top(&walk), here, sizeof here) && descriptor_path(root, base, sizeof base);
    size_t length = known && strcmp(base, "/") != 0 ? strlen(base) : 0;

    walk_up(&walk, 0);
    if (!known || strncmp(here, base, length) != 0 || strlen(rest) >= sizeof missing->rest || strstr(rest, "..") != NULL)
        return false;
    snprintf(missing->parent, sizeof missing->parent, "%s", here[length] != '\0' ? here + length : "/");
    memcpy(missing->rest, rest, strlen(rest) + 1);
    return true;
}
