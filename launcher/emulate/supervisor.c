/* The process that answers, beside the program: a copy of the program's own process, with the same root directory, namespaces and
 * restrictions, so that nobody gains anything by asking it. */
#include "emulate.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../handed.h"
#include "../message.h"
#include "parts.h"

#ifdef EMULATE_KNOWN

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6: who asks and who answers run one after the other, on one processor */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

/* PATIENCE: seconds for one answer. A file system that a program in the container serves may never say what a path is: then this process
 * is ended by its alarm, and calls fail with ENOSYS from then on. ROOM: a newer kernel's structures may be longer. */
enum { LISTENER, PROC, KEPT, PATIENCE = 60, ROOM = 4096 };

/* ---- answering ---- */

/* Of a process in a user namespace below ours the ids are others. */
static int answer_call(struct emulation how, ino_t namespace, const struct seccomp_notif *call, int64_t *value)
{
    const struct rule *rule = rule_of(call->data.arch, call->data.nr);
    struct asker asker = {.how = how, .listener = LISTENER, .id = call->id, .process = (pid_t)call->pid, .memory = -1};
    uint64_t arguments[6];
    int result = ANSWER_PROCEED;

    for (int i = 0; i < 6; i++)
        arguments[i] = call->data.args[i];
    if (rule != NULL && asker_namespace(asker.process) == namespace)
        result = answer(&asker, rule, arguments);
    fd_close(&asker.memory);
    *value = result == 0 ? asker.value : 0;
    return result;
}

/* The listener hangs up when no process is left under its filter (Linux 5.9). ENOENT: who asked was killed meanwhile. */
static _Noreturn void serve(struct emulation how)
{
    static union {
        struct seccomp_notif call;
        char room[ROOM];
    } question;
    ino_t namespace = asker_namespace(0);
    struct pollfd asked = {.fd = LISTENER, .events = POLLIN};

    (void)listener_do(LISTENER, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    for (;;) {
        if (poll(&asked, 1, -1) < 0 && errno != EINTR)
            _exit(EXIT_FAILURE);
        if (!(asked.revents & POLLIN)) {
            if (asked.revents & (POLLHUP | POLLERR))
                _exit(EXIT_SUCCESS);
            continue;
        }
        memset(&question, 0, sizeof question); /* the kernel wants it so */
        if (!listener_do(LISTENER, SECCOMP_IOCTL_NOTIF_RECV, (uintptr_t)&question)) {
            if (errno == EINTR || errno == ENOENT)
                continue;
            _exit(EXIT_FAILURE);
        }
        (void)alarm(PATIENCE);
        int64_t value;
        int result = answer_call(how, namespace, &question.call, &value);
        (void)alarm(0);
        if (result == ANSWER_GIVEN)
            continue;
        struct seccomp_notif_resp response = {.id = question.call.id, .val = value, .error = result < 0 ? result : 0,
                                              .flags = result == ANSWER_PROCEED ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0};
        (void)listener_do(LISTENER, SECCOMP_IOCTL_NOTIF_SEND, (uintptr_t)&response); /* fails where nobody waits any more */
    }
}

/* ---- its beginning ---- */

/* Nothing is open but the listener and /proc, no terminal sends it a signal, and no program sees into it: of the one that has just been
 * copied the memory may hold what is not the container's. */
static _Noreturn void supervise(struct emulation how, int connection, int proc)
{
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "root-emulator", 0, 0, 0);
    (void)setsid();
    for (int number = 1; number < 32; number++)
        (void)signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)umask(0);
    int listener = handed_receive(connection), moved = fcntl(proc, F_DUPFD_CLOEXEC, KEPT), taken = fcntl(listener, F_DUPFD_CLOEXEC, KEPT);
    if (listener < 0 || fchdir(proc) < 0 || dup3(taken, LISTENER, O_CLOEXEC) < 0 || dup3(moved, PROC, O_CLOEXEC) < 0 ||
        syscall(SYS_close_range, KEPT, ~0U, 0) < 0)
        _exit(EXIT_FAILURE);
    serve(how);
}

/* Two forks: the program never has a child that it did not start. */
static bool start(struct emulation how, int connection, int proc, int other)
{
    pid_t child = fork();

    if (child == 0) {
        close(other);
        if (fork() == 0)
            supervise(how, connection, proc);
        _exit(EXIT_SUCCESS);
    }
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    return child > 0;
}

/* That of the container, and of this process's PID namespace: by it the numbers of those who ask are found. */
static int open_proc(void)
{
    struct statfs status;
    char self[16];
    OWNED_FD proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t length = proc >= 0 && fstatfs(proc, &status) == 0 && status.f_type == PROC_SUPER_MAGIC ? readlinkat(proc, "self", self, sizeof self - 1)
                                                                                                  : -1;

    self[length > 0 ? length : 0] = '\0';
    return atoi(self) == getpid() ? fd_give(&proc) : -1;
}

/* close_range(2) came with Linux 5.9, and the listener's hanging up. */
static bool kernel_notifies(void)
{
    return syscall(SYS_close_range, ~0U, 0, 0) == 0 || errno != ENOSYS;
}

void emulate_root(struct emulation how)
{
    if (!how.one_id && geteuid() != 0) /* --security uid: */
        return;
    OWNED_FD proc = kernel_notifies() ? open_proc() : -1;
    int ends[2] = {-1, -1};
    bool begun = proc >= 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0 && start(how, ends[1], proc, ends[0]);
    OWNED_FD here = ends[0], there = ends[1];
    OWNED_FD listener = filter_begin(begun, how);

    if (listener >= 0 && handed_send(here, listener))
        message_debug("root is emulated: what is done to owners is remembered");
    else if (how.one_id)
        message_verbose("root is emulated, but what is done to owners is not remembered: that needs Linux 5.9 and /proc");
    else
        message_verbose("devices cannot be made: that needs Linux 5.9 and /proc, and no root emulation around this one");
}

#else
void emulate_root(struct emulation how)
{
    (void)how;
    message_verbose("root is not emulated on this machine");
}
#endif
