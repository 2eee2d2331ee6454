/* One call, carried out: a command of the host in place of the stub that asks for it, with its streams, in its process group where that can
 * be, and its end told. In a process of its own, as the user, on the host; the stub, and what it sends, is the image's. */
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "../message.h"

enum { SIGNALS = 65, PATH_SIZE = 4096 };
/* Milliseconds: how long ago a signal of the whole process group may have been the one that the stub has got, how long it is waited for where
 * the stub was faster, and how long a command has to end when its stub is gone. */
enum { SAME_SIGNAL = 1000, SLOWER = 5, TIME_TO_END = 5000 };

struct running {
    int connection;
    int signals;          /* those of this process, which has them blocked: of its process group they are, and of its child */
    int stub_end;         /* a pidfd; before Linux 5.3 -1, and only the end of the connection tells that the stub is gone */
    pid_t child;
    bool grouped;         /* the command is in the process group of its stub, and so is this process */
    int64_t seen[SIGNALS]; /* when the group got one that the stub has not passed on yet; 0: there is none */
};

/* ---- what is asked ---- */

static void tell(int connection, enum call_word word, int number)
{
    const struct call_news news = {(uint8_t)word, (uint8_t)number};

    (void)send(connection, &news, sizeof news, MSG_NOSIGNAL); /* who is gone has no use for it */
}

/* What cannot be carried out ends as every failure of ours, with a line on the caller's own standard error. */
#define refuse(connection, number, ...) (tell((connection), CALL_EXITED, EXIT_OWN_FAILURE), stop((number), __VA_ARGS__))

/* The head and the descriptors come in one piece, or it is no stub that has sent them. */
static bool receive_head(int connection, struct call_head *head, int fds[CALL_DESCRIPTORS])
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(CALL_DESCRIPTORS * sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = head, .iov_len = sizeof *head};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    const size_t size = CALL_DESCRIPTORS * sizeof(int);

    if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof *head || (message.msg_flags & MSG_CTRUNC) != 0)
        return false;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(size))
        return false;
    memcpy(fds, CMSG_DATA(header), size);
    return call_head_valid(head);
}

/* From here on what this process says is said to the caller, in whose streams' place it has them. */
static void take_streams(int fds[CALL_DESCRIPTORS])
{
    for (int i = 0; i < CALL_STREAMS; i++)
        if (dup2(fds[i], i) < 0)
            _exit(EXIT_OWN_FAILURE);
    for (int i = 0; i < CALL_STREAMS; i++)
        close(fds[i]);
    message_begin(message_level_get(), false);
}

static bool receive_texts(int connection, const struct call_head *head, struct arena *arena, struct call *call)
{
    char *bytes = arena_take(arena, head->size);
    size_t used = 0;

    while (bytes != NULL && used < head->size) {
        ssize_t got = recv(connection, bytes + used, head->size - used, 0);
        if (got <= 0)
            return false;
        used += (size_t)got;
    }
    return bytes != NULL && call_read(head, bytes, arena, call);
}

static const struct command *command_find(const struct commands *commands, const char *name)
{
    for (uint32_t i = 0; i < commands->count; i++)
        if (strcmp(commands->list[i].name, name) == 0)
            return &commands->list[i];
    return NULL;
}

/* ---- where it runs ---- */

/* The directory of the host by this name, if it is the one that the caller has open. What is entered is the host's own. */
static int open_same(const char *path, const struct stat *inside)
{
    struct stat status;
    OWNED_FD fd = host_open(path, O_PATH | O_DIRECTORY);

    if (fd < 0 || fstat(fd, &status) < 0 || status.st_dev != inside->st_dev || status.st_ino != inside->st_ino)
        return -1;
    return fd_give(&fd);
}

/* By its name in the container, or by that of a bind that it lies in; else where the container was started, and a line says so: the image
 * chooses no directory of the host that it does not have. */
