/* Which calls are emulated, by their numbers in each of the kernel's interfaces, and the filter of them. Touches this process alone. */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef EMULATE_KNOWN

/* setuid(2) and its like change nothing where root is the only id; setgroups(2) is refused there (user_namespaces(7)). */
static const struct rule native[] = {
#ifdef __NR_chown /* the newer machines have only those that take a directory */
    {__NR_chown, CALL_CHOWN, false},     {__NR_lchown, CALL_LCHOWN, false},   {__NR_mknod, CALL_MKNOD, false},
    {__NR_stat, CALL_STAT, false},       {__NR_lstat, CALL_LSTAT, false},     {__NR_mkdir, CALL_MKDIR, false},
    {__NR_open, CALL_OPEN, false},       {__NR_creat, CALL_CREAT, false},
#endif
    {__NR_fchown, CALL_FCHOWN, false},   {__NR_fchownat, CALL_FCHOWNAT, false}, {__NR_mknodat, CALL_MKNODAT, false},
    {__NR_setxattr, CALL_XATTR, false},  {__NR_lsetxattr, CALL_XATTR, false}, {__NR_fsetxattr, CALL_XATTR, false},
    {__NR_removexattr, CALL_XATTR, false}, {__NR_lremovexattr, CALL_XATTR, false}, {__NR_fremovexattr, CALL_XATTR, false},
    {463, CALL_XATTRAT, false},          {466, CALL_XATTRAT, false},          {465, CALL_LISTXATTRAT, false}, /* Linux 6.13 */
    {__NR_listxattr, CALL_LISTXATTR, false}, {__NR_llistxattr, CALL_LLISTXATTR, false}, {__NR_flistxattr, CALL_FLISTXATTR, false},
    {__NR_fstat, CALL_FSTAT, false},     {__NR_newfstatat, CALL_FSTATAT, false}, {__NR_statx, CALL_STATX, false},
    {__NR_setuid, CALL_SETUID, false},   {__NR_setgid, CALL_SETGID, false},   {__NR_setreuid, CALL_SETREUID, false},
    {__NR_setregid, CALL_SETREGID, false}, {__NR_setresuid, CALL_SETRESUID, false}, {__NR_setresgid, CALL_SETRESGID, false},
    {__NR_setfsuid, CALL_DONE, false},   {__NR_setfsgid, CALL_DONE, false},   {__NR_setgroups, CALL_SETGROUPS, false},
    {__NR_getuid, CALL_GETUID, false},   {__NR_geteuid, CALL_GETEUID, false}, {__NR_getgid, CALL_GETGID, false},
    {__NR_getegid, CALL_GETEGID, false}, {__NR_getresuid, CALL_GETRESUID, false}, {__NR_getresgid, CALL_GETRESGID, false},
    {__NR_getgroups, CALL_GETGROUPS, false}, {__NR_openat, CALL_OPENAT, false}, {437, CALL_OPENAT2, false},
    {__NR_mkdirat, CALL_MKDIRAT, false},
};

#ifdef __x86_64__
#define NATIVE AUDIT_ARCH_X86_64
#define NUMBER_BITS 0xbfffffffU /* without the bit of x32, whose numbers are the same */
/* Those of i386 (arch/x86/entry/syscalls/syscall_32.tbl): a compiler for one machine has the names of one. stat(2) is the kernel's there. */
static const struct rule compatible[] = {
    {182, CALL_CHOWN, true},     {16, CALL_LCHOWN, true},      {95, CALL_FCHOWN, true},    {212, CALL_CHOWN, false},
    {198, CALL_LCHOWN, false},   {207, CALL_FCHOWN, false},    {298, CALL_FCHOWNAT, false}, {14, CALL_MKNOD, false},
    {297, CALL_MKNODAT, false},  {226, CALL_XATTR, false},     {227, CALL_XATTR, false},   {228, CALL_XATTR, false},
    {235, CALL_XATTR, false},    {236, CALL_XATTR, false},     {237, CALL_XATTR, false},   {23, CALL_DONE, true},
    {46, CALL_DONE, true},       {70, CALL_DONE, true},        {71, CALL_DONE, true},      {81, CALL_DONE, true},
    {138, CALL_DONE, true},      {139, CALL_DONE, true},       {164, CALL_DONE, true},     {170, CALL_DONE, true},
    {203, CALL_DONE, false},     {204, CALL_DONE, false},      {206, CALL_DONE, false},    {208, CALL_DONE, false},
    {210, CALL_DONE, false},     {213, CALL_DONE, false},      {214, CALL_DONE, false},    {215, CALL_DONE, false},
    {216, CALL_DONE, false},     {463, CALL_XATTRAT, false},   {466, CALL_XATTRAT, false},
};
#define COMPATIBLE AUDIT_ARCH_I386
#else /* 32 bit programs of ARM are the kernel's */
#define NATIVE AUDIT_ARCH_AARCH64
#define NUMBER_BITS 0xffffffffU
static const struct rule compatible[] = {{0, CALL_NONE, false}};
#define COMPATIBLE NATIVE
#endif

