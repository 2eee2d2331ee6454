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

#include "../descriptor.h"
#include "../message.h"

enum { LINKS_LIMIT = 64, DIRECTORIES_LIMIT = 512 };

static int proc = -1;

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

void mountinfo_unescape(char *text)
{
    char *out = text;

    for (; *text != '\0'; text++) {
        unsigned value;
        if (text[0] == '\\' && sscanf(text + 1, "%3o", &value) == 1 && strspn(text + 1, "01234567") >= 3) {
            *out++ = (char)value;
            text += 3;
        } else {
            *out++ = *text;
        }
    }
    *out = '\0';
}

/* ---- without openat2: component by component ---- */

/* The directories walked through, so that ".." never leads above the root. */
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

static bool walk_link(struct walk *walk, const char *name, const char *rest)
{
    char text[PATH_MAX], joined[2 * PATH_MAX];
    ssize_t length = readlinkat(walk_top(walk), name, text, sizeof text - 1);

    if (length < 0)
        return false;
    text[length] = '\0';
    int size = snprintf(joined, sizeof joined, "%s/%s", text, rest);
    if (++walk->links > LINKS_LIMIT || size < 0 || (size_t)size >= sizeof joined) {
        errno = ELOOP;
        return false;
    }
    memcpy(walk->rest, joined, (size_t)size + 1);
    if (text[0] == '/')
        walk_up(walk, 0);
    return true;
}

/* Takes the next component; 1: more to come, 0: `*result` is open, -1: errno. */
static int walk_step(struct walk *walk, int flags, int *result)
{
    char name[NAME_MAX + 1], rest[2 * PATH_MAX];
    const char *start = walk->rest + strspn(walk->rest, "/");
    size_t length = strcspn(start, "/");
    struct stat status;

    if (length > NAME_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(name, start, length);
    name[length] = '\0';
    snprintf(rest, sizeof rest, "%s", start + length);
    if (length == 0) {
        *result = openat(walk_top(walk), ".", flags | O_CLOEXEC);
        return *result < 0 ? -1 : 0;
    }
    memcpy(walk->rest, rest, strlen(rest) + 1);
    if (strcmp(name, ".") == 0)
        return 1;
    if (strcmp(name, "..") == 0) {
        walk_up(walk, walk->depth > 0 ? walk->depth - 1 : 0);
        return 1;
    }
    bool last = rest[strspn(rest, "/")] == '\0';
    if (fstatat(walk_top(walk), name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (S_ISLNK(status.st_mode) && !(last && (flags & O_NOFOLLOW)))
        return walk_link(walk, name, rest) ? 1 : -1;
    if (last && !S_ISDIR(status.st_mode)) {
        *result = openat(walk_top(walk), name, flags | O_NOFOLLOW | O_CLOEXEC);
        return *result < 0 ? -1 : 0;
    }
    int next = openat(walk_top(walk), name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0)
        return -1;
    if (walk->depth == DIRECTORIES_LIMIT) {
        close(next);
        errno = ENAMETOOLONG;
        return -1;
    }
    walk->directories[walk->depth++] = next;
    return 1;
}

static int walk_open(int root, const char *path, int flags)
{
    struct walk walk = {.root = root};
    int result = -1, more = 1;

    if (strlen(path) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(walk.rest, path, strlen(path) + 1);
    while (more == 1)
        more = walk_step(&walk, flags, &result);
    int number = errno;
    walk_up(&walk, 0);
    errno = number;
    return more == 0 ? result : -1;
}

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
    return resolve(AT_FDCWD, path, flags, 0);
}

int directory_beneath(int directory, const char *name)
{
    return openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int inside_parent(int root, const char *path, const char **name)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash != NULL ? (size_t)(slash - path) : 0;

    if (length >= sizeof directory) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(directory, path, length);
    directory[length] = '\0';
    *name = slash != NULL ? slash + 1 : path;
    return inside_open(root, directory, O_PATH | O_DIRECTORY);
}

static int make_directory(int root, const char *path, mode_t mode)
{
    const char *name;
    OWNED_FD parent = inside_parent(root, path, &name);

    if (parent < 0)
        return -1;
    return mkdirat(parent, name, mode);
}

static int make_file(int root, const char *path)
{
    const char *name;
    OWNED_FD parent = inside_parent(root, path, &name);

    if (parent < 0)
        return -1;
    OWNED_FD file = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
    return file < 0 ? -1 : 0;
}

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
        if (there < 0 && (errno != ENOENT || make_directory(root, part, 0755) < 0))
            return -1;
    }
    return directory ? make_directory(root, path, mode) : make_file(root, path);
}

/* ---- where a missing path would be ---- */

/* The deepest existing directory of `path`; `*rest` then points at what is missing, "" when nothing is. */
static int deepest(int root, const char *path, const char **rest)
{
    char part[PATH_MAX];
    size_t end = strlen(path);

    while (end > 0) {
        memcpy(part, path, end);
        part[end] = '\0';
        int fd = inside_open(root, part, O_PATH | O_DIRECTORY);
        if (fd >= 0 || (errno != ENOENT && errno != ENOTDIR)) {
            *rest = path + end;
            return fd;
        }
        while (end > 0 && path[end - 1] != '/')
            end--;
        while (end > 0 && path[end - 1] == '/')
            end--;
    }
    *rest = path;
    return inside_open(root, "/", O_PATH | O_DIRECTORY);
}

/* A link that leads nowhere: the path it stands for. 1: `path` was rewritten, 0: no link, -1: cannot be told. */
static int follow_dangling(int directory, const char *parent, char *path, size_t size, const char *rest)
{
    char name[NAME_MAX + 1], text[PATH_MAX], joined[2 * PATH_MAX];
    size_t length = strcspn(rest, "/");

    if (length > NAME_MAX)
        return -1;
    memcpy(name, rest, length);
    name[length] = '\0';
    ssize_t read = readlinkat(directory, name, text, sizeof text - 1);
    if (read < 0)
        return 0;
    text[read] = '\0';
    int used = snprintf(joined, sizeof joined, "%s%s%s%s", text[0] == '/' ? "" : parent, text[0] == '/' ? "" : "/", text,
                        rest + length);
    if (used < 0 || (size_t)used >= size)
        return -1;
    memcpy(path, joined, (size_t)used + 1);
    return 1;
}

bool inside_missing(int root, const char *path, struct missing *missing)
{
    char asked[PATH_MAX], base[PATH_MAX], here[PATH_MAX];
    const char *rest;

    if (strlen(path) >= sizeof asked || !descriptor_path(root, base, sizeof base))
        return false;
    memcpy(asked, path, strlen(path) + 1);
    size_t base_length = strcmp(base, "/") == 0 ? 0 : strlen(base);
    for (int links = 0; links < LINKS_LIMIT; links++) {
        OWNED_FD directory = deepest(root, asked, &rest);
        if (directory < 0 || !descriptor_path(directory, here, sizeof here) || strncmp(here, base, base_length) != 0)
            return false;
        rest += strspn(rest, "/");
        const char *parent = here + base_length;
        snprintf(missing->parent, sizeof missing->parent, "%s", *parent != '\0' ? parent : "/");
        snprintf(missing->rest, sizeof missing->rest, "%s", rest);
        if (*rest == '\0')
            return true;
        int followed = follow_dangling(directory, missing->parent, asked, sizeof asked, rest);
        if (followed <= 0)
            return followed == 0 && strstr(rest, "..") == NULL;
    }
    return false;
}
