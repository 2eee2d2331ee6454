/* The processes of a launch: the init of a PID namespace, the launcher that waits outside and passes signals and the status on.
 * Whoever waits has given up all privilege. */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"

/* Blocks all signals, so that sigwaitinfo(2) takes them one by one and none is lost before the child is known. The caller's mask
 * is left in `before`. */
static void signals_hold(sigset_t *before)
{
    sigset_t all;

    sigfillset(&all);
    if (sigprocmask(SIG_BLOCK, &all, before) < 0)
        stop(errno, "hold signals");
}

/* A terminal sends to the whole foreground group: a program in the group has those already, one in another session
 * not. si_code tells the two apart: a signal of kill(2) has a code of 0 or less, one that the kernel sends for a
 * terminal a larger one (sigaction(2)). Stopping is passed on by hand, so that the shell sees its job stop; as
 * process 1 of a PID namespace this process cannot be stopped by itself (pid_namespaces(7)). */
static void forward(pid_t child, const siginfo_t *info, bool other_session)
{
    bool stops = info->si_signo == SIGTSTP || info->si_signo == SIGTTIN || info->si_signo == SIGTTOU;

    if (info->si_code <= 0 || other_session)
        (void)kill(child, info->si_signo);
    if (stops && getpid() != 1)
        (void)kill(getpid(), SIGSTOP);
}

/* Takes signals until `child` has ended; reaps everything else that ends meanwhile. Returns its wait status. */
static int wait_for(pid_t child, bool other_session)
{
    sigset_t all;
    siginfo_t info;

    sigfillset(&all);
    for (;;) {
        int status;
        pid_t ended;
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
            if (ended == child)
                return status;
        if (ended < 0 && errno == ECHILD)
            return EXIT_OWN_FAILURE << 8;
        if (sigwaitinfo(&all, &info) > 0 && info.si_signo != SIGCHLD)
            forward(child, &info, other_session);
    }
}

/* Ends as the program ended: with its status, or by its signal. No second core file: the program's own has been
 * written, and this process holds nothing worth one. The signal is sent while it is blocked and let in at the end, so
 * that it arrives exactly once; _exit() is for a signal that does not end a process. */
static _Noreturn void end_like(int status)
{
    static const struct rlimit no_core = {0, 0};
    sigset_t one;

    if (WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    int number = WTERMSIG(status);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)signal(number, SIG_DFL);
    (void)kill(getpid(), number);
    sigemptyset(&one);
    sigaddset(&one, number);
    (void)sigprocmask(SIG_UNBLOCK, &one, NULL);
    _exit(128 + number);
}

/* Before Linux 5.9, which has close_range(2), one by one up to the usual limit of open files. */
void perform_close(int first)
{
    if (syscall(SYS_close_range, first, ~0U, 0) == 0)
        return;
    for (int fd = first; fd < 1024; fd++)
        (void)close(fd);
}

/* Whoever waits keeps these and nothing else of the host or of the container (R-L3, R-L17). */
enum { OUTSIDE_REPORT = 3, OUTSIDE_ALIVE, OUTSIDE_SERVER, OUTSIDE_UNMOUNTED };

/* The launcher's own process: the one that the caller waits for. While it lives it holds its end of `alive`. The
 * program's status comes through the pipe when an init stands between: the init itself ends with 128+N for a signal,
 * which says less. */
static _Noreturn void wait_outside(pid_t child, int report, int alive, const struct plan *plan, const struct caller *caller)
{
    int status, inner, fds[] = {report, alive, plan->server_fd, plan->unmounted_fd};
    int kept = plan->server_fd > 0 ? 4 : 2;

    privilege_forget(caller);
    for (int i = 0; i < kept; i++)
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 16);
    for (int i = 0; i < kept; i++)
        if (dup3(fds[i], OUTSIDE_REPORT + i, O_CLOEXEC) < 0)
            stop(errno, "wait for the container");
    perform_close(OUTSIDE_REPORT + kept);
    status = wait_for(child, false);
    if (read(OUTSIDE_REPORT, &inner, sizeof inner) == (ssize_t)sizeof inner)
        status = inner;
    if (plan->server_fd > 0)
        fuse_await(OUTSIDE_SERVER, OUTSIDE_UNMOUNTED);
    end_like(status);
}

