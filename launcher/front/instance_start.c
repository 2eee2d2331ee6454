/* A new instance: its name and logs are taken, its launch goes to a process of its own, and this one waits until all is ready. As the
 * user. */
#include "instance.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"

/* ---- before ---- */

/* The name alone would be known to everybody on this host, who could take the name of its socket first. */
static bool take_name(struct invocation *invocation, const char *name)
{
    struct request *request = &invocation->request;
    unsigned char random[16];
    char text[INSTANCE_NAME + 64], hex[2 * sizeof random + 1];

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return false;
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(hex + 2 * i, 3, "%02x", random[i]);
    int length = snprintf(text, sizeof text, "instance %s %s", name, hex);
    request->join_step = text_copy(&invocation->store, text, (size_t)length);
    length = snprintf(text, sizeof text, "instance %s", name);
    request->join_reason = text_copy(&invocation->store, text, (size_t)length);
    request->join_asked = false;
    return request->join_step != NULL && request->join_reason != NULL;
}

/* Appended to, as a service's log is. What has this name may be anything that the user has put there. */
static int open_log(int place, const char *name, struct error *error)
{
    struct stat status;
    OWNED_FD log = openat(place, name, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600);

    if (log < 0 || fstat(log, &status) < 0)
        return error_set(error, errno, "the log %s of an instance", name), -1;
    if (!S_ISREG(status.st_mode) || status.st_uid != geteuid())
        return error_set(error, 0, "the log %s of an instance is no file of yours (remove it)", name), -1;
    if (fcntl(log, F_SETFL, O_APPEND) < 0)
        return error_set(error, errno, "the log %s of an instance", name), -1;
    return fd_give(&log);
}

/* Before those that the user wants kept, whose place they would else have to be looked for behind. */
static bool keep_first(struct request *request, const int fds[INSTANCE_DESCRIPTORS], struct error *error)
{
    const size_t limit = sizeof request->keep_fd / sizeof request->keep_fd[0];

    if (request->keep_fd_count + INSTANCE_DESCRIPTORS > limit)
        return error_set(error, 0, "--keep-fd: more than %zu descriptors", limit - INSTANCE_DESCRIPTORS);
    memmove(request->keep_fd + INSTANCE_DESCRIPTORS, request->keep_fd, request->keep_fd_count * sizeof request->keep_fd[0]);
    for (int i = 0; i < INSTANCE_DESCRIPTORS; i++)
        request->keep_fd[i] = (struct request_entry){.number = (uint64_t)fds[i]};
    request->keep_fd_count += INSTANCE_DESCRIPTORS;
    return true;
}

static bool open_logs(struct instance *instance, int logs[2], struct error *error)
{
    static const char *const suffixes[] = {"out", "err"};
    OWNED_FD place = instance_logs(instance, error);

    for (size_t i = 0; i < 2; i++) {
        char name[INSTANCE_NAME + 8];
        snprintf(name, sizeof name, "%.*s.%s", INSTANCE_NAME, instance->name, suffixes[i]);
        int length = snprintf(instance->logs[i], PATH_MAX, "%s/instances/logs/%s/%s/%s", instance->directory, instance->host, instance->user,
                              name);
        if (place < 0 || length >= PATH_MAX || (logs[i] = open_log(place, name, error)) < 0)
            return error_set(error, ENAMETOOLONG, "the logs of an instance");
    }
    return true;
}

bool instance_prepare(struct instance *instance, struct invocation *invocation, char *const *environment, struct error *error)
{
    struct request *request = &invocation->request;
    const int yes = 1;
    int told[2], fds[INSTANCE_DESCRIPTORS];

    if (!instance_open(instance, invocation, environment, request->instance, true, error) || !open_logs(instance, fds + INSTANCE_OUTPUT, error))
        return false;
    if (!take_name(invocation, request->instance))
        return error_set(error, errno, "start instance %s", request->instance);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, told) < 0 || setsockopt(told[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) < 0 ||
        fcntl(told[0], F_SETFD, FD_CLOEXEC) < 0)
        return error_set(error, errno, "start instance %s", request->instance);
    instance->told = told[0];
    fds[INSTANCE_TOLD] = told[1];
    if (keep_first(request, fds, error) && instance_reserve(instance, request, error))
        return true;
    (void)unlinkat(instance->states, instance->name, AT_REMOVEDIR); /* unless it is another one's */
    return false;
}

/* ---- meanwhile ---- */

static _Noreturn void give_up(const struct instance *instance, pid_t launcher, const char *what, int number)
{
    (void)kill(launcher, SIGKILL); /* and with it whatever has been set up */
    while (waitpid(launcher, NULL, 0) < 0 && errno == EINTR)
        continue;
    instance_remove(instance);
    if (what != NULL)
        stop(number, "instance %s: %s", instance->name, what);
    _exit(EXIT_OWN_FAILURE);
}

/* What the launch says is said here, while somebody listens. False: nothing more will come. */
static bool relay(int said, bool *any)
{
    char text[4096];
    ssize_t size = read(said, text, sizeof text);

    if (size > 0)
        *any |= fd_write(STDERR_FILENO, text, (size_t)size);
    return size > 0 || (size < 0 && (errno == EINTR || errno == EAGAIN));
}

