/* What the parts of the recorder have in common: which calls, what they name, and what is written down. */
#ifndef SINGULARITY_RECORD_PARTS_H
#define SINGULARITY_RECORD_PARTS_H

#include <errno.h>
#include <limits.h>
#include <linux/ioctl.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "record.h"

/* ---- which calls (filter.c) ---- */

enum call {
    RECORD_OPEN, RECORD_CREAT, RECORD_OPENAT, RECORD_OPENAT2,
    RECORD_EXECVE, RECORD_EXECVEAT,
    RECORD_RENAME, RECORD_RENAMEAT, RECORD_RENAMEAT2,
    RECORD_UNLINK, RECORD_UNLINKAT,
    RECORD_LINK, RECORD_LINKAT, RECORD_SYMLINK, RECORD_SYMLINKAT,
    RECORD_TRUNCATE,
    RECORD_CONNECT,
    RECORD_ROOT, /* chroot(2), umount2(2) and their like */
    RECORD_NONE
};

/* Of a call that was handed over. */
enum call record_call(uint32_t architecture, int number);
/* Whether it came by the interface of programs of 32 bits. */
bool record_compatible(uint32_t architecture);

/* ---- who calls, and what is named (look.c) ---- */

struct caller_of {
    pid_t process;      /* the thread, in fact */
    bool compatible;    /* its pointers have 32 bits */
    int root;           /* the container's root directory, of the first process; relative paths are looked up there, */
    ino_t mounts;       /* where the caller has its mount namespace, which is this one */
};

/* A process's mount namespace; 0: it cannot be said. */
ino_t look_mounts(pid_t process);

/* `size` bytes of its memory. */
bool look_memory(const struct caller_of *who, uint64_t from, void *bytes, size_t size);
/* A text of at most PATH_MAX with its end. */
bool look_text(const struct caller_of *who, uint64_t from, char text[static PATH_MAX]);

/* What a path leads to. */
struct place {
    bool there;                /* something has this name; otherwise its directory was found */
    bool outside;              /* of the image: the host has it too, as `host` */
    int fd;                    /* what is there, opened to be looked at; -1: nothing, or it is closed */
    struct stat status;        /* where it is there */
    char inside[PATH_MAX];     /* absolute, in the container, without links */
    char host[PATH_MAX];
};

/* `path` for the caller, relative to what it has open as `directory`. With `making`, what is not there is found by its directory. A path
 * with `named` is looked at itself where it is a link. False: it cannot be said, or is of no interest: /proc, /sys and /dev. */
bool look_place(const struct caller_of *who, int directory, const char *path, bool named, bool making, struct place *place);

/* What the caller has open as `fd`. */
bool look_descriptor(const struct caller_of *who, int fd, struct place *place);

/* A call changes root directories or mounts: what is known of them is forgotten. */
void look_roots_changed(void);
void mounts_changed(void);

/* ---- programs (program.c) ---- */

/* Which file the kernel opens besides, when it executes this one: the interpreter of a script, or the loader of a program. False: none, or it
 * cannot be said. */
bool program_needs(const struct place *program, char path[static PATH_MAX]);

/* ---- patience (patience.c) ---- */

/* From here on other calls of the same listener are let go while one is looked at for too long. Where `program`, a child of this process, has
 * ended meanwhile, this process is ended. */
void patience_begin(int listener, pid_t program);
/* Around all that is done of one call, and with what is written down of it. */
void patience_turn_begins(uint64_t call);
void patience_turn_ends(void);
/* The last lines: how many calls were let go unseen, and the program's status as of waitpid(2). */
void record_end(int status, bool begun);
/* Lets each call go until nobody is left. With nobody to answer, every such call would fail. Nothing else stays open: a root directory that
 * this process kept would keep the server of that file system running, which may be under the filter and keep this one. */
_Noreturn void serve_unseen(int listener);

/* ---- mounts (mounts.c) ---- */

/* A mount of the container, by its number: where it is there, and which directory or file of the host that is. */
struct mount_known {
    uint64_t number;
    bool outside;
    char inside[PATH_MAX];
    char host[PATH_MAX];
};

/* NULL: there is no such mount. Until the next such call. */
const struct mount_known *mount_find(pid_t process, uint64_t number);
/* The image's directory, which is not outside. */
void mounts_begin(const char *image);

/* ---- what is written down (log.c): five texts with their ends, the first of one letter ---- */

enum {
    LOG_READ = 'r',     /* a file or directory is opened to be read, or executed: its status, host, inside */
    LOG_WRITE = 'w',    /* a name is opened to be written, or made: status of what was there, host, inside */
    LOG_DIGEST = 'h',   /* of what is about to change: status, host, inside, digest in hexadecimal or "" */
    LOG_MOVE = 'm',     /* status, host, the new name inside, the new host */
    LOG_REMOVE = 'u',   /* host, inside */
    LOG_VARIABLE = 'e', /* NAME=VALUE of the first program */
    LOG_CONNECT = 'c',  /* an address */
    LOG_GAP = 'g',      /* what was not seen, and why */
    LOG_END = 'x',      /* the program's status as of waitpid(2) */
};

void log_begin(int fd);
void log_place(char kind, const struct place *place, const char *more);
void log_move(const struct place *from, const struct place *to);
void log_words(char kind, const char *first, const char *second, const char *third);
/* False: something could not be written. */
bool log_flush(void);

/* ---- what the calls mean (calls.c) ---- */

/* One call of the program's, from its being handed over to its being made. */
struct question {
    const struct recording *recording;
    struct caller_of who;
    enum call call;
    const __u64 *arguments;
    bool begins;                   /* it is of the first process, which becomes the program */
    struct place place, other;     /* what it names */
    const struct place *before[2]; /* those to be read before the call is made */
    unsigned before_count;
};

/* Writes down what the call names. */
void record_call_seen(struct question *question);
/* Bytes to be read before it is made, and reading them. */
uint64_t record_size(const struct question *question);
void record_digests(const struct question *question);
/* Before the call is made: what is looked at is let go of, for a file system that is in use cannot be unmounted. */
void record_call_done(struct question *question);

/* ---- answering ---- */

/* ioctl(2), whose requests are larger than one C library's type for them. */
static inline bool listener_do(int listener, unsigned long request, uintptr_t argument)
{
    return syscall(SYS_ioctl, listener, request, argument) == 0;
}

/* ROOM: a newer kernel's structures may be longer. */
enum { NOTICE_ROOM = 4096 };
union notice {
    struct seccomp_notif call;
    char room[NOTICE_ROOM];
};

/* False: nobody is left under the filter, or it failed; a caller that was killed meanwhile, whose number is 0, is no failure. */
static inline bool listener_receive(int listener, union notice *notice)
{
    memset(notice, 0, sizeof *notice); /* the kernel wants it so */
    if (listener_do(listener, SECCOMP_IOCTL_NOTIF_RECV, (uintptr_t)notice))
        return true;
    notice->call.id = 0;
    return errno == EINTR || errno == ENOENT;
}

/* The kernel does it, and says what comes of it. */
static inline void listener_continue(int listener, uint64_t id)
{
    struct seccomp_notif_resp response = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

    (void)listener_do(listener, SECCOMP_IOCTL_NOTIF_SEND, (uintptr_t)&response); /* fails where nobody waits any more */
}

#endif
