/* The answers to calls that are handed over. What would have succeeded is left to the kernel, and so is whatever is not understood:
 * nothing here decides about rights. */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../descriptor.h"

enum { SAME = -1 };

/* ---- owners ---- */

static int64_t id_of(const struct rule *rule, uint64_t argument)
{
    uint32_t id = rule->narrow ? (uint16_t)argument : (uint32_t)argument;

    return id == (rule->narrow ? UINT16_MAX : UINT32_MAX) ? SAME : (int64_t)id;
}

/* What this file system cannot hold is done all the same, and forgotten. */
static int remember(int fd, const struct mark *mark)
{
    int number = mark_write(fd, mark);

    return number == EOPNOTSUPP || number == EPERM || number == EACCES || number == EINVAL ? 0 : -number;
}

/* chown(2) with neither id is the kernel's part of it: it takes setuid bits and capabilities from a file, sets its time of change, and
 * refuses what is read-only. */
static int give(const struct asker *asker, const struct rule *rule, int fd, uint64_t user, uint64_t group)
{
    int64_t uid = id_of(rule, user), gid = id_of(rule, group);
    struct stat status;
    struct mark mark;

    if (fd < 0 || !asker_waits(asker) || fstat(fd, &status) < 0)
        return ANSWER_PROCEED;
    bool marked = mark_read(fd, &mark);
    mark.uid = uid == SAME ? mark.uid : (uint32_t)uid;
    mark.gid = gid == SAME ? mark.gid : (uint32_t)gid;
    if (uid <= 0 && gid <= 0) { /* no id but root's is asked for */
        if (marked)
            (void)mark_write(fd, &mark);
        return ANSWER_PROCEED;
    }
    if (fchownat(fd, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
        return 0; /* links and pipes have no such attributes */
    return remember(fd, &mark);
}

static int answer_fchown(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    OWNED_FD fd = asker_descriptor(asker, (int)arguments[0]);

    return give(asker, rule, fd, arguments[1], arguments[2]);
}

/* The path in the asker's memory: what it leads to, or with `flags` AT_EMPTY_PATH and none, the descriptor itself. */
static int open_named(struct asker *asker, int directory, uint64_t address, int flags)
{
    char path[PATH_MAX] = "";

    if (!(address == 0 && (flags & AT_EMPTY_PATH)) && !asker_text(asker, address, path))
        return -1;
    if (*path == '\0')
        return flags & AT_EMPTY_PATH && directory != AT_FDCWD ? asker_descriptor(asker, directory) : -1;
    return asker_open(asker, directory, path, flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0);
}

static int answer_chown(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    OWNED_FD fd = open_named(asker, AT_FDCWD, arguments[0], rule->call == CALL_LCHOWN ? AT_SYMLINK_NOFOLLOW : 0);

    return give(asker, rule, fd, arguments[1], arguments[2]);
}

static int answer_fchownat(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    OWNED_FD fd = open_named(asker, (int)arguments[0], arguments[1], (int)arguments[4]);

    return give(asker, rule, fd, arguments[2], arguments[3]);
}

/* ---- devices ---- */

/* An empty file stands for the device. Made by this process, which stands in the same restrictions as who asks. */
static int make_device(struct asker *asker, int directory, char *path, mode_t mode, const struct mark *mark)
{
    char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;

    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return ANSWER_PROCEED;
    if (slash == path)
        directory = AT_FDCWD;
    else if (slash != NULL)
        *slash = '\0';
    OWNED_FD parent = asker_open(asker, directory, slash == path ? "/" : slash != NULL ? path : ".", O_DIRECTORY);
    if (parent < 0 || !asker_waits(asker))
        return ANSWER_PROCEED;
    if (mknodat(parent, name, S_IFREG | (mode & 07777 & ~asker_mask(asker)), 0) < 0)
        return -errno;
    OWNED_FD made = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return made < 0 ? -errno : remember(made, mark);
}

/* The mark of an overlay that hides a file, a device of numbers 0 and 0, is for everybody to make (Linux 5.8). Numbers come in the
 * kernel's coding, in which 32 bits hold both (new_encode_dev()). */
static int answer_mknod(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    bool at = rule->call == CALL_MKNODAT;
    const uint64_t *rest = arguments + (at ? 1 : 0);
    mode_t mode = (mode_t)rest[1], kind = mode & S_IFMT;
    uint32_t device = (uint32_t)rest[2];
    const struct mark mark = {.device = kind, .major = (device & 0xfff00) >> 8, .minor = (device & 0xff) | ((device >> 12) & 0xfff00)};
    char path[PATH_MAX];

    if ((kind != S_IFCHR && kind != S_IFBLK) || device == 0 || !asker_text(asker, rest[0], path))
        return ANSWER_PROCEED;
    return make_device(asker, at ? (int)arguments[0] : AT_FDCWD, path, mode, &mark);
}

/* ---- attributes ---- */

/* Those of security modules, and of the machine's root. Capabilities of files root of a user namespace may set (Linux 4.14). */
static int answer_xattr(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    char name[PATH_MAX];

    (void)rule;
    if (!asker_text(asker, arguments[1], name))
        return ANSWER_PROCEED;
    bool theirs = strncmp(name, "trusted.", 8) == 0 || strncmp(name, "security.", 9) == 0;
    return theirs && strcmp(name, "security.capability") != 0 ? 0 : ANSWER_PROCEED;
}

/* ---- stat(2) ---- */

/* The kernel's structure: on both machines that of the C libraries. */
static int answer_marked(struct asker *asker, int fd, uint64_t to)
{
    struct mark mark;
    struct stat status;

    if (fd < 0 || !mark_read(fd, &mark) || syscall(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH) < 0)
        return ANSWER_PROCEED;
    status.st_uid = mark.uid;
    status.st_gid = mark.gid;
    if (mark.device != 0) {
        status.st_mode = (status.st_mode & 07777) | mark.device;
        status.st_rdev = makedev(mark.major, mark.minor);
    }
    return asker_write(asker, to, &status, sizeof status) ? 0 : ANSWER_PROCEED;
}

static int answer_stat(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    OWNED_FD fd = rule->call == CALL_FSTAT ? asker_descriptor(asker, (int)arguments[0])
                                           : open_named(asker, AT_FDCWD, arguments[0], rule->call == CALL_LSTAT ? AT_SYMLINK_NOFOLLOW : 0);

    return answer_marked(asker, fd, arguments[1]);
}

static int answer_fstatat(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    OWNED_FD fd = open_named(asker, (int)arguments[0], arguments[1], (int)arguments[3]);

    (void)rule;
    return answer_marked(asker, fd, arguments[2]);
}

/* struct statx (statx(2)), by its places: not every C library has it. */
enum { STATUS_SIZE = 256, UID_AT = 20, GID_AT = 24, MODE_AT = 28, MAJOR_AT = 128, MINOR_AT = 132 };

static int answer_statx(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    int flags = (int)arguments[2];
    OWNED_FD fd = open_named(asker, (int)arguments[0], arguments[1], flags);
    char status[STATUS_SIZE];
    struct mark mark;
    uint16_t mode;

    (void)rule;
    if (fd < 0 || !mark_read(fd, &mark) ||
        syscall(SYS_statx, fd, "", (flags & ~AT_SYMLINK_NOFOLLOW) | AT_EMPTY_PATH, (unsigned)arguments[3], status) < 0)
        return ANSWER_PROCEED;
    memcpy(status + UID_AT, &mark.uid, sizeof mark.uid);
    memcpy(status + GID_AT, &mark.gid, sizeof mark.gid);
    memcpy(&mode, status + MODE_AT, sizeof mode);
    mode = mark.device != 0 ? (uint16_t)((mode & 07777) | mark.device) : mode;
    memcpy(status + MODE_AT, &mode, sizeof mode);
    if (mark.device != 0) {
        memcpy(status + MAJOR_AT, &mark.major, sizeof mark.major);
        memcpy(status + MINOR_AT, &mark.minor, sizeof mark.minor);
    }
    return asker_write(asker, arguments[4], status, sizeof status) ? 0 : ANSWER_PROCEED;
}

/* ---- */

int answer(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    static int (*const answers[CALL_NONE])(struct asker *, const struct rule *, const uint64_t *) = {
        [CALL_CHOWN] = answer_chown,   [CALL_LCHOWN] = answer_chown, [CALL_FCHOWN] = answer_fchown,   [CALL_FCHOWNAT] = answer_fchownat,
        [CALL_MKNOD] = answer_mknod,   [CALL_MKNODAT] = answer_mknod, [CALL_XATTR] = answer_xattr,    [CALL_STAT] = answer_stat,
        [CALL_LSTAT] = answer_stat,    [CALL_FSTAT] = answer_stat,   [CALL_FSTATAT] = answer_fstatat, [CALL_STATX] = answer_statx,
        [CALL_SETUID] = identity_set,  [CALL_SETGID] = identity_set, [CALL_SETREUID] = identity_set,  [CALL_SETREGID] = identity_set,
        [CALL_SETRESUID] = identity_set, [CALL_SETRESGID] = identity_set, [CALL_SETGROUPS] = identity_set,
        [CALL_GETUID] = identity_get,  [CALL_GETEUID] = identity_get, [CALL_GETGID] = identity_get,   [CALL_GETEGID] = identity_get,
        [CALL_GETRESUID] = identity_get, [CALL_GETRESGID] = identity_get, [CALL_GETGROUPS] = identity_get,
    };

    return answers[rule->call] != NULL ? answers[rule->call](asker, rule, arguments) : ANSWER_PROCEED;
}
