/* What the parts of root emulation have in common: which calls, who asks, and what is remembered of a file. */
#ifndef SINGULARITY_EMULATE_PARTS_H
#define SINGULARITY_EMULATE_PARTS_H

#include <linux/ioctl.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "emulate.h"

#if defined __x86_64__ || defined __aarch64__
#define EMULATE_KNOWN /* whose numbers and structures of calls are known here */
#endif

/* ---- which calls (filter.c) ---- */

enum call {
    CALL_DONE, /* by the filter */
    CALL_SETUID, CALL_SETGID, CALL_SETREUID, CALL_SETREGID, CALL_SETRESUID, CALL_SETRESGID, CALL_SETGROUPS, /* and these but in builds */
    CALL_CHOWN, CALL_LCHOWN, CALL_FCHOWN, CALL_FCHOWNAT,
    CALL_MKNOD, CALL_MKNODAT,
    CALL_XATTR, CALL_XATTRAT, /* its name is the second argument, or the fourth */
    CALL_LISTXATTR, CALL_LLISTXATTR, CALL_FLISTXATTR, CALL_LISTXATTRAT, /* from here on: what shows something, in builds */
    CALL_STAT, CALL_LSTAT, CALL_FSTAT, CALL_FSTATAT, CALL_STATX,
    CALL_GETUID, CALL_GETEUID, CALL_GETGID, CALL_GETEGID, CALL_GETRESUID, CALL_GETRESGID, CALL_GETGROUPS,
    CALL_OPEN, CALL_CREAT, CALL_OPENAT, CALL_OPENAT2, CALL_MKDIR, CALL_MKDIRAT, /* who makes a file, asks too */
    CALL_NONE
};

/* A call of an interface of the kernel's. */
struct rule {
    uint32_t number;
    enum call call;
    bool narrow; /* ids of 16 bits, as i386 had them at first */
};
const struct rule *rule_of(uint32_t architecture, int number);

/* Puts this process under the filter. The descriptor by which calls are handed over; without `listen`, or where another process has
 * that already, -1, and the filter answers what is for it to answer. */
int filter_begin(bool listen, struct emulation how);

/* ioctl(2), whose requests are larger than one C library's type for them. */
static inline bool listener_do(int listener, unsigned long request, uintptr_t argument)
{
    return syscall(SYS_ioctl, listener, request, argument) == 0;
}

/* ---- who asks (asker.c): a process that waits for its answer. What is opened of it is worth something only once asker_waits() has said
 * that it still does, for its number may be another process's by then. */

struct asker {
    struct emulation how;
    int listener;
    uint64_t id;      /* of the call */
    pid_t process;    /* the thread, in fact */
    int memory;       /* of the process, -1 until it is needed */
    int64_t value;    /* what the call returns when it is done */
};

bool asker_waits(const struct asker *asker);

/* Whether it is in the user namespace of this process, so that its ids are ours; `own` is asker_namespace(0). */
ino_t asker_namespace(pid_t process);

/* A text of at most PATH_MAX with its end, bytes to read, or bytes to write, in its memory. */
bool asker_text(struct asker *asker, uint64_t from, char *text);
bool asker_read(struct asker *asker, uint64_t from, void *bytes, size_t size);
bool asker_write(struct asker *asker, uint64_t to, const void *bytes, size_t size);

/* What it has open as `number`; O_PATH, -1 and errno. */
int asker_descriptor(const struct asker *asker, int number);

/* What `path` is for it, by its root and current directory, or beside the directory that it has open as `directory`. O_PATH with these
 * flags; -1 and errno. No link of /proc to what a process has open is followed, for it would lead to what we have open. */
int asker_open(const struct asker *asker, int directory, const char *path, int flags);

mode_t asker_mask(const struct asker *asker);

/* Whether it is root of the user namespace with these rights there, by linux/capability.h, and those to go wherever we go. Where there is
 * one id nobody is anybody else. */
bool asker_may(const struct asker *asker, unsigned capability);

/* ---- what is remembered (mark.c) ---- */

struct mark {
    uint32_t uid, gid;
    mode_t device;          /* S_IFCHR or S_IFBLK; 0: what it is */
    uint32_t major, minor;
};

extern const char mark_name[];

/* Of an O_PATH descriptor; false: nothing, it is what it seems. What others say of their files is not believed. The current directory must
 * be that of /proc. */
bool mark_read(int fd, struct mark *mark);

/* The names of its attributes but for the mark's, each with its end, in room for XATTR_LIST_MAX bytes; false and errno. */
bool mark_hidden(int fd, char *names, size_t *size);

/* 0, or a negative errno. What this file system cannot hold is done all the same, and forgotten. */
int mark_remember(int fd, const struct mark *mark);

/* ---- who it believes to be (identity.c); answers as below ---- */

int identity_set(struct asker *asker, const struct rule *rule, const uint64_t *arguments);
int identity_get(struct asker *asker, const struct rule *rule, const uint64_t *arguments);

/* Whose files it makes, where it is not root. */
void identity_owner(const struct asker *asker, struct mark *mark);

/* ---- what is made (create.c) ---- */

int create_device(struct asker *asker, const struct rule *rule, const uint64_t *arguments);
int create_file(struct asker *asker, const struct rule *rule, const uint64_t *arguments);
int create_directory(struct asker *asker, const struct rule *rule, const uint64_t *arguments);

/* ---- the answers (answer.c) ---- */

/* 0: done; a negative errno; ANSWER_PROCEED: the kernel does it, and says what comes of it; ANSWER_GIVEN: nothing is left to say. */
enum { ANSWER_PROCEED = 1, ANSWER_GIVEN };
int answer(struct asker *asker, const struct rule *rule, const uint64_t *arguments);

#endif