static int directory_open(const struct commands *commands, const struct call *call, int fd, char path[static PATH_SIZE])
{
    struct stat inside;
    bool known = fstat(fd, &inside) == 0 && S_ISDIR(inside.st_mode);
    int found = known && snprintf(path, PATH_SIZE, "%s", call->directory) < PATH_SIZE ? open_same(path, &inside) : -1;

    for (uint32_t i = 0; known && found < 0 && i < commands->shown_count; i++) {
        size_t length = strlen(commands->shown[i].inside);
        if (strncmp(call->directory, commands->shown[i].inside, length) == 0 && strchr("/", call->directory[length]) != NULL &&
            snprintf(path, PATH_SIZE, "%s%s", commands->shown[i].host, call->directory + length) < PATH_SIZE)
            found = open_same(path, &inside);
    }
    if (found >= 0)
        return found;
    found = commands->cwd != NULL ? open(commands->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    snprintf(path, PATH_SIZE, "%s", found >= 0 ? commands->cwd : "/");
    message_warning("%s: %s is no directory of the host: running in %s (bind one that both have, and go there)", call->words[0],
                    *call->directory != '\0' ? call->directory : "the current directory", path);
    return found >= 0 ? found : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static bool same_name(const char *one, const char *other)
{
    size_t length = strcspn(one, "=");

    return strncmp(one, other, length) == 0 && other[length] == '=';
}

/* The host's, with those of the caller that are the command's own in their place. */
static char **variables_make(const struct commands *commands, const struct call *call, const char *directory, struct arena *arena)
{
    char *const *host = commands->environment;
    size_t count = 0, given = 0, used = 0;

    while (host[count] != NULL)
        count++;
    while (call->variables[given] != NULL)
        given++;
    char **made = arena_take(arena, (count + given + 2) * sizeof *made), *pwd = arena_take(arena, PATH_SIZE + 4);
    if (made == NULL || pwd == NULL)
        return NULL;
    for (size_t i = 0; i < given; i++)
        if (call_passes(call->words[0], call->variables[i]))
            made[used++] = call->variables[i];
    const size_t own = used;
    snprintf(pwd, PATH_SIZE + 4, "PWD=%s", directory);
    made[used++] = pwd;
    for (size_t i = 0; i < count; i++) {
        bool replaced = same_name("PWD=", host[i]);
        for (size_t each = 0; each < own && !replaced; each++)
            replaced = same_name(made[each], host[i]);
        if (!replaced)
            made[used++] = host[i];
    }
    made[used] = NULL;
    return made;
}

/* ---- the command ---- */

/* Where the stub is of this session, the command becomes one of its process group, and so the terminal's as it would be without a container:
 * keys, stopping and going on reach it by themselves. This process goes there too, and sees by its own signals which ones the group got.
 * Elsewhere the command has no terminal of its own, and what the stub gets is passed on. */
static bool join_group(pid_t stub)
{
    pid_t group = getpgid(stub);

    if (group > 0 && getsid(stub) == getsid(0) && setpgid(0, group) == 0)
        return true;
    (void)setsid();
    return false;
}

static void signals_set(const struct call_head *head)
{
    sigset_t blocked;

    sigemptyset(&blocked);
    for (int number = 1; number < SIGNALS; number++) {
        (void)signal(number, head->ignored >> (number - 1) & 1 ? SIG_IGN : SIG_DFL);
        if (head->blocked >> (number - 1) & 1)
            (void)sigaddset(&blocked, number);
    }
    (void)sigprocmask(SIG_SETMASK, &blocked, NULL);
}

static _Noreturn void become_command(const struct commands *commands, const struct call_head *head, const char *path, char **words, char **environment,
                                     int directory, pid_t parent, bool grouped)
{
    if (!grouped)
        (void)setpgid(0, 0);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || fchdir(directory) < 0)
        stop(errno, "%s: its directory", words[0]);
    (void)setrlimit(RLIMIT_STACK, &commands->stack);
    (void)umask((mode_t)head->mask);
    signals_set(head);
    execve(path, words, environment);
    stop_with(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE, errno, "%s on the host", path);
}

/* ---- meanwhile ---- */

static int64_t now(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000 + 1;
}

/* What the child has come to. Ends this process with it. */
static void look_at_child(const struct running *running)
{
    int status;

    while (waitpid(running->child, &status, WNOHANG | WUNTRACED) == running->child) {
        if (WIFSTOPPED(status)) {
            tell(running->connection, CALL_STOPPED, WSTOPSIG(status));
            continue;
        }
        if (WIFSIGNALED(status))
            tell(running->connection, CALL_KILLED, WTERMSIG(status));
        else
            tell(running->connection, CALL_EXITED, WEXITSTATUS(status));
        _exit(0);
    }
}

static void signals_read(struct running *running)
{
    struct signalfd_siginfo info;

    while (read(running->signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo != SIGCHLD && info.ssi_signo < SIGNALS)
            running->seen[info.ssi_signo] = now();
    look_at_child(running);
}

/* A signal of the whole process group is the command's already: this process has got it as well. */
static bool group_got(struct running *running, int number)
{
    struct pollfd signals = {.fd = running->signals, .events = POLLIN};

    for (int tries = 0; running->grouped && tries < 2; tries++) {
        signals_read(running);
        if (running->seen[number] != 0 && now() - running->seen[number] < SAME_SIGNAL) {
            running->seen[number] = 0;
            return true;
        }
        (void)poll(&signals, 1, SLOWER);
    }
    return false;
}

/* The stub is gone without a word: killed, with all its container perhaps. The command may take leave of what it has begun elsewhere, as srun
 * does of its step; SIGKILL would leave that behind. */
static _Noreturn void end_child(const struct running *running)
{
    struct pollfd signals = {.fd = running->signals, .events = POLLIN};
    const int64_t last = now() + TIME_TO_END;
    struct signalfd_siginfo info;

    (void)kill(running->child, SIGTERM);
    (void)kill(running->child, SIGCONT);
    for (int64_t left; (left = last - now()) > 0; (void)poll(&signals, 1, (int)left)) {
        while (read(running->signals, &info, sizeof info) > 0)
            continue;
        look_at_child(running);
    }
    (void)kill(running->child, SIGKILL);
    while (waitpid(running->child, NULL, 0) < 0 && errno == EINTR)
        continue;
    _exit(0);
}

/* The stub's own end is waited for, and not that of its connection alone, which a hostile caller may have put into the streams of the command:
 * it would be open as long as the command runs. */
static _Noreturn void attend(struct running *running)
{
    struct pollfd polls[] = {{.fd = running->connection, .events = POLLIN},
                             {.fd = running->signals, .events = POLLIN},
                             {.fd = running->stub_end, .events = POLLIN}};
    uint8_t said;

    for (;;) {
        (void)poll(polls, 3, -1);
        signals_read(running);
        if (polls[2].revents != 0)
            end_child(running);
        if (polls[0].revents == 0)
            continue;
        if (recv(running->connection, &said, 1, 0) != 1)
            end_child(running);
        const int number = said & ~CALL_OF_TERMINAL;
        if (running->grouped && number != said)
            continue;
        if (number > 0 && number < SIGNALS && !group_got(running, number))
            (void)kill(running->child, number);
    }
}

/* The process that has connected; -1: it is not the user's own, or none that this process can see. */
static pid_t users_own(int connection)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;

    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid() && peer.pid > 0 ? peer.pid : -1;
}

/* All signals but the alarm are blocked, as they are in the helper: who says nothing, or has a directory that never answers, holds a place for
 * a minute only. */
static void alarm_set(bool on)
{
    sigset_t alarms;

    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    (void)alarm(on ? COMMANDS_PATIENCE : 0);
    (void)sigprocmask(on ? SIG_UNBLOCK : SIG_BLOCK, &alarms, NULL);
}

_Noreturn void commands_perform(const struct commands *commands, int connection, pid_t helper)
{
    static struct running running; /* of zeros */
    struct call_head head;
    struct call call;
    struct arena arena;
    int fds[CALL_DESCRIPTORS], null = open("/dev/null", O_RDWR | O_CLOEXEC);
    char directory[PATH_SIZE];
    sigset_t all;

    pid_t stub = users_own(connection);
    int stub_end = stub > 0 ? (int)syscall(SYS_pidfd_open, stub, 0) : -1;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != helper || stub < 0 || (stub_end < 0 && errno == ESRCH))
        _exit(EXIT_OWN_FAILURE);
    alarm_set(true);
    if (!receive_head(connection, &head, fds))
        _exit(EXIT_OWN_FAILURE);
    take_streams(fds);
    arena_begin(&arena, ARENA_LIMIT);
    if (!receive_texts(connection, &head, &arena, &call))
        _exit(EXIT_OWN_FAILURE);
    const struct command *command = command_find(commands, call.words[0]);
    if (command == NULL)
        refuse(connection, 0, "%.100s: not one of the commands of the host that this container was started with (--host-cmd)", call.words[0]);
    OWNED_FD place = directory_open(commands, &call, fds[CALL_DIRECTORY], directory);
    char **environment = variables_make(commands, &call, directory, &arena);
    if (place < 0 || environment == NULL)
        refuse(connection, errno, "%s: its directory on the host", command->name);
    alarm_set(false);
    running = (struct running){.connection = connection, .stub_end = stub_end, .grouped = join_group(stub)};
    sigfillset(&all);
    running.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    pid_t parent = getpid();
    running.child = running.signals < 0 ? -1 : fork();
    if (running.child < 0)
        refuse(connection, errno, "%s: start it on the host", command->name);
    if (running.child == 0)
        become_command(commands, &head, command->path, call.words, environment, place, parent, running.grouped);
    for (int stream = 0; stream < CALL_STREAMS; stream++) /* who waits for their end waits for the command alone */
        (void)dup2(null, stream);
    close(fds[CALL_DIRECTORY]);
    attend(&running);
}
