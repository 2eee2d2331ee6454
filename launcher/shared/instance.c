/* The inside of an instance: its first process, which reaps what ends in it and ends with what it was started for when it is told to,
 * and the word to `singularity instance start` that all is ready. No privilege. */
#include "shared.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../front/instance.h"
#include "../message.h"

/* ---- the first process ---- */

struct life {
    pid_t script; /* what the instance was started for, the leader of its process group; 0: it has ended, and the instance stays */
    int last;     /* the signal that it got last */
    bool ending;
};

static struct life *life(void)
{
    static struct life own;

    return &own;
}

/* Whether the default action of a signal is not to end a process (signal(7)). */
static bool spares(int number)
{
    return number == SIGCONT || number == SIGURG || number == SIGWINCH || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

/* Servers read their configuration again, or something like that. */
static bool has_other_uses(int number)
{
    return number == SIGHUP || number == SIGUSR1 || number == SIGUSR2;
}

/* With the end of this process the kernel ends all others of the PID namespace (pid_namespaces(7)). */
static void reap(struct life *own)
{
    int status;
    pid_t ended;

    while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
        if (ended != own->script)
            continue;
        own->script = 0;
        if (own->ending || (WIFSIGNALED(status) && WTERMSIG(status) == own->last))
            _exit(0);
    }
}

/* To all of the script's process group, as a terminal would. Where there is none any more, whoever wants an end has it now. */
static void pass_on(struct life *own, int number)
{
    bool spared = spares(number);

    own->last = number;
    own->ending |= !spared && !has_other_uses(number);
    if ((own->script == 0 || kill(-own->script, number) < 0) && !spared)
        _exit(0);
}

static void attend(int signals)
{
    struct signalfd_siginfo info;

    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGCHLD)
            reap(life());
        else
            pass_on(life(), (int)info.ssi_signo);
}

/* What is blocked is kept for the first process of a PID namespace, too, which otherwise gets no signal that it has no handler for. */
void instance_begin(struct rendezvous *rendezvous)
{
    sigset_t all;

    sigfillset(&all);
    life()->script = rendezvous->script;
    (void)prctl(PR_SET_NAME, "instance");
    (void)prctl(PR_SET_DUMPABLE, 0); /* its memory has the variables of whoever started it */
    rendezvous->attend = attend;
    if (sigprocmask(SIG_SETMASK, &all, NULL) < 0 || (rendezvous->inside = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        stop(errno, "keep the instance");
    reap(life()); /* what has ended already tells nobody any more */
}

/* ---- the process that becomes the script ---- */

/* Nobody has written the instance down, who therefore could not be stopped. The first process may not listen yet. */
static _Noreturn void end_instance(void)
{
    const struct timespec pause = {.tv_nsec = 10000000};

    while (getpid() != 1 && kill(1, SIGTERM) == 0)
        (void)nanosleep(&pause, NULL);
    _exit(EXIT_OWN_FAILURE);
}

/* A session of its own: a process group for signals, and no terminal. Who reads knows by the kernel's word which process this is
 * (SO_PASSCRED), and so which one is the first. */
void instance_tell(const struct request *request, bool userns)
{
    const struct request_entry *kept = request->keep_fd;

    if (!request->instance_starts)
        return;
    if (request->keep_fd_count < INSTANCE_DESCRIPTORS)
        stop(0, "launch request for an instance without its descriptors");
    const int told = (int)kept[INSTANCE_TOLD].number, logs[] = {(int)kept[INSTANCE_OUTPUT].number, (int)kept[INSTANCE_ERRORS].number};
    char word = userns ? 'u' : 'p';
    (void)setsid();
    if (send(told, &word, 1, MSG_NOSIGNAL) != 1 || recv(told, &word, 1, 0) != 1)
        end_instance();
    if (dup2(logs[0], STDOUT_FILENO) < 0 || dup2(logs[1], STDERR_FILENO) < 0)
        end_instance();
    close(told);
    close(logs[0]);
    close(logs[1]);
    message_begin(message_level_get(), false);
}
