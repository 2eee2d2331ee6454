/* What a process inherits and the program must get as it was: limits, umask, signals, descriptors, variables. */
#include "inherited.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "descriptor.h"
#include "inside.h"

/* What the kernel may send while the container is set up, and what callers leave ignored: a launcher that ignores
 * SIGCHLD would never see its child's status, and SIGPIPE, SIGXFSZ or an alarm would end it half way without a word
 * (R-L12). */
static const int signal_numbers[INHERITED_SIGNALS] = {SIGCHLD, SIGPIPE, SIGALRM, SIGVTALRM, SIGPROF, SIGXFSZ, SIGUSR1, SIGUSR2};
static const int timer_numbers[3] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};

/* The lowest free number is what open(2) returns: with 2 closed, an image opened later would be standard error, and a
 * message would be written into it (R-L3). No message on failure, for there may be nowhere to write it. */
static void open_standard_streams(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd)
            _exit(EXIT_OWN_FAILURE);
}

/* What relocation has written is constant from here on. glibc sees to it in a static program too, musl does not. */
static void relocations_seal(void)
{
#ifndef __GLIBC__
    extern char __ehdr_start[] __attribute__((visibility("hidden")));
    const ElfW(Ehdr) *program = (const void *)__ehdr_start;
    const ElfW(Phdr) *part = (const void *)(__ehdr_start + program->e_phoff);
    uintptr_t pages = ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1), base = (uintptr_t)__ehdr_start;

    for (unsigned i = 0; i < program->e_phnum; i++) {
        uintptr_t first = (base + part[i].p_vaddr) & pages, end = (base + part[i].p_vaddr + part[i].p_memsz) & pages;
        if (part[i].p_type == PT_GNU_RELRO && mprotect((void *)first, end - first, PROT_READ) < 0)
            stop(errno, "write-protect the program's constants");
    }
#endif
}

/* The environment is emptied before anything reads it (R-L2). A core file of a process that was privileged could show
 * what the user may not read (R-L8); only the soft limit changes, or an ordinary user could not have his own back. */
void inherited_take(struct inherited *inherited)
{
    static char *none[] = {NULL};
    static const struct itimerval no_timer;
    struct sigaction known = {0};

    relocations_seal();
    open_standard_streams();
    inherited->environment = environ;
    environ = none;
    inherited->mask = umask(077);
    for (int i = 0; i < INHERITED_SIGNALS; i++) {
        known.sa_handler = signal_numbers[i] == SIGCHLD ? SIG_DFL : SIG_IGN;
        if (sigaction(signal_numbers[i], &known, &inherited->signals[i]) < 0)
            stop(errno, "signals");
    }
    for (int i = 0; i < 3; i++)
        if (setitimer(timer_numbers[i], &no_timer, &inherited->timers[i]) < 0)
            stop(errno, "timers");
    if (getrlimit(RLIMIT_CORE, &inherited->core) < 0 || setrlimit(RLIMIT_CORE, &(struct rlimit){0, inherited->core.rlim_max}) < 0)
        stop(errno, "limits");
}

/* The lowest descriptor from `first` on that stays; UINT_MAX: none. */
static unsigned next_kept(const struct request *request, const int *also, size_t count, unsigned first)
{
    unsigned next = UINT_MAX;

    for (size_t i = 0; i < count; i++)
        if (also[i] >= 0 && (unsigned)also[i] >= first && (unsigned)also[i] < next)
            next = (unsigned)also[i];
    for (uint32_t i = 0; i < request->keep_fd_count; i++)
        if (request->keep_fd[i].number >= first && request->keep_fd[i].number < next)
            next = (unsigned)request->keep_fd[i].number;
    return next;
}

/* A directory of the host would lead out of the container: fchdir(2), openat(2). CVE-2024-21626 was such a
 * descriptor, left open by accident. O_PATH ones count too: openat(2) takes them. */
