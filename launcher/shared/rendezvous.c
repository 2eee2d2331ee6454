/* Where the launches that share a container find each other: a socket without a file, and what is asked there. Raises no
 * privilege; whoever connects is a stranger until the kernel has said who he is. */
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "../location.h"

/* Bounds connect(2), which waits as long as the backlog is full (R-J2: bounded time). */
enum { ACCEPT_SECONDS = 3 };

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

/* Paths mean the same only to those that see the same: their root directory, mounts and processes. An instance is asked for by its
 * name, which means the same to those that see the same processes. */
static void add_surroundings(struct rendezvous *rendezvous, bool named)
{
    static const char *const names[] = {"user", "pid", "mnt", "ipc", "uts", "net", "cgroup", "time"};
    struct stat status;
    char path[32];

    for (size_t i = 0; i < (named ? 2 : sizeof names / sizeof names[0]); i++) {
        snprintf(path, sizeof path, "self/ns/%s", names[i]);
        if (fstatat(proc_fd(), path, &status, 0) == 0)
            add(rendezvous, "%s %llu\n", names[i], (unsigned long long)status.st_ino);
    }
    if (stat("/", &status) == 0)
        add(rendezvous, "root %llu:%llu\n", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
    if (!named && stat(location_config(), &status) == 0)
        add_file(rendezvous, "configuration", &status);
}

/* What each rank may have its own of, and what only says how its program starts, is left out. request_encode() writes
 * fields in one fixed order, so that equal requests are equal bytes. */
static bool add_request(struct rendezvous *rendezvous, const struct request *request)
{
    static struct request common; /* too large for a stack that may be limited */
    struct error error = {0};

    memcpy(&common, request, offsetof(struct request, text_store));
    common.colour = common.new_session = common.join_asked = common.cleanenv = common.no_eval = common.no_umask = false;
    common.action = common.level = common.stack_soft = 0;
    common.shell = common.app = common.target_cwd = common.userns_reason = common.join_reason = NULL;
    common.linger_key = common.linger_file = common.linger_reason = NULL;
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

/* An instance is known by its name: what it was made of may be gone by now, and is nothing that enters it. */
static bool add_container(struct rendezvous *rendezvous, const struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;

    if (plan->instance) {
        add(rendezvous, "%s in %llx\n", request->join_step, (unsigned long long)plan->namespaces);
        return true;
    }
    if (!add_request(rendezvous, request))
        return false;
    add_image(rendezvous, inputs->image->fd, request->writable);
    for (uint32_t i = 0; i < request->overlay_count; i++)
        add_image(rendezvous, inputs->overlays[i].fd, !(request->overlay[i].number & OVERLAY_READONLY));
    return true;
}

const char *rendezvous_prepare(struct rendezvous *rendezvous, const struct plan *plan, const struct plan_inputs *inputs)
{
    if (!add_container(rendezvous, plan, inputs))
        return "the options are too long";
    add_user(rendezvous, plan, inputs->caller);
    add_surroundings(rendezvous, plan->instance);
    if (rendezvous->key_size >= sizeof rendezvous->key)
        return "the options are too long";
    rendezvous->keeper = inputs->setuid ? 0 : inputs->caller->uid;
    rendezvous->patience = RENDEZVOUS_PATIENCE;
    rendezvous->program = keeper_program();
    rendezvous->linger = plan->instance ? RENDEZVOUS_FOREVER : 0;
    rendezvous_name(rendezvous, plan->instance ? "singularity-instance-" : "singularity-join-");
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
bool rendezvous_peer_is(const struct rendezvous *rendezvous, int connection, uid_t uid)
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
    else if (!rendezvous_peer_is(rendezvous, connection, rendezvous->keeper))
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
    const char *why = obstacle != NULL ? obstacle : "those who set it up came to their end";

    if (plan->instance)
        stop(0, "%s: %s (singularity instance list shows those there are)", plan->join_reason, why);
    if (request->join_asked)
        message_warning("--join=yes: a container of its own all the same: %s", why);
    else
        message_verbose("a container of its own (%s): %s", plan->join_reason, why);
    plan->join = false;
}