static const struct {
    uint32_t architecture;
    const struct rule *rules;
    size_t count;
} interfaces[] = {{NATIVE, native, sizeof native / sizeof native[0]},
                  {COMPATIBLE, compatible, sizeof compatible / sizeof compatible[0]}};

const struct rule *rule_of(uint32_t architecture, int number)
{
    for (size_t i = 0; i < sizeof interfaces / sizeof interfaces[0]; i++)
        for (size_t at = 0; interfaces[i].architecture == architecture && at < interfaces[i].count; at++)
            if (interfaces[i].rules[at].number == ((uint32_t)number & NUMBER_BITS) && interfaces[i].rules[at].call != CALL_NONE)
                return &interfaces[i].rules[at];
    return NULL;
}

/* ---- the filter ---- */

enum { LINES = 256 };
static const uint32_t done = SECCOMP_RET_ERRNO; /* an errno of 0 */
struct lines {
    struct sock_filter all[LINES];
    unsigned short used;
};

static void add(struct lines *lines, struct sock_filter line)
{
    lines->all[lines->used++] = line;
}

static void add_return(struct lines *lines, uint32_t action)
{
    add(lines, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

static void add_load(struct lines *lines, size_t offset)
{
    add(lines, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

/* Of an argument of 64 bits the lower half. */
static size_t low_half(unsigned argument)
{
    return offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t) + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0);
}

/* Without a listener only a device is done, and not made: what else mknod(2) makes a user may have. */
static void add_device_done(struct lines *lines, unsigned mode)
{
    add_load(lines, low_half(mode));
    add(lines, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, S_IFMT));
    add(lines, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, S_IFCHR, 1, 0));
    add(lines, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, S_IFBLK, 0, 1));
    add_return(lines, done);
    add_return(lines, SECCOMP_RET_ALLOW);
}

/* Files that are opened and not made go by: that is most of them. */
static void add_making(struct lines *lines, unsigned flags)
{
    add_load(lines, low_half(flags));
    add(lines, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT, 0, 1));
    add_return(lines, SECCOMP_RET_USER_NOTIF);
    add_return(lines, SECCOMP_RET_ALLOW);
}

/* With more ids the kernel changes those of processes itself. Names of attributes no filter sees. */
static uint32_t action_of(enum call call, bool listen, struct emulation how)
{
    bool of_process = call <= CALL_SETGROUPS || call >= CALL_GETUID;

    if (call == CALL_NONE || (of_process && !how.one_id) || (call >= CALL_LISTXATTR && !how.status) || (call >= CALL_XATTR && !listen))
        return SECCOMP_RET_ALLOW;
    return !listen || call <= (how.status ? CALL_DONE : CALL_SETGROUPS) ? done : SECCOMP_RET_USER_NOTIF;
}

static void add_rule(struct lines *lines, const struct rule *rule, bool listen, struct emulation how)
{
    bool device = !listen && (rule->call == CALL_MKNOD || rule->call == CALL_MKNODAT);
    bool opening = rule->call == CALL_OPEN || rule->call == CALL_OPENAT;
    uint32_t action = action_of(rule->call, listen, how);

    if (action == SECCOMP_RET_ALLOW)
        return;
    add(lines, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->number, 0, (uint8_t)(device ? 6 : opening ? 4 : 1)));
    if (device)
        add_device_done(lines, rule->call == CALL_MKNOD ? 1 : 2);
    else if (opening)
        add_making(lines, rule->call == CALL_OPEN ? 1 : 2);
    else
        add_return(lines, action);
}

/* A part for each interface, passed over where a call comes by another: jumps are of 255 lines at most. */
static void filter_make(struct lines *lines, bool listen, struct emulation how)
{
    lines->used = 0;
    add_load(lines, offsetof(struct seccomp_data, arch));
    for (size_t i = 0; i < sizeof interfaces / sizeof interfaces[0]; i++) {
        unsigned short jump = lines->used;
        add(lines, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, interfaces[i].architecture, 0, 0));
        add_load(lines, offsetof(struct seccomp_data, nr));
        add(lines, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, NUMBER_BITS));
        for (size_t at = 0; at < interfaces[i].count; at++)
            add_rule(lines, &interfaces[i].rules[at], listen, how);
        add_return(lines, SECCOMP_RET_ALLOW);
        lines->all[jump].jf = (uint8_t)(lines->used - jump - 1);
    }
    add_return(lines, SECCOMP_RET_ALLOW);
}

/* Linux 5.19: a signal does not end a call that is being answered, which would be made again, and again be done. */
#define WAIT_KILLABLE (1UL << 5) /* SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV */

int filter_begin(bool listen, struct emulation how)
{
    static struct lines lines;
    struct sock_fprog program = {.filter = lines.all};

    if (!listen && !how.one_id) /* who cannot remember a device does not say that it is there */
        return -1;
    filter_make(&lines, listen, how);
    program.len = lines.used;
    const unsigned long flags = listen ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0, once = listen ? WAIT_KILLABLE : 0;
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | once, &program);
    if (listener < 0 && errno == EINVAL && listen)
        listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (listener < 0 && listen) /* EBUSY: one has been there before, of an emulation around this one */
        return filter_begin(false, (struct emulation){.one_id = how.one_id});
    return listen && listener >= 0 ? (int)listener : -1;
}

#endif