static void check_descriptor(unsigned fd)
{
    struct stat status;

    if (fstat((int)fd, &status) < 0)
        stop(errno, "descriptor %u cannot be kept", fd);
    if (S_ISDIR(status.st_mode) || (fcntl((int)fd, F_GETFL) & O_PATH))
        stop(0, "descriptor %u cannot be kept: it is a directory of the host", fd);
}

/* Kernels before 5.9: what is open, as /proc has it. The descriptor of the listing is passed over here and closed
 * with the listing. */
static void close_listed(const struct request *request, const int *also, size_t count)
{
    OWNED_FD fd = openat(proc_fd(), "self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (directory == NULL)
        stop(errno, "close the launcher's descriptors");
    fd = -1;
    while ((entry = readdir(directory)) != NULL) {
        unsigned number = (unsigned)atoi(entry->d_name);
        if (number > 2 && (int)number != dirfd(directory) && next_kept(request, also, count, number) != number)
            (void)close((int)number);
    }
    closedir(directory);
}

/* By ranges between those that stay: close_range(2) (Linux 5.9) takes three calls where a loop to the limit takes a
 * million (R-L3). ENOSYS, and EPERM of old filters, end in the list of /proc. */
void inherited_close(const struct request *request, const int *also, size_t count)
{
    struct stat status;

    for (int fd = 0; fd < 3; fd++)
        if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode))
            stop(0, "standard stream %d is a directory of the host", fd);
    for (unsigned first = 3;;) {
        unsigned next = next_kept(request, also, count, first);
        if (next > first && syscall(SYS_close_range, first, next == UINT_MAX ? UINT_MAX : next - 1, 0) < 0) {
            close_listed(request, also, count);
            return;
        }
        if (next == UINT_MAX)
            return;
        check_descriptor(next);
        first = next + 1;
    }
}

/* In place: an entry with our prefix is a variable that the C library would have taken from a setuid program. */
char *const *inherited_environment(const struct inherited *inherited)
{
    const size_t length = strlen(INHERITED_CARRIED);

    for (char **environment = inherited->environment; *environment != NULL; environment++)
        if (strncmp(*environment, INHERITED_CARRIED, length) == 0)
            *environment += length;
    return inherited->environment;
}

enum { STACK_NEEDED = 128 << 10 };

/* The kernel asks for the limit when a stack grows, and no more of what is part of it. */
__attribute__((noinline)) static void grow_stack(void)
{
    volatile char needed[STACK_NEEDED];

    needed[0] = 0;
    (void)needed[0];
}

/* The caller's limit: for a setuid program the kernel lowers a larger one to 8 MiB (fs/exec.c), and the front door raises a small one;
 * the program would keep that. 0 stands for "not told", so that numbers are one higher than they are. */
static void restore_stack(const struct request *request)
{
    struct rlimit stack;

    if (request->stack_soft == 0 || getrlimit(RLIMIT_STACK, &stack) < 0)
        return;
    if (stack.rlim_cur > 2 * STACK_NEEDED && request->stack_soft <= 2 * STACK_NEEDED)
        grow_stack();
    stack.rlim_cur = request->stack_soft == UINT64_MAX ? RLIM_INFINITY : request->stack_soft - 1;
    if (stack.rlim_cur > stack.rlim_max)
        stack.rlim_cur = stack.rlim_max;
    if (setrlimit(RLIMIT_STACK, &stack) < 0)
        stop(errno, "restore the stack limit");
}

/* After the last privilege has gone and before the program: what fails now can only be the caller's own limit. */
void inherited_restore(const struct inherited *inherited, const struct request *request)
{
    restore_stack(request);
    (void)umask(request->no_umask ? 022 : inherited->mask);
    if (setrlimit(RLIMIT_CORE, &inherited->core) < 0)
        stop(errno, "limits");
    for (int i = 0; i < 3; i++)
        (void)setitimer(timer_numbers[i], &inherited->timers[i], NULL);
    for (int i = 0; i < INHERITED_SIGNALS; i++)
        (void)sigaction(signal_numbers[i], &inherited->signals[i], NULL);
}