/* The process between launcher and keeper of a shared container: ends with 0 when the keeper says that all is ready, else as it ends. */
static _Noreturn void wait_ready(pid_t keeper, int report, const struct caller *caller)
{
    int status = 0;
    char ready;

    privilege_forget(caller);
    if (read(report, &ready, 1) == 1)
        _exit(0);
    while (waitpid(keeper, &status, 0) < 0 && errno == EINTR)
        continue;
    end_like(status);
}

/* PR_SET_PDEATHSIG: the kernel clears it whenever ids change, and sends nothing for a parent that has ended before the call. So
 * the end of the launcher's pipe is looked at after it. */
static void follow(int alive)
{
    struct pollfd parent = {.fd = alive};

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || poll(&parent, 1, 0) < 0)
        stop(errno, "follow the launcher's end");
    if (parent.revents & (POLLHUP | POLLERR))
        _exit(EXIT_OWN_FAILURE);
}

/* Signals are blocked before the fork, so that one that arrives between fork and wait is held and not lost. `alive`
 * has its other end in the launcher alone: when that process dies, however it does, the kernel closes it, and
 * follow() has something to look at. */
void perform_fork(struct plan *plan, const struct caller *caller)
{
    int report[2], alive[2];
    sigset_t before;

    if (!(plan->namespaces & CLONE_NEWPID) && plan->keeper_fd < 0 && plan->server_fd == 0)
        return;
    if (pipe2(report, O_CLOEXEC) < 0 || pipe2(alive, O_CLOEXEC) < 0)
        stop(errno, "start the container's first process");
    signals_hold(&before);
    pid_t child = fork();
    if (child < 0)
        stop(errno, "start the container's first process");
    if (child > 0 && plan->keeper_fd >= 0 && !plan->instance) {
        close(report[1]);
        wait_ready(child, report[0], caller);
    }
    if (child > 0)
        wait_outside(child, report[0], alive[1], plan, caller);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    close(report[0]);
    close(alive[1]);
    follow(alive[0]);
    plan->report_fd = report[1];
    plan->alive_fd = alive[0];
}

void perform_follow(const struct plan *plan)
{
    if (plan->alive_fd > 0)
        follow(plan->alive_fd);
}

/* setsid(2) fails for a process group leader, which a program started by a shell usually is; a child of it is none. A
 * session of its own has no controlling terminal, so that no program can push characters into the caller's with
 * TIOCSTI (R-L14; CVE-2017-5226). */
void perform_session(void)
{
    sigset_t before;

    if (setsid() >= 0)
        return;
    signals_hold(&before);
    pid_t child = fork();
    if (child < 0)
        stop(errno, "start the program in a session of its own");
    if (child > 0) {
        perform_close(3);
        end_like(wait_for(child, true));
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || setsid() < 0)
        stop(errno, "a session of its own");
}

/* The init must reap orphans and, being process 1, is the only one that may not end before all others: when it ends
 * the kernel kills what is left (pid_namespaces(7)). It keeps nothing open but the pipe for the status: somebody may
 * wait for the end of a pipe that it inherited. */
void perform_init(const struct plan *plan)
{
    sigset_t before;

    if (!plan->init)
        return;
    signals_hold(&before);
    pid_t child = fork();
    if (child < 0)
        stop(errno, "start the program");
    if (child == 0) {
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        return;
    }
    int report = fcntl(plan->report_fd, F_DUPFD_CLOEXEC, 64);
    (void)prctl(PR_SET_DUMPABLE, 0); /* a launch in the front door's process has the caller's variables in its memory */
    for (int fd = 0; fd < 64; fd++)
        (void)close(fd);
    (void)syscall(SYS_close_range, 64, report - 1, 0);
    (void)syscall(SYS_close_range, report + 1, ~0U, 0);
    int status = wait_for(child, false);
    (void)!write(report, &status, sizeof status);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
