/* The keeper of what launches through user namespaces share: a process of its own that stays outside of every container, which is what
 * proves it. No privilege; not in the setuid program, whose keepers of shared containers are known by root's id. */
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../message.h"
#include "../privilege.h"

enum { BACKLOG = 4096 };

static bool same_space(int process, const char *name)
{
    struct stat its, own;
    char path[48];

    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    bool known = stat(path, &own) == 0;
    snprintf(path, sizeof path, "/proc/%d/ns/%s", process, name);
    return known && stat(path, &its) == 0 && its.st_dev == own.st_dev && its.st_ino == own.st_ino;
}

/* Whether who called listen(), or connect(), on the other side stands where this process stands: in the same user namespace and the same
 * PID namespace. A program in a container has another user namespace; or, where the setuid program made the container, another PID
 * namespace; or it sees this process and all others of its user, may trace them and reach the host through them (ptrace(2), proc(5)), and
 * gains nothing here. It cannot come to ours: setns(2) asks for rights over their owner that nobody in a container has. All else that a
 * keeper has such a program may have too: the user's id, a user namespace that the user made from here, and this very executable, which
 * it can start and trace. The number is the process's own while that is seen to live (SO_PEERPIDFD, Linux 6.5); on older kernels another
 * process may have got it since. Root's id is nobody else's, and a process that has given up root's rights is not shown those that have
 * them. */
static bool stands_here(int connection)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    OWNED_FD process = rendezvous_peer(connection);
    struct pollfd end = {.fd = process, .events = POLLIN};

    if (geteuid() == 0)
        return true;
    if (process < 0 && errno != ENOPROTOOPT)
        return false;
    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0 && same_space((int)peer.pid, "user") &&
           same_space((int)peer.pid, "pid") && poll(&end, 1, 0) == 0;
}

/* Readable for the user's other processes on the host, or they could not see where it stands; programs in containers are in other user
 * namespaces, from which nobody traces it or reads its memory (ptrace(2)). */
static void settle_outside(void)
{
    static struct caller caller; /* too large for a stack that may be limited */

    (void)privilege_begin();
    caller_read(&caller);
    privilege_forget(&caller);
    if (setsid() < 0 || chdir("/") < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
        _exit(EXIT_OWN_FAILURE);
    for (int number = 1; number < 32; number++)
        (void)signal(number, SIG_DFL);
}

/* Two forks: it is nobody's child, and no program in a container will meet it in wait(2). It listens before the launcher goes on, which
 * connects to it. */
bool outside_begin(int place, int *hand)
{
    int ends[2];
    char listens;

    *hand = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return false;
    OWNED_FD inner = ends[0], outer = ends[1];
    pid_t child = fork();
    if (child == 0) {
        if (fork() != 0)
            _exit(0);
        settle_outside();
        if (listen(place, BACKLOG) < 0 || send(outer, "", 1, MSG_NOSIGNAL) != 1)
            _exit(EXIT_OWN_FAILURE);
        *hand = fd_give(&outer);
        return true;
    }
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    fd_close(&outer);
    if (child > 0 && recv(inner, &listens, 1, 0) == 1)
        *hand = fd_give(&inner);
    return false;
}

size_t outside_receive(int hand, int *fds)
{
    uint8_t count;
    char word;

    if (recv(hand, &count, 1, 0) != 1 || count > RENDEZVOUS_SPACES ||
        (count > 0 && (rendezvous_receive(hand, &word, 1, fds, count) != 1 || fds[0] < 0)))
        _exit(EXIT_OWN_FAILURE); /* a launch that has failed says so itself */
    return count;
}

static void leave(int inside)
{
    (void)inside; /* nothing is ever said: the container has ended */
    _exit(0);
}

static int begin(const struct rendezvous *rendezvous, int place)
{
    static struct rendezvous own; /* too large for a stack that may be limited */
    int fds[RENDEZVOUS_SPACES], hand;

    if (!outside_begin(place, &hand)) {
        close(place);
        return hand;
    }
    size_t count = outside_receive(hand, fds);
    own = *rendezvous;
    own.inside = hand;
    own.attend = own.linger == RENDEZVOUS_FOREVER ? leave : NULL;
    rendezvous_keep(&own, place, fds, count);
}

/* The first process of an instance attends to its signals. What is outside says nothing to it, and takes it along. */
static _Noreturn void attend(const struct rendezvous *rendezvous, const int fds[2])
{
    struct pollfd polls[] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};

    for (;;) {
        if (poll(polls, 2, -1) < 0 || polls[0].revents != 0)
            _exit(0);
        rendezvous->attend(fds[1]);
    }
}

/* Stays where it is asked whether its root directory can be read, or is the first process of a PID namespace, which ends with it. No
 * call but statfs(2) is always the server's to answer. */
static void keep(const struct rendezvous *rendezvous, int hand, const int *spaces, size_t count)
{
    const uint8_t number = (uint8_t)count;
    int fds[] = {hand, rendezvous->inside};
    struct statfs place;
    char word;

    if (send(hand, &number, 1, MSG_NOSIGNAL) != 1 || (count > 0 && !rendezvous_send(hand, "", 1, spaces, count)) ||
        (rendezvous->shown == NULL && rendezvous->linger != RENDEZVOUS_FOREVER && getpid() != 1))
        _exit(0);
    (void)prctl(PR_SET_NAME, "sexec-inside");
    (void)prctl(PR_SET_DUMPABLE, 0); /* its memory has the variables of whoever started it, for all containers of this user */
    rendezvous_settle(fds, rendezvous->attend != NULL ? 2 : 1);
    if (rendezvous->attend != NULL)
        attend(rendezvous, fds);
    (void)signal(SIGCHLD, SIG_IGN);  /* as process 1 it gets orphans: the kernel reaps them by itself then */
    while (recv(fds[0], &word, 1, 0) == 1 && statfs("/", &place) == 0 && send(fds[0], "", 1, MSG_NOSIGNAL) == 1)
        continue;
    _exit(0);
}

const struct outside outside_keeper = {stands_here, begin, keep};

void outside_hide_options(char **line, char *const *program, const char *name)
{
    const size_t length = strlen(name) + 1;
    char **last = line;

    while (last[1] != NULL)
        last++;
    char *end = *program != NULL ? *program : *last + strlen(*last) + 1; /* the kernel lays words one behind the other (execve(2)) */
    size_t size = (size_t)(end - line[0]);
    memset(line[0], 0, size);
    memcpy(line[0], name, size < length ? size - 1 : length);
    (void)prctl(PR_SET_NAME, name);
}
