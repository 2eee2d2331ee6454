/* --deny-net: a filter that leaves a program the sockets of this machine's processes (AF_UNIX) and no other, and Landlock, so that it
 * borrows none either. */
#include "restrict.h"

#include <endian.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* A processor calls the same by other numbers when it runs programs of another kind; NONE is no call's number. On x86_64 one bit more
 * marks those of the x32 kind. */
enum { NONE = 0x7fffffff, X32 = 0x40000000, CALL_SOCKET = 1, CALL_SOCKETPAIR = 8 };
struct machine {
    uint32_t architecture, socket, socketpair, socketcall;
};
static const struct machine machines[] = {
#if defined __x86_64__
    {AUDIT_ARCH_X86_64, SYS_socket, SYS_socketpair, NONE}, {AUDIT_ARCH_I386, 359, 360, 102},
#elif defined __aarch64__
    {AUDIT_ARCH_AARCH64, SYS_socket, SYS_socketpair, NONE}, {AUDIT_ARCH_ARM, 281, 288, 102},
#elif defined __riscv && __riscv_xlen == 64
    {AUDIT_ARCH_RISCV64, SYS_socket, SYS_socketpair, NONE},
#elif defined __powerpc64__ && __BYTE_ORDER == __LITTLE_ENDIAN
    {AUDIT_ARCH_PPC64LE, SYS_socket, SYS_socketpair, 102},
#elif defined __s390x__
    {AUDIT_ARCH_S390X, SYS_socket, SYS_socketpair, 102}, {AUDIT_ARCH_S390, 359, 360, 102},
#endif
    {0, NONE, NONE, NONE}, /* for machines that are not here, which refuse */
};
enum { MACHINES = sizeof machines / sizeof machines[0] - 1, LINES = 27 };

/* io_uring makes sockets of its own (Linux 5.19), past all filters; one number everywhere, which older headers lack. */
enum { IO_URING_SETUP = 425, IO_URING_ENTER = 426, IO_URING_REGISTER = 427 };

#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (__u32)(at))
#define LOAD_FIRST LOAD(offsetof(struct seccomp_data, args[0]) + (__BYTE_ORDER == __BIG_ENDIAN ? sizeof(__u32) : 0))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (skip))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE(number) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (number))
#define FAMILY(call) UNLESS((call), 4), LOAD_FIRST, UNLESS(AF_UNIX, 1), ALLOW, REFUSE(EACCES)

/* socketcall(2) has the family in memory, where a filter cannot look: by it none is made. Programs go on without io_uring where the
 * kernel has none, so that is what they are told. */
static void machine_lines(const struct machine *machine, struct sock_filter lines[LINES])
{
    const struct sock_filter text[] = {
        LOAD(offsetof(struct seccomp_data, arch)),
        UNLESS(machine->architecture, LINES - 2),
        LOAD(offsetof(struct seccomp_data, nr)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~(__u32)X32),
        UNLESS(IO_URING_SETUP, 1), REFUSE(ENOSYS),
        UNLESS(IO_URING_ENTER, 1), REFUSE(ENOSYS),
        UNLESS(IO_URING_REGISTER, 1), REFUSE(ENOSYS),
        FAMILY(machine->socket),
        FAMILY(machine->socketpair),
        UNLESS(machine->socketcall, 5), LOAD_FIRST,
        UNLESS(CALL_SOCKET, 1), REFUSE(EACCES),
        UNLESS(CALL_SOCKETPAIR, 1), REFUSE(EACCES),
        ALLOW,
    };

    _Static_assert(sizeof text / sizeof text[0] == LINES, "as many as are jumped over");
    for (size_t i = 0; i < LINES; i++)
        lines[i] = text[i];
}

/* By families of sockets: TCP, UDP, raw sockets, netlink, those of virtual machines and what a later kernel brings are one case. A
 * network namespace is not for every launch to have, and would be one to leave again for root. */
void restrict_network(const struct request_entry *asked)
{
    struct sock_filter lines[MACHINES * LINES + 1];

    if (MACHINES == 0)
        stop(0, "%s: not for programs of this kind of processor", asked->second);
    landlock_network(asked);
    for (size_t i = 0; i < MACHINES; i++)
        machine_lines(&machines[i], lines + i * LINES);
    lines[MACHINES * LINES] = (struct sock_filter)REFUSE(EACCES);
    const struct sock_fprog program = {(unsigned short)(MACHINES * LINES + 1), lines};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
        stop(errno, "%s: this kernel filters no system calls", asked->second);
}
