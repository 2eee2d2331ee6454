/* Which calls name files, by their numbers in each of the kernel's interfaces, and the filter that hands them over. Touches this process
 * alone. */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <sys/socket.h>

#include "../descriptor.h"
#include "../handed.h"

enum { IO_URING_SETUP = 425, OPENAT2 = 437, NEVER = -1, LINES = 160 };

/* NEVER: the machine has no such call. The second number is that of i386 (arch/x86/entry/syscalls/syscall_32.tbl). */
static const struct rule {
    int native, compatible;
    enum call call;
} rules[] = {
#ifdef __NR_open /* the newer machines have only those that take a directory */
    {__NR_open, 5, RECORD_OPEN},         {__NR_creat, 8, RECORD_CREAT},       {__NR_rename, 38, RECORD_RENAME},
    {__NR_unlink, 10, RECORD_UNLINK},    {__NR_link, 9, RECORD_LINK},         {__NR_symlink, 83, RECORD_SYMLINK},
#endif
#ifdef __NR_renameat
    {__NR_renameat, 302, RECORD_RENAMEAT},
#endif
    {__NR_openat, 295, RECORD_OPENAT},   {OPENAT2, OPENAT2, RECORD_OPENAT2},  {__NR_execve, 11, RECORD_EXECVE},
    {__NR_execveat, 358, RECORD_EXECVEAT}, {__NR_renameat2, 353, RECORD_RENAMEAT2}, {__NR_unlinkat, 301, RECORD_UNLINKAT},
    {__NR_linkat, 303, RECORD_LINKAT},   {__NR_symlinkat, 304, RECORD_SYMLINKAT}, {__NR_truncate, 92, RECORD_TRUNCATE},
    {NEVER, 193, RECORD_TRUNCATE},       {__NR_connect, 362, RECORD_CONNECT}, {__NR_chroot, 61, RECORD_ROOT},
    {__NR_pivot_root, 217, RECORD_ROOT}, {__NR_setns, 346, RECORD_ROOT},   {__NR_umount2, 52, RECORD_ROOT},   {__NR_unshare, 310, RECORD_ROOT},
};
enum { RULES = sizeof rules / sizeof rules[0] };

#ifdef __x86_64__
#define NATIVE AUDIT_ARCH_X86_64
#define COMPATIBLE AUDIT_ARCH_I386
#elif defined __aarch64__
#define NATIVE AUDIT_ARCH_AARCH64
#define COMPATIBLE 0 /* 32 bit programs of ARM are not recorded */
#else
#define NATIVE 0 /* whose numbers are not known here */
#define COMPATIBLE 0
#endif

enum call record_call(uint32_t architecture, int number)
{
    for (size_t i = 0; i < RULES; i++)
        if (number == (architecture == NATIVE ? rules[i].native : rules[i].compatible))
            return rules[i].call;
    return RECORD_NONE;
}

bool record_compatible(uint32_t architecture)
{
    return architecture != NATIVE;
}

/* ---- the filter ---- */

struct lines {
    struct sock_filter all[LINES];
    unsigned short used;
};

static void add(struct lines *lines, struct sock_filter line)
{
    lines->all[lines->used++] = line;
}

static void add_answer(struct lines *lines, int number, uint32_t answer)
{
    add(lines, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1));
    add(lines, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer));
}

/* What io_uring opens no filter sees: programs go without it, as on kernels that have none (io_uring_setup(2)). */
static void add_interface(struct lines *lines, uint32_t architecture)
{
    unsigned short jump = lines->used;

    if (architecture == 0)
        return;
    add(lines, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 0, 0));
    add(lines, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    for (size_t i = 0; i < RULES; i++) {
        int number = architecture == NATIVE ? rules[i].native : rules[i].compatible;
        if (number != NEVER)
            add_answer(lines, number, SECCOMP_RET_USER_NOTIF);
    }
    add_answer(lines, IO_URING_SETUP, SECCOMP_RET_ERRNO | ENOSYS);
    add(lines, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    lines->all[jump].jf = (uint8_t)(lines->used - jump - 1);
}

/* Linux 5.19: a signal does not end a call that is being looked at, which would be made again. */
#define WAIT_KILLABLE (1UL << 5) /* SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV */

static int filter_begin(void)
{
    static struct lines lines;

    if (NATIVE == 0) {
        errno = ENOSYS;
        return -1;
    }
    add(&lines, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
    add_interface(&lines, NATIVE);
    add_interface(&lines, COMPATIBLE);
    add(&lines, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    struct sock_fprog program = {.len = lines.used, .filter = lines.all};
    const unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | WAIT_KILLABLE, &program);
    if (listener < 0 && errno == EINVAL)
        listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    return (int)listener;
}

/* ---- its other end ---- */

/* The first call that is handed over says which process is the program's: one that names nothing. A program of the container that serves
 * a file system to it (--fusemount) has the same restrictions, but no such socket: it is not recorded, for the recorder may wait for it. */
bool record_begin(int connection)
{
    int type;
    socklen_t size = sizeof type;

    if (getsockopt(connection, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return true;
    OWNED_FD socket = connection;
    OWNED_FD listener = filter_begin();

    if (listener < 0 || !handed_send(socket, listener))
        return false;
    fd_close(&listener);
    (void)syscall(SYS_openat, -1, "", O_RDONLY);
    return true;
}
