/* Where the launches that share a container find each other: a socket without a file, its keeper and the guests. Raises no
 * privilege; whoever connects is a stranger until the kernel has said who he is. */
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "../location.h"
#include "../perform/perform.h"

/* GUESTS: more than a node has ranks. A minute for the answer: setting up may mount an image over a slow network.
 * ACCEPT_SECONDS bounds connect(2), which waits as long as the backlog is full (R-J2: bounded number, bounded time). */
enum { GUESTS = 2048, ANSWER_SECONDS = 60, ACCEPT_SECONDS = 3, FIRST_FD = 3 };

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

/* ---- the key ---- */

__attribute__((format(printf, 2, 3))) static void add(struct rendezvous *rendezvous, const char *format, ...)
{
    char *end = (char *)rendezvous->key + rendezvous->key_size;
    size_t room = sizeof rendezvous->key - rendezvous->key_size;
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(end, room, format, arguments);
    va_end(arguments);
    rendezvous->key_size = length < 0 || (size_t)length >= room ? sizeof rendezvous->key : rendezvous->key_size + (size_t)length;
}

static void add_file(struct rendezvous *rendezvous, const char *what, const struct stat *status)
{
    add(rendezvous, "%s %llu:%llu %lld %lld.%09ld\n", what, (unsigned long long)status->st_dev,
        (unsigned long long)status->st_ino, (long long)status->st_size, (long long)status->st_mtim.tv_sec,
        status->st_mtim.tv_nsec);
}

/* Size and time of an image that is written change while ranks start: they are no part of the key. */
static void add_image(struct rendezvous *rendezvous, int fd, bool writable)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return;
    if (writable) {
        status.st_size = 0;
        status.st_mtim = (struct timespec){0};
    }
    add_file(rendezvous, "image", &status);
}

/* All groups, since the members of one may open what the others may not: who shares must have exactly the same
 * rights. */
static void add_user(struct rendezvous *rendezvous, const struct plan *plan, const struct caller *caller)
{
    add(rendezvous, "mode %d user %u group %u others", (int)plan->mode, (unsigned)caller->uid, (unsigned)caller->gid);
    for (int i = 0; i < caller->group_count; i++)
        add(rendezvous, " %u", (unsigned)caller->groups[i]);
    add(rendezvous, "\n");
}

/* Paths mean the same only to those that see the same: their root directory, mounts and processes. */
static void add_surroundings(struct rendezvous *rendezvous)
{
    static const char *const names[] = {"user", "mnt", "pid", "ipc", "uts", "net", "cgroup", "time"};
    struct stat status;
    char path[32];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "self/ns/%s", names[i]);
        if (fstatat(proc_fd(), path, &status, 0) == 0)
            add(rendezvous, "%s %llu\n", names[i], (unsigned long long)status.st_ino);
    }
    if (stat("/", &status) == 0)
        add(rendezvous, "root %llu:%llu\n", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
    if (stat(location_config(), &status) == 0)
        add_file(rendezvous, "configuration", &status);
}

/* What each rank may have its own of, and what only says how its program starts, is left out. request_encode() writes
 * fields in one fixed order, so that equal requests are equal bytes. */
static bool add_request(struct rendezvous *rendezvous, const struct request *request)
{
    static struct request common; /* too large for a stack that may be limited */
    struct error error = {0};

    memcpy(&common, request, offsetof(struct request, text_store));
    common.colour = common.new_session = common.join_asked = false;
    common.cleanenv = common.no_eval = common.no_umask = false;
    common.action = common.level = common.stack_soft = 0;
    common.shell = common.app = common.userns_reason = common.join_reason = common.linger_key = common.linger_file = common.linger_reason = NULL;
    common.keep_fd_count = common.variable_count = common.restriction_count = 0;
    for (uint32_t i = 0; i < common.bind_count; i++)
        common.bind[i].number &= BIND_READONLY; /* whoever asked for it */
    rendezvous->key_size = request_encode(&common, rendezvous->key, sizeof rendezvous->key, &error);
    return rendezvous->key_size > 0;
}

/* FNV-1a: names only have to differ, for the key itself is compared too. */
static uint64_t digest(const struct rendezvous *rendezvous, uint64_t start)
{
    for (size_t i = 0; i < rendezvous->key_size; i++)
        start = (start ^ rendezvous->key[i]) * UINT64_C(0x100000001b3);
    return start;
}

/* The socket's name starts with a NUL: an abstract address, in no file system and gone with its last descriptor
 * (unix(7)). It belongs to the network namespace and has no permissions, so that any user may take or guess it
 * (CVE-2020-15257 was such a socket without a check): what counts is SO_PEERCRED. */
void rendezvous_name(struct rendezvous *rendezvous, const char *begin)
{
    struct sockaddr_un *address = &rendezvous->address;

    address->sun_family = AF_UNIX;
    int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "%s%016llx%016llx", begin,
                          (unsigned long long)digest(rendezvous, UINT64_C(0xcbf29ce484222325)),
                          (unsigned long long)digest(rendezvous, UINT64_C(0x9e3779b97f4a7c15)));
    rendezvous->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

