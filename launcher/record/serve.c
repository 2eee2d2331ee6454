/* The recorder's loop: calls are looked at one after the other, signals are handed on to the program, ends of processes are noted. */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "../descriptor.h"
#include "../handed.h"
#include "../message.h"
#include "parts.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6: who asks and who answers run one after the other, on one processor */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

/* AT_ONCE: bytes that are read while others wait. */
enum { HELPERS = 64, AT_ONCE = 1 << 20 };

/* Reads a large file, and lets the call go on. */
struct helper {
    pid_t process;
    uint64_t id;
};

struct recorder {
    const struct recording *recording;
    int signals;
    int listener;
    pid_t first;  /* who called first becomes the program */
    int root;
    ino_t mounts;
    bool ended;   /* the program */
    struct helper helpers[HELPERS];
};

/* ---- helpers ---- */

/* False: there are too many, or no more processes; then the others wait. */
static bool start_helper(struct recorder *recorder, struct question *question, uint64_t id)
{
    for (size_t i = 0; i < HELPERS; i++) {
        if (recorder->helpers[i].process != 0)
            continue;
        pid_t child = log_flush() ? fork() : -1;
        if (child == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
            record_digests(question);
            (void)log_flush();
            record_call_done(question);
            listener_continue(recorder->listener, id);
            _exit(EXIT_SUCCESS);
        }
        if (child > 0)
            recorder->helpers[i] = (struct helper){child, id};
        return child > 0;
    }
    return false;
}

/* Somebody may have killed it before it let the call go on. */
static void end_helper(struct recorder *recorder, pid_t process)
{
    for (size_t i = 0; i < HELPERS; i++)
        if (recorder->helpers[i].process == process) {
            listener_continue(recorder->listener, recorder->helpers[i].id);
            recorder->helpers[i].process = 0;
        }
}

static void wait_for_helpers(struct recorder *recorder)
{
    for (size_t i = 0; i < HELPERS; i++)
        while (recorder->helpers[i].process != 0) {
            pid_t ended = waitpid(recorder->helpers[i].process, NULL, 0);
            if (ended > 0 || errno != EINTR)
                end_helper(recorder, recorder->helpers[i].process);
        }
}

/* ---- what happens ---- */

static void take_call(struct recorder *recorder)
{
    static union notice notice;
    static struct question question = {.place.fd = -1, .other.fd = -1};
    const struct seccomp_notif *call = &notice.call;
    char name[32];

    if (!listener_receive(recorder->listener, &notice)) {
        fd_close(&recorder->listener);
        return;
    }
    if (call->id == 0)
        return;
    if (recorder->first == 0) {
        recorder->first = (pid_t)call->pid;
        snprintf(name, sizeof name, "/proc/%d/root", (int)call->pid);
        recorder->root = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        recorder->mounts = look_mounts(recorder->first);
    }
    question.recording = recorder->recording;
    question.call = record_call(call->data.arch, call->data.nr);
    question.arguments = call->data.args;
    question.who = (struct caller_of){(pid_t)call->pid, record_compatible(call->data.arch), recorder->root, recorder->mounts};
    question.begins = recorder->first == (pid_t)call->pid;
    question.before_count = 0;
    patience_turn_begins(call->id);
    record_call_seen(&question);
    bool helped = record_size(&question) > AT_ONCE && start_helper(recorder, &question, call->id);
    if (!helped)
        record_digests(&question);
    record_call_done(&question);
    if (!helped)
        listener_continue(recorder->listener, call->id);
    (void)log_flush();
    patience_turn_ends();
}

static void take_listener(struct recorder *recorder)
{
    recorder->listener = handed_receive(recorder->recording->connection);
    (void)listener_do(recorder->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    if (recorder->listener >= 0)
        patience_begin(recorder->listener, recorder->recording->program);
}

/* Signals of the terminal have reached the program by themselves. Ends of processes: those of the container too, whose parents have ended. */
static void take_signal(struct recorder *recorder)
{
    struct signalfd_siginfo signal;
    int status;

    if (read(recorder->signals, &signal, sizeof signal) != (ssize_t)sizeof signal)
        return;
    if (signal.ssi_signo != SIGCHLD) {
        if (signal.ssi_code <= 0)
            (void)kill(recorder->recording->program, (int)signal.ssi_signo);
        return;
    }
    for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
        end_helper(recorder, ended);
        if (ended != recorder->recording->program)
            continue;
        recorder->ended = true;
        wait_for_helpers(recorder);
        record_end(status, recorder->listener >= 0 || recorder->first != 0);
    }
}

/* Who reads the program's output waits for its end, and not for that of a recorder which the kernel may keep (patience.c). */
static void let_streams_go(void)
{
    OWNED_FD nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int fd = 0; fd < 3 && nothing >= 0; fd++)
        (void)dup2(nothing, fd);
}

bool record_serve(const struct recording *recording)
{
    static struct recorder recorder;
    sigset_t all;

    sigfillset(&all);
    recorder = (struct recorder){.recording = recording, .signals = signalfd(-1, &all, SFD_CLOEXEC), .listener = -1, .root = -1};
    if (recorder.signals < 0)
        stop(errno, "--record: signals");
    let_streams_go();
    log_begin(recording->log);
    mounts_begin(recording->image);
    while (!recorder.ended) {
        struct pollfd asked[] = {{.fd = recorder.signals, .events = POLLIN},
                                 {.fd = recorder.listener >= 0 ? recorder.listener : recorder.first == 0 ? recording->connection : -1, .events = POLLIN}};
        if (poll(asked, 2, -1) < 0 && errno != EINTR)
            stop(errno, "--record");
        if (asked[1].revents & POLLIN)
            recorder.listener >= 0 ? take_call(&recorder) : take_listener(&recorder);
        else if (asked[1].revents & (POLLHUP | POLLERR))
            recorder.listener >= 0 ? fd_close(&recorder.listener) : (void)(recorder.first = -1);
        if (asked[0].revents & POLLIN)
            take_signal(&recorder);
    }
    bool whole = log_flush();
    struct pollfd left = {.fd = recorder.listener, .events = POLLIN};
    if (recorder.listener >= 0 && !(poll(&left, 1, 0) == 1 && (left.revents & POLLHUP)) && fork() == 0)
        serve_unseen(recorder.listener); /* nobody waits for it */
    return whole;
}
