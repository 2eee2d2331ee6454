/* What is made: devices, for which an empty file stands, and where there is one id files and directories that are not root's: of a process
 * that believes to be another user, or in a directory whose group all is for. Made by the process that answers, which stands in the same
 * restrictions as who asks, and the mark is that of what it has made. */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"

/* The directory in which `path` has its last name, which stays in `path`; -1: there is none, or it is no name for a new file. */
static int open_parent(struct asker *asker, int directory, char *path, const char **name)
{
    char *slash = strrchr(path, '/');

    *name = slash != NULL ? slash + 1 : path;
    if (**name == '\0' || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return -1;
    if (slash != NULL)
        *slash = '\0';
    OWNED_FD parent = asker_open(asker, directory, slash == path ? "/" : slash != NULL ? path : ".", O_DIRECTORY);
    return parent >= 0 && asker_waits(asker) ? fd_give(&parent) : -1;
}

/* Whose it is what is made in a directory, whose setgid bit gives it to its group; false: root's. */
static bool owner_in(const struct asker *asker, int directory, struct mark *mark)
{
    struct mark above;
    struct stat status;

    identity_owner(asker, mark);
    if (fstat(directory, &status) == 0 && status.st_mode & S_ISGID)
        mark->gid = mark_read(directory, &above) ? above.gid : asker->how.one_id ? 0 : status.st_gid;
    return mark->uid != 0 || mark->gid != 0;
}

/* A new file, and nothing that has been there: a negative errno. */
static int make_file(const struct asker *asker, int parent, const char *name, int flags, mode_t mode)
{
    int made = openat(parent, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 07777 & ~asker_mask(asker));

    return made >= 0 ? made : -errno;
}

/* The mark of an overlay that hides a file, a device of numbers 0 and 0, is for everybody to make (Linux 5.8). Numbers come in the
 * kernel's coding, in which 32 bits hold both (new_encode_dev()). */
int create_device(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    bool at = rule->call == CALL_MKNODAT;
    const uint64_t *rest = arguments + (at ? 1 : 0);
    mode_t mode = (mode_t)rest[1], kind = mode & S_IFMT;
    uint32_t device = (uint32_t)rest[2];
    struct mark mark = {.major = (device & 0xfff00) >> 8, .minor = (device & 0xff) | ((device >> 12) & 0xfff00)};
    char path[PATH_MAX];
    const char *name;

    if ((kind != S_IFCHR && kind != S_IFBLK) || device == 0 || !asker_may(asker, CAP_MKNOD) || !asker_text(asker, rest[0], path))
        return ANSWER_PROCEED;
    OWNED_FD parent = open_parent(asker, at ? (int)arguments[0] : AT_FDCWD, path, &name);
    if (parent < 0)
        return ANSWER_PROCEED;
    OWNED_FD made = make_file(asker, parent, name, O_WRONLY, mode);
    if (made < 0)
        return made;
    mark.device = kind;
    (void)owner_in(asker, parent, &mark);
    return mark_remember(made, &mark);
}

/* ---- files and directories ---- */

static bool read_open(struct asker *asker, enum call call, const uint64_t *arguments, struct open_how *how)
{
    *how = (struct open_how){.flags = O_CREAT | O_WRONLY | O_TRUNC, .mode = arguments[1]};
    if (call == CALL_OPENAT2)
        return asker_read(asker, arguments[2], how, sizeof *how) && how->resolve == 0;
    if (call == CALL_OPEN)
        *how = (struct open_how){.flags = (uint32_t)arguments[1], .mode = arguments[2]};
    else if (call == CALL_OPENAT)
        *how = (struct open_how){.flags = (uint32_t)arguments[2], .mode = arguments[3]};
    return true;
}

/* The descriptor of who asks (Linux 5.14): what he wants made he is not to find made already. */
static int hand_over(struct asker *asker, int made, uint64_t flags)
{
    struct seccomp_notif_addfd given = {.id = asker->id, .flags = 1U << 1 /* SECCOMP_ADDFD_FLAG_SEND */, .srcfd = (uint32_t)made,
                                        .newfd_flags = (uint32_t)(flags & O_CLOEXEC)};

    return syscall(SYS_ioctl, asker->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &given) >= 0 ? ANSWER_GIVEN : -errno;
}

/* What is there already the kernel opens. */
int create_file(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    bool at = rule->call == CALL_OPENAT || rule->call == CALL_OPENAT2;
    struct open_how how;
    struct mark mark = {.uid = 0};
    char path[PATH_MAX];
    const char *name;

    if (!read_open(asker, rule->call, arguments, &how) || !(how.flags & O_CREAT) || (how.flags & (O_DIRECTORY | O_PATH)) ||
        !asker_text(asker, arguments[at ? 1 : 0], path))
        return ANSWER_PROCEED;
    OWNED_FD parent = open_parent(asker, at ? (int)arguments[0] : AT_FDCWD, path, &name);
    OWNED_FD made = parent >= 0 && owner_in(asker, parent, &mark) ? make_file(asker, parent, name, (int)how.flags, (mode_t)how.mode) : -1;
    if (made < 0)
        return ANSWER_PROCEED;
    int result = mark_remember(made, &mark);
    if (result == 0)
        result = hand_over(asker, made, how.flags);
    if (result == ANSWER_GIVEN)
        return result;
    (void)unlinkat(parent, name, 0);
    return result == -EINVAL ? ANSWER_PROCEED : result;
}

int create_directory(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    bool at = rule->call == CALL_MKDIRAT;
    struct mark mark = {.uid = 0};
    char path[PATH_MAX];
    const char *name;

    if (!asker_text(asker, arguments[at ? 1 : 0], path))
        return ANSWER_PROCEED;
    for (size_t length = strlen(path); length > 1 && path[length - 1] == '/'; length--)
        path[length - 1] = '\0';
    OWNED_FD parent = open_parent(asker, at ? (int)arguments[0] : AT_FDCWD, path, &name);
    if (parent < 0 || !owner_in(asker, parent, &mark))
        return ANSWER_PROCEED;
    if (mkdirat(parent, name, (mode_t)arguments[at ? 2 : 1] & 07777 & ~asker_mask(asker)) < 0)
        return -errno;
    OWNED_FD made = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return made >= 0 ? mark_remember(made, &mark) : -errno;
}