const char *rendezvous_prepare(struct rendezvous *rendezvous, const struct plan *plan, const struct plan_inputs *inputs)
{
    if (!add_request(rendezvous, inputs->request))
        return "the options are too long";
    add_user(rendezvous, plan, inputs->caller);
    add_image(rendezvous, inputs->image->fd, inputs->request->writable);
    for (uint32_t i = 0; i < inputs->request->overlay_count; i++)
        add_image(rendezvous, inputs->overlays[i].fd, !(inputs->request->overlay[i].number & OVERLAY_READONLY));
    add_surroundings(rendezvous);
    if (rendezvous->key_size >= sizeof rendezvous->key)
        return "the options are too long";
    rendezvous->keeper = inputs->setuid ? 0 : inputs->caller->uid;
    rendezvous->patience = ANSWER_SECONDS;
    rendezvous_name(rendezvous, "singularity-join-");
    return NULL;
}

/* ---- those who ask ---- */

/* A socket to which nobody can send descriptors, and so are those that it accepts: what one of a stranger's does when
 * it is closed, and for how long, is his to say. Kernels before Linux 6.16 have no such thing. SOCK_SEQPACKET: a
 * message arrives whole or not at all, and with it its descriptors. */
static int closed_socket(void)
{
    const int no = 0;
    OWNED_FD closed = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (closed < 0 || (setsockopt(closed, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof no) < 0 && errno != ENOPROTOOPT))
        return -1;
    return fd_give(&closed);
}

int rendezvous_bind(const struct rendezvous *rendezvous)
{
    OWNED_FD place = closed_socket();

    if (place < 0 || bind(place, (const struct sockaddr *)&rendezvous->address, rendezvous->address_size) < 0)
        return -1;
    return fd_give(&place);
}

/* Who called listen() or connect() on the other side, in the ids of our user namespace. Recorded by the kernel at
 * listen(2) and connect(2) and never changed afterwards (unix(7), SO_PEERCRED): a descriptor that is passed on says
 * who made the connection, not who has it. */
static bool peer_is(const struct rendezvous *rendezvous, int connection, uid_t uid)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == uid &&
           (rendezvous->outside == NULL || rendezvous->outside->stands_here(connection));
}

/* The process that called connect(), or listen(), on the other side; -1: it is gone, or (ENOPROTOOPT) the kernel
 * cannot tell. A pidfd and not a number: a number can be another process's by the time that it is looked at
 * (pidfd_open(2)). */
int rendezvous_peer(int connection)
{
    int process = -1;
    socklen_t size = sizeof process;

    return getsockopt(connection, SOL_SOCKET, SO_PEERPIDFD, &process, &size) == 0 ? process : -1;
}

bool rendezvous_send(int connection, const void *bytes, size_t size, const int *fds, size_t count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(RENDEZVOUS_SPACES * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec vector = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes,
                             .msg_controllen = (socklen_t)(count > 0 ? CMSG_SPACE(count * sizeof(int)) : 0)};

    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = (socklen_t)CMSG_LEN(count * sizeof(int))};
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
    return sendmsg(connection, &message, MSG_NOSIGNAL) == (ssize_t)size;
}

/* The bytes received, -1 on failure; descriptors that are more or fewer than `count` are closed, and `fds` filled
 * with -1. MSG_CMSG_CLOEXEC, so that nothing received gets to a program. MSG_CTRUNC says that there were more than
 * fit; the kernel has closed those, and what did fit is closed here. */
