/* The keeper of what launches share: it answers who asks for the namespaces that it has, as the kernel says who that is. Without any
 * privilege, and not in the setuid program, which executes sexec-judge for it. */
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../perform/perform.h"

/* GUESTS: more than a node has ranks (R-J2: bounded number, bounded time). */
enum { GUESTS = 2048, FIRST_FD = 3 };

/* A guest is first the connection on which it will ask, then the process that asked. A pidfd becomes readable when
 * its process ends (pidfd_open(2)): one poll(2) covers those who ask and those who are in. */
enum { PLACE, INSIDE, FIRST_GUEST };
struct guests {
    struct pollfd polls[FIRST_GUEST + GUESTS];
    time_t until[FIRST_GUEST + GUESTS]; /* when one that has not asked is shown out; 0: it has asked */
    nfds_t count;                       /* with those that are no guests */
    nfds_t silent;                      /* how many have not asked */
};

static time_t now(void)
{
    struct timespec time = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

/* Strangers' connections are closed unread: closing a descriptor received with a message could block for as long as they like. */
static void accept_all(const struct rendezvous *rendezvous, struct guests *guests)
{
    while (guests->count < FIRST_GUEST + GUESTS) {
        OWNED_FD connection = accept4(guests->polls[PLACE].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (connection < 0)
            return;
        if (!rendezvous_peer_is(rendezvous, connection, geteuid()))
            continue;
        guests->until[guests->count] = now() + RENDEZVOUS_PATIENCE;
        guests->polls[guests->count++] = (struct pollfd){.fd = fd_give(&connection), .events = POLLIN};
        guests->silent++;
    }
}

/* The process that has asked and was let in; -1: it was not. The key is compared with all of ours: the hash in the
 * name only makes strangers unlikely. A guest that asks for another container is told so at once. */
static int answer(const struct rendezvous *rendezvous, int connection, const int *spaces, size_t count)
{
    static uint8_t key[RENDEZVOUS_KEY];
    OWNED_FD process = rendezvous_peer(connection);
    bool told = process >= 0 || errno != ENOPROTOOPT;
    ssize_t size = rendezvous_receive(connection, key, sizeof key, &process, told ? 0 : 1);
    bool same = process >= 0 && size > 0 && (size_t)size == rendezvous->key_size && memcmp(key, rendezvous->key, (size_t)size) == 0;
    bool stays = rendezvous->shown != NULL;
    char alive;

    /* the server of what is kept may have ended, or stand still: a guest has no answer then, and an image of its own */
    if (stays && same && (send(spaces[count + 1], "", 1, MSG_NOSIGNAL) != 1 || recv(spaces[count + 1], &alive, 1, 0) != 1))
        _exit(0);
    if (stays && !same && size == 3 && memcmp(key, "end", 3) == 0)
        _exit(0);
    if (!same) {
        bool asked = stays && size == 4 && memcmp(key, "list", 4) == 0;
        (void)send(connection, asked ? rendezvous->shown : "n", asked ? strlen(rendezvous->shown) : 1, MSG_NOSIGNAL);
        return -1;
    }
    return rendezvous_send(connection, "y", 1, spaces, count) ? fd_give(&process) : -1;
}

/* The last one moves into the gap; who walks the list goes from its end, so that none is passed over. */
static void forget(struct guests *guests, nfds_t number)
{
    close(guests->polls[number].fd);
    guests->silent -= guests->until[number] != 0;
    guests->count--;
    guests->polls[number] = guests->polls[guests->count];
    guests->until[number] = guests->until[guests->count];
}

/* One that has something to say is let in or not; one that has said nothing for long, or has ended, goes. */
static void attend(struct guests *guests, nfds_t number, const struct rendezvous *rendezvous, const int *spaces, size_t count)
{
    struct pollfd *guest = &guests->polls[number];
    bool asks = guest->revents != 0 && guests->until[number] != 0;
    int process = asks ? answer(rendezvous, guest->fd, spaces, count) : -1;

    if (process < 0) {
        if (guest->revents != 0 || (guests->until[number] != 0 && now() > guests->until[number]))
            forget(guests, number);
        return;
    }
    close(guest->fd);
    *guest = (struct pollfd){.fd = process, .events = POLLIN};
    guests->until[number] = 0;
    guests->silent--;
}

/* Closes all but the socket and the namespaces: who reads a rank's output waits until nobody has it open any more. In
 * three steps, so that no descriptor lands on one that is still needed. */
void rendezvous_settle(int *fds, size_t count)
{
    OWNED_FD nothing = memfd_create("nothing", MFD_CLOEXEC);

    for (size_t i = 0; i < count; i++)
        if ((fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 64)) < 0)
            _exit(EXIT_OWN_FAILURE);
    for (int fd = 0; fd < FIRST_FD; fd++)
        if (dup2(nothing, fd) < 0)
            _exit(EXIT_OWN_FAILURE);
    for (size_t i = 0; i < count; i++)
        if ((fds[i] = dup3(fds[i], FIRST_FD + (int)i, O_CLOEXEC)) < 0)
            _exit(EXIT_OWN_FAILURE);
    nothing = -1;
    perform_close(FIRST_FD + (int)count);
}

/* One descriptor a guest: the soft limit is often 1024 (getrlimit(2)). */
static void raise_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* Milliseconds for which a keeper without guests stays, whose last one was seen then; -1: for ever. */
static int time_left(const struct rendezvous *rendezvous, time_t used)
{
    if (rendezvous->linger == RENDEZVOUS_FOREVER)
        return -1;
    time_t end = used + (time_t)rendezvous->linger + 1, time = now();

    return rendezvous->linger == 0 || time >= end ? 0 : (int)(end - time) * 1000;
}

/* Ends when nobody has asked yet and nobody waits, or the last guest has ended, and some time after that where it lingers; guests that are
 * silent are looked at once a second for their time-out. Who asks must be the keeper's own user, whatever he says: rendezvous_peer_is()
 * comes before the first byte is read (R-J2). */
static _Noreturn void attend_all(const struct rendezvous *rendezvous, struct guests *guests, const int *spaces, size_t count)
{
    time_t used = now();

    for (;;) {
        bool empty = guests->count == FIRST_GUEST;
        int ready = poll(guests->polls, guests->count, guests->silent > 0 ? 1000 : empty ? time_left(rendezvous, used) : -1);
        if ((ready == 0 && empty) || (ready < 0 && errno != EINTR && errno != EAGAIN))
            _exit(0);
        used = empty ? used : now(); /* strangers, who are shown out, make nothing last longer */
        if (ready > 0 && rendezvous->attend != NULL && guests->polls[INSIDE].revents != 0)
            rendezvous->attend(guests->polls[INSIDE].fd);
        for (nfds_t i = guests->count - 1; ready >= 0 && i >= FIRST_GUEST; i--)
            attend(guests, i, rendezvous, spaces, count);
        if (ready > 0 && guests->polls[PLACE].revents != 0)
            accept_all(rendezvous, guests);
        guests->polls[PLACE].events = guests->count == FIRST_GUEST + GUESTS ? 0 : POLLIN;
    }
}

_Noreturn void rendezvous_keep(const struct rendezvous *rendezvous, int place, const int *spaces, size_t count)
{
    static struct guests guests;
    int fds[RENDEZVOUS_SPACES + 3];

    memcpy(fds, spaces, count * sizeof(int));
    fds[count] = place;
    fds[count + 1] = rendezvous->inside;
    fds[count + 2] = rendezvous->watch;
    raise_limit();
    rendezvous_settle(fds, count + (rendezvous->watch > 0 ? 3 : rendezvous->inside > 0 ? 2 : 1));
    if (rendezvous->script <= 0)
        (void)signal(SIGCHLD, SIG_IGN); /* as process 1 of a PID namespace it gets orphans: the kernel reaps them by itself then */
    guests.polls[PLACE] = (struct pollfd){.fd = fds[count], .events = POLLIN};
    guests.polls[INSIDE] = (struct pollfd){.fd = rendezvous->attend != NULL ? fds[count + 1] : -1, .events = POLLIN};
    guests.count = FIRST_GUEST;
    (void)fcntl(fds[count], F_SETFL, O_NONBLOCK);
    attend_all(rendezvous, &guests, fds, count);
}

/* ---- whoever keeps what this process has set up ---- */

int keeper_program(void)
{
    return -1; /* this one */
}

_Noreturn void keeper_run(const struct rendezvous *given, int place, const int *spaces, size_t count)
{
    static struct rendezvous own; /* too large for a stack that may be limited */

    own = *given;
    if (own.script > 0)
        instance_begin(&own);
    if (own.outside != NULL)
        own.outside->keep(&own, place, spaces, count);
    rendezvous_keep(&own, place, spaces, count);
}