/* The process that all in the container come from: the parent of who says that it is ready, or himself with --boot. */
static pid_t first_process(pid_t speaker, pid_t launcher)
{
    char path[32], line[256];
    int parent = 0;

    snprintf(path, sizeof path, "/proc/%d/status", (int)speaker);
    FILE *stream = fopen(path, "re");
    while (stream != NULL && fgets(line, sizeof line, stream) != NULL && sscanf(line, "PPid: %d", &parent) != 1)
        continue;
    if (stream != NULL)
        fclose(stream);
    return parent == launcher ? speaker : parent;
}

static unsigned long long space_of(pid_t process)
{
    struct stat space;
    char path[32];

    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)process);
    return stat(path, &space) == 0 ? (unsigned long long)space.st_ino : 0;
}

/* One letter, and by the kernel's word who sends it. */
static pid_t hear(int told, char *word)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control = {.bytes = {0}};
    struct iovec vector = {.iov_base = word, .iov_len = 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct ucred sender = {0};
    ssize_t size;

    while ((size = recvmsg(told, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        continue;
    struct cmsghdr *header = size == 1 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_type == SCM_CREDENTIALS)
        memcpy(&sender, CMSG_DATA(header), sizeof sender);
    return sender.pid;
}

/* Never through a link, nor into a file of somebody else's: root's service may write where others can, who would choose what is lost. */
static bool write_pid(const char *path, pid_t process)
{
    struct stat status;
    OWNED_FD file = path != NULL ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644) : -1;

    if (path == NULL)
        return true;
    if (file < 0 || fstat(file, &status) < 0)
        return false;
    if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || status.st_nlink != 1) {
        errno = EPERM;
        return false;
    }
    return ftruncate(file, 0) == 0 && dprintf(file, "%d\n", (int)process) > 0;
}

static _Noreturn void finish(const struct instance *instance, const struct invocation *invocation, pid_t launcher)
{
    char word = 0;
    pid_t speaker = hear(instance->told, &word), first = first_process(speaker, launcher);
    struct instance_state state = {.process = first, .launcher = launcher, .userns = word == 'u', .space = space_of(speaker)};
    struct error error = {0};

    if (word == 0)
        give_up(instance, launcher, NULL, 0);
    if (first <= 0 || !process_identity(first, state.identity))
        give_up(instance, launcher, "its first process cannot be found in /proc", 0);
    if (!instance_write(instance, &state, &invocation->request, &error))
        give_up(instance, launcher, error.text, 0);
    if (!write_pid(invocation->pid_file, first))
        give_up(instance, launcher, invocation->pid_file, errno);
    if (send(instance->told, "", 1, MSG_NOSIGNAL) != 1)
        give_up(instance, launcher, "it ended before it could start", 0);
    message_info("instance started successfully");
    _exit(0);
}

static _Noreturn void await(const struct instance *instance, const struct invocation *invocation, pid_t launcher, int said)
{
    struct pollfd polls[] = {{.fd = said, .events = POLLIN}, {.fd = instance->told, .events = POLLIN}};
    bool any = false;

    while (polls[1].revents == 0) {
        if (poll(polls, 2, -1) < 0 && errno != EINTR)
            give_up(instance, launcher, "wait for it", errno);
        if (polls[0].revents != 0 && !relay(said, &any))
            polls[0].fd = -1;
    }
    (void)fcntl(said, F_SETFL, O_NONBLOCK);
    if (!(polls[1].revents & POLLIN))
        (void)kill(launcher, SIGKILL);
    while (poll(polls, 1, 0) > 0 && polls[0].revents != 0 && relay(said, &any))
        continue;
    if (polls[1].revents & POLLIN)
        finish(instance, invocation, launcher);
    give_up(instance, launcher, any ? NULL : "it did not start", 0);
}

/* Its own session: it gets no signal of the terminal, and the kernel sends none when that is closed (credentials(7)). Whoever waits for
 * the end of our streams waits for nothing that the instance has open. */
static void leave(const struct instance *instance, const int said[2])
{
    int null = open("/dev/null", O_RDWR);

    if (null < 0 || setsid() < 0 || chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(said[1], STDOUT_FILENO) < 0 ||
        dup2(said[1], STDERR_FILENO) < 0)
        stop(errno, "start instance %s", instance->name);
    const int closed[] = {null, said[0], said[1], instance->told, instance->states, instance->state};
    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++)
        if (closed[i] > STDERR_FILENO)
            close(closed[i]);
}

void instance_detach(const struct instance *instance, struct invocation *invocation)
{
    int said[2];
    pid_t launcher = pipe2(said, 0) < 0 ? -1 : fork();

    if (launcher < 0) {
        instance_remove(instance);
        stop(errno, "start instance %s", instance->name);
    }
    if (launcher == 0) {
        leave(instance, said);
        return;
    }
    for (int i = 0; i < INSTANCE_DESCRIPTORS; i++)
        close((int)invocation->request.keep_fd[i].number);
    close(said[1]);
    await(instance, invocation, launcher, said[0]);
}