ssize_t rendezvous_receive(int connection, void *bytes, size_t size, int *fds, size_t count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(RENDEZVOUS_SPACES * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec vector = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t length;
    int got[RENDEZVOUS_SPACES];
    size_t found = 0;

    memset(fds, -1, count * sizeof(int));
    while ((length = recvmsg(connection, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        continue;
    struct cmsghdr *header = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        found = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(got, CMSG_DATA(header), found * sizeof(int));
    }
    if (found == count && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        memcpy(fds, got, count * sizeof(int));
    else
        for (size_t i = 0; i < found; i++)
            close(got[i]);
    return length;
}

/* Connected to a keeper, from whom descriptors may come from now on. -1: nobody listens, unless `obstacle` is set. */
static int connect_keeper(const struct rendezvous *rendezvous, const char **obstacle)
{
    const struct timeval accepted = {.tv_sec = ACCEPT_SECONDS}, answered = {.tv_sec = rendezvous->patience};
    const int yes = 1;
    OWNED_FD connection = closed_socket();

    if (connection < 0 || setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &accepted, sizeof accepted) < 0 ||
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &answered, sizeof answered) < 0)
        *obstacle = errno_words(errno);
    else if (connect(connection, (const struct sockaddr *)&rendezvous->address, rendezvous->address_size) < 0)
        *obstacle = errno == ECONNREFUSED ? NULL : errno == EAGAIN ? "who has its name accepts nobody" : errno_words(errno);
    else if (!peer_is(rendezvous, connection, rendezvous->keeper))
        *obstacle = "a program that is not this one has taken the name of its meeting";
    else if (setsockopt(connection, SOL_SOCKET, SO_PASSRIGHTS, &yes, sizeof yes) < 0 && errno != ENOPROTOOPT)
        *obstacle = errno_words(errno);
    else
        return fd_give(&connection);
    return -1;
}

int rendezvous_ask(const struct rendezvous *rendezvous, const char **obstacle)
{
    OWNED_FD connection = connect_keeper(rendezvous, obstacle);
    OWNED_FD keeper = connection >= 0 ? rendezvous_peer(connection) : -1;
    bool told = keeper >= 0 || errno != ENOPROTOOPT; /* who asks, by the kernel; before Linux 6.5 by ourselves */
    OWNED_FD self = connection >= 0 && !told ? (int)syscall(SYS_pidfd_open, getpid(), 0) : -1;

    if (connection < 0)
        return -1;
    if (!told && self < 0) {
        *obstacle = errno == ENOSYS ? "that needs Linux 5.3 or newer" : errno_words(errno);
        return -1;
    }
    if (rendezvous_send(connection, rendezvous->key, rendezvous->key_size, &self, told ? 0 : 1))
        return fd_give(&connection);
    *obstacle = errno == EPIPE || errno == ECONNRESET ? NULL : errno_words(errno);
    return -1;
}

bool rendezvous_answered(int connection, int *spaces, size_t count, const char **obstacle)
{
    char word = 0;
    ssize_t length = rendezvous_receive(connection, &word, 1, spaces, count);

    if (length < 0 && errno == EAGAIN)
        *obstacle = "no answer in time";
    if (length != 1)
        return false;
    if (word == 'y' && spaces[0] >= 0)
        return true;
    *obstacle = "its keeper has another container";
    return false;
}

void rendezvous_missed(struct plan *plan, const struct request *request, const char *obstacle)
{
    if (obstacle == NULL)
        obstacle = "those who set it up came to their end";
    if (request->join_asked)
        message_warning("--join=yes: a container of its own all the same: %s", obstacle);
    else
        message_verbose("a container of its own (%s): %s", plan->join_reason, obstacle);
    plan->join = false;
}

/* ---- the keeper ---- */

/* A guest is first the connection on which it will ask, then the process that asked. A pidfd becomes readable when
 * its process ends (pidfd_open(2)): one poll(2) covers those who ask and those who are in. */
struct guests {
    struct pollfd polls[GUESTS + 1]; /* [0] is the place */
    time_t until[GUESTS + 1];        /* when one that has not asked is shown out; 0: it has asked */
    nfds_t count;                    /* with the place */
    nfds_t silent;                   /* how many have not asked */
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
    while (guests->count <= GUESTS) {
        OWNED_FD connection = accept4(guests->polls[0].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (connection < 0)
            return;
        if (!peer_is(rendezvous, connection, geteuid()))
            continue;
        guests->until[guests->count] = now() + ANSWER_SECONDS;
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

/* Milliseconds for which a keeper without guests stays, whose last one was seen then. */
static int time_left(const struct rendezvous *rendezvous, time_t used)
{
    time_t end = used + (time_t)rendezvous->linger + 1, time = now();

    return rendezvous->linger == 0 || time >= end ? 0 : (int)(end - time) * 1000;
}

/* Ends when nobody has asked yet and nobody waits, or the last guest has ended, and some time after that where it lingers; guests that are silent are looked at
 * once a second for their time-out. Who asks must be the keeper's own user, whatever he says: peer_is() comes before
 * the first byte is read (R-J2). */
_Noreturn void rendezvous_keep(const struct rendezvous *rendezvous, int place, const int *spaces, size_t count)
{
    static struct guests guests;
    time_t used = now();
    int fds[RENDEZVOUS_SPACES + 3];

    memcpy(fds, spaces, count * sizeof(int));
    fds[count] = place;
    fds[count + 1] = rendezvous->inside;
    fds[count + 2] = rendezvous->watch;
    raise_limit();
    rendezvous_settle(fds, count + (rendezvous->watch > 0 ? 3 : rendezvous->inside > 0 ? 2 : 1));
    (void)signal(SIGCHLD, SIG_IGN); /* as process 1 of a PID namespace it gets orphans: the kernel reaps them by itself then */
    guests.polls[0] = (struct pollfd){.fd = fds[count], .events = POLLIN};
    guests.count = 1;
    (void)fcntl(fds[count], F_SETFL, O_NONBLOCK);
    for (;;) {
        int ready = poll(guests.polls, guests.count, guests.silent > 0 ? 1000 : guests.count > 1 ? -1 : time_left(rendezvous, used));
        if ((ready == 0 && guests.count == 1) || (ready < 0 && errno != EINTR && errno != EAGAIN))
            _exit(0);
        used = guests.count > 1 ? now() : used; /* strangers, who are shown out, make nothing last longer */
        for (nfds_t i = guests.count - 1; ready >= 0 && i > 0; i--)
            attend(&guests, i, rendezvous, fds, count);
        if (ready > 0 && guests.polls[0].revents != 0)
            accept_all(rendezvous, &guests);
        guests.polls[0].events = guests.count > GUESTS ? 0 : POLLIN;
    }
}
