/* The filter of the image server: it reads what strangers made, and needs few calls for it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "../message.h"
#include "parts.h"

#if defined __x86_64__
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* Sanitizers call more, and on other machines calls have other numbers. */
#if defined ARCHITECTURE && !defined SANITIZED

#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE(number) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (number))
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (__u32)offsetof(struct seccomp_data, field))
#define IF_CALL(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), ALLOW

void confine(struct server *server)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        stop(errno, "confine the image server");
    int proc = near_begin(server);
    struct sock_filter lines[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        REFUSE(EPERM),
        LOAD(nr),
        /* files of /proc, where Landlock refuses all others; no call has this number where it does not */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, proc >= 0 ? SYS_openat : UINT32_MAX, 0, 6),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (__u32)proc, 0, 3),
        LOAD(args[2]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NEAR_FLAGS, 0, 1), ALLOW,
        REFUSE(EPERM),
        IF_CALL(close), IF_CALL(sched_setaffinity),
        /* where a trace is added to its file */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, server->trace != NULL ? SYS_fcntl : UINT32_MAX, 0, 4),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_SETLK, 0, 1), ALLOW,
        REFUSE(EPERM),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, server->trace != NULL ? SYS_lseek : UINT32_MAX, 0, 1), ALLOW,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, server->trace != NULL ? SYS_ftruncate : UINT32_MAX, 0, 1), ALLOW,
        /* requests, answers and the image; descriptors are all open */
        IF_CALL(read), IF_CALL(writev), IF_CALL(write), IF_CALL(pread64),
        IF_CALL(futex), IF_CALL(exit), IF_CALL(exit_group), IF_CALL(rt_sigreturn), IF_CALL(rt_sigprocmask),
#ifdef SYS_poll
        IF_CALL(poll), /* for the launch's end; so is the other */
#endif
        IF_CALL(ppoll),
        /* memory, as allocators of both C libraries ask for it */
        IF_CALL(mmap), IF_CALL(munmap), IF_CALL(mprotect), IF_CALL(mremap), IF_CALL(madvise), IF_CALL(brk),
        /* a thread more, and what a C library does in it; by clone3(2) flags are in memory, where no filter sees them */
        IF_CALL(set_robust_list), IF_CALL(rseq), IF_CALL(gettid), IF_CALL(sched_yield),
        IF_CALL(getpid), IF_CALL(geteuid), IF_CALL(getuid), /* messages have them */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1), REFUSE(ENOSYS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1), ALLOW,
        REFUSE(EPERM),
    };
    const struct sock_fprog program = {sizeof lines / sizeof lines[0], lines};

    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 && errno != EINVAL) /* a kernel without filters */
        stop(errno, "confine the image server");
}

#else
void confine(struct server *server)
{
    server->proc = -1;
}
#endif
