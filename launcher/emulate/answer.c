/* The answers to calls that are handed over. What would have succeeded is left to the kernel, and so is whatever is not understood:
 * nothing here decides about rights. */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../descriptor.h"

enum { SAME = -1, MAP_SIZE = 4096 };

/* ---- owners ---- */

static int64_t id_of(const struct rule *rule, uint64_t argument)
{
    uint32_t id = rule->narrow ? (uint16_t)argument : (uint32_t)argument;

    return id == (rule->narrow ? UINT16_MAX : UINT32_MAX) ? SAME : (int64_t)id;
}

/* Whether an id is one of this user namespace; SAME is. Lines of three numbers: the first here, the first outside, how many. */
static bool is_mapped(const char *map, int64_t id)
{
    char text[MAP_SIZE];
    unsigned first, count;
    int used = 0;
    OWNED_FD file = open(map, O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, text, sizeof text - 1) : -1;

    text[length > 0 ? length : 0] = '\0';
    for (const char *line = text; sscanf(line, "%u %*u %u\n%n", &first, &count, &used) == 2; line += used)
        if (id >= first && id - first < count)
            return true;
    return id <= 0;
}

/* chown(2) with neither id is the kernel's part of it: it takes setuid bits and capabilities from a file, sets its time of change, and
 * refuses what is read-only. With more ids it does all but for marked files, and owners that are none of them: those files are root's. */
static int give(const struct asker *asker, const struct rule *rule, int fd, uint64_t user, uint64_t group)
{
    int64_t uid = id_of(rule, user), gid = id_of(rule, group);
    bool one_id = asker->how.one_id;
    struct stat status;
    struct mark mark;

    if (fd < 0 || !asker_waits(asker) || fstat(fd, &status) < 0)
        return ANSWER_PROCEED;
    bool marked = mark_read(fd, &mark);
    if (!one_id && !marked && is_mapped("self/uid_map", uid) && is_mapped("self/gid_map", gid))
        return ANSWER_PROCEED;
    if (!asker_may(asker, CAP_CHOWN))
        return ANSWER_PROCEED;
    if (!one_id && !marked)
        mark.uid = status.st_uid, mark.gid = status.st_gid;
    mark.uid = uid == SAME ? mark.uid : (uint32_t)uid;
    mark.gid = gid == SAME ? mark.gid : (uint32_t)gid;
    if (uid <= 0 && gid <= 0) { /* no id but root's is asked for */
        if (marked)
            (void)mark_remember(fd, &mark);
        return ANSWER_PROCEED;
    }
    uid_t owner = one_id ? (uid_t)-1 : 0;
    if (fchownat(fd, "", owner, owner, AT_EMPTY_PATH) < 0)
        return -errno;
    if ((!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) || (one_id && status.st_uid != 0))
        return 0; /* links and pipes have no such attributes, and files of others none of ours */
    return mark_remember(fd, &mark);
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

/* ---- attributes ---- */

/* Those of security modules, and of the machine's root, are done and forgotten. Capabilities of files root of a user namespace may set
 * (Linux 4.14). So is the mark in a build, where an image or an archive may have one: it is for us alone to make. */
static int answer_xattr(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    char name[PATH_MAX];

    if (!asker_text(asker, arguments[rule->call == CALL_XATTRAT ? 3 : 1], name))
        return ANSWER_PROCEED;
    if (asker->how.status && strcmp(name, mark_name) == 0)
        return 0;
    bool theirs = strncmp(name, "trusted.", 8) == 0 || strncmp(name, "security.", 9) == 0;
    return theirs && strcmp(name, "security.capability") != 0 && asker_may(asker, CAP_SYS_ADMIN) ? 0 : ANSWER_PROCEED;
}

static int open_listed(struct asker *asker, enum call call, const uint64_t *arguments)
{
    if (call == CALL_FLISTXATTR)
        return asker_descriptor(asker, (int)arguments[0]);
    if (call == CALL_LISTXATTRAT)
        return open_named(asker, (int)arguments[0], arguments[1], (int)arguments[2]);
    return open_named(asker, AT_FDCWD, arguments[0], call == CALL_LLISTXATTR ? AT_SYMLINK_NOFOLLOW : 0);
}

/* In a build without the mark: what it says is seen by stat(2), and a copy that is given to the same owner gets its own. */
static int answer_list(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    const uint64_t *rest = arguments + (rule->call == CALL_LISTXATTRAT ? 3 : 1);
    OWNED_FD fd = open_listed(asker, rule->call, arguments);
    static char names[XATTR_LIST_MAX];
    struct mark mark;
    size_t size = 0;

    if (fd < 0 || !mark_read(fd, &mark) || !mark_hidden(fd, names, &size))
        return ANSWER_PROCEED;
    asker->value = (int64_t)size;
    if (rest[1] == 0)
        return 0;
    if (rest[1] < size)
        return -ERANGE;
    return asker_write(asker, rest[0], names, size) ? 0 : -EFAULT;
}

/* ---- stat(2) ---- */

/* Who could perhaps not have come to the file is shown what the kernel shows him. */
static bool shows(const struct asker *asker, int fd, struct mark *mark)
{
    return fd >= 0 && mark_read(fd, mark) && asker_may(asker, CAP_DAC_OVERRIDE);
}

/* The kernel's structure: on both machines that of the C libraries. */
static int answer_marked(struct asker *asker, int fd, uint64_t to)
{
    struct mark mark;
    struct stat status;

    if (!shows(asker, fd, &mark) || syscall(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH) < 0)
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
    if (!shows(asker, fd, &mark) ||
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
        [CALL_MKNOD] = create_device,  [CALL_MKNODAT] = create_device, [CALL_XATTR] = answer_xattr,    [CALL_XATTRAT] = answer_xattr,
        [CALL_LISTXATTR] = answer_list, [CALL_LLISTXATTR] = answer_list, [CALL_FLISTXATTR] = answer_list,
        [CALL_LISTXATTRAT] = answer_list, [CALL_STAT] = answer_stat,
        [CALL_LSTAT] = answer_stat,    [CALL_FSTAT] = answer_stat,   [CALL_FSTATAT] = answer_fstatat, [CALL_STATX] = answer_statx,
        [CALL_SETUID] = identity_set,  [CALL_SETGID] = identity_set, [CALL_SETREUID] = identity_set,  [CALL_SETREGID] = identity_set,
        [CALL_SETRESUID] = identity_set, [CALL_SETRESGID] = identity_set, [CALL_SETGROUPS] = identity_set,
        [CALL_GETUID] = identity_get,  [CALL_GETEUID] = identity_get, [CALL_GETGID] = identity_get,   [CALL_GETEGID] = identity_get,
        [CALL_OPEN] = create_file,     [CALL_CREAT] = create_file,   [CALL_OPENAT] = create_file,    [CALL_OPENAT2] = create_file,
        [CALL_MKDIR] = create_directory, [CALL_MKDIRAT] = create_directory,
        [CALL_GETRESUID] = identity_get, [CALL_GETRESGID] = identity_get, [CALL_GETGROUPS] = identity_get,
    };

    return answers[rule->call] != NULL ? answers[rule->call](asker, rule, arguments) : ANSWER_PROCEED;
}
