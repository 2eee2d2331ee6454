/* The helper of --host-cmd: a socket that the container sees, and the process that listens on it until the launch has ended. As the user, on
 * the host. */
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../message.h"

enum { BACKLOG = 128, LOOK_EVERY = 500 };
/* What the helper has open, beside /dev/null in place of the streams. */
enum { HELD_LAUNCH = 3, HELD_READY, HELD_SOCKET };

/* What the helper tells the launch: the path of its socket, or why there is none. */
struct told {
    int number; /* an errno, with the place where it arose; 0: all is well */
    char path[PATH_MAX];
};

/* ---- the socket ---- */

/* Takes socket and directory away from the host. */
static void socket_hide(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash == NULL)
        return;
    (void)unlink(path);
    *slash = '\0';
    (void)rmdir(path);
    *path = '\0';
}

/* By the descriptor's name in /proc: sun_path has room for 108 bytes, and the place may have a longer path (unix(7)). */
static int listen_in(int place)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    OWNED_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" COMMANDS_SOCKET, place);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    return fd_give(&fd);
}

/* In a directory of a name that nobody can guess; whether it is still ours is asked of the descriptor. */
static int listen_below(const char *place, char path[static PATH_MAX])
{
    struct stat status;

    if (*place != '/' || snprintf(path, PATH_MAX, "%s/singularity-host-XXXXXX", place) >= PATH_MAX - (int)sizeof COMMANDS_SOCKET - 1) {
        errno = ENOENT;
        return -1;
    }
    if (mkdtemp(path) == NULL)
        return -1;
    OWNED_FD directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool ours = directory >= 0 && fstat(directory, &status) == 0 && status.st_uid == geteuid() && (status.st_mode & 0777) == 0700;
    int fd = ours ? listen_in(directory) : -1, number = errno;
    strcat(path, "/" COMMANDS_SOCKET);
    if (fd < 0)
        socket_hide(path);
    errno = number;
    return fd;
}

/* In the first place that takes it. By the helper, which outlives a launch that is killed. */
static bool listen_somewhere(const char *const *places, struct told *told)
{
    int fd = -1;

    for (; fd < 0 && *places != NULL; places++)
        if ((fd = listen_below(*places, told->path)) < 0) {
            told->number = errno;
            snprintf(told->path, sizeof told->path, "%s", *places);
        }
    if (fd < 0)
        return false;
    told->number = 0;
    if (fd != HELD_SOCKET && dup3(fd, HELD_SOCKET, O_CLOEXEC) < 0)
        _exit(EXIT_OWN_FAILURE);
    if (fd != HELD_SOCKET)
        close(fd);
    return true;
}

/* ---- the end of the launch ---- */

/* A pidfd; before Linux 5.3 its directory in /proc, which stays that process's whoever gets the number next. */
static int launch_open(bool *readable)
{
    char path[32];
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    *readable = fd >= 0;
    if (fd >= 0)
        return fd;
    snprintf(path, sizeof path, "/proc/%d", (int)getpid());
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool launch_ended(bool readable)
{
    struct pollfd launch = {.fd = HELD_LAUNCH, .events = POLLIN};
    char text[512] = "";

    if (readable)
        return poll(&launch, 1, 0) != 0;
    OWNED_FD fd = openat(HELD_LAUNCH, "stat", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    const char *state = size > 0 ? strrchr(text, ')') : NULL; /* "PID (NAME) STATE ..." (proc(5)) */
    return state == NULL || strncmp(state, ") Z", 3) == 0 || strncmp(state, ") X", 3) == 0;
}

/* ---- serving ---- */

/* Before Linux 5.9 one by one: nothing of ours has a higher number. */
static void close_from(int first)
{
    if (syscall(SYS_close_range, first, ~0U, 0) < 0)
        for (int fd = first; fd < 1024; fd++)
            (void)close(fd);
}

/* Each call in a process of its own: what one caller sends can harm no other call, and all that was open for it ends with it. */
static bool take_call(const struct commands *commands)
{
    OWNED_FD connection = accept4(HELD_SOCKET, NULL, NULL, SOCK_CLOEXEC);
    pid_t helper = getpid(), child = connection < 0 ? -1 : fork();

    if (child == 0) {
        if (dup3(connection, HELD_LAUNCH, O_CLOEXEC) < 0)
            _exit(EXIT_OWN_FAILURE);
        close_from(HELD_LAUNCH + 1);
        commands_perform(commands, HELD_LAUNCH, helper);
    }
    return child > 0;
}

/* How many calls have ended. Once the launch has, nobody is there to let go on what was stopped: a process of a call that is in the group of a
 * hostile caller may be, by SIGSTOP, and would stay for ever. */
static uint32_t calls_ended(bool over)
{
    uint32_t ended = 0;
    int status;

    for (pid_t child; (child = waitpid(-1, &status, WNOHANG | (over ? WUNTRACED : 0))) > 0;)
        if (WIFSTOPPED(status))
            (void)kill(child, SIGCONT);
        else
            ended++;
    return ended;
}

/* Who connects does so in the container, which has the socket by a mount then: the host needs no name of it any more. The first to do so is the
 * launch itself (commands_greet()). So nothing is left behind, whoever is killed. */
static _Noreturn void serve(const struct commands *commands, const char *const *places, bool readable)
{
    static struct told told; /* too large for a stack that may be limited */
    struct signalfd_siginfo info;
    uint32_t running = 0;
    sigset_t children;

    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    bool listens = listen_somewhere(places, &told); /* first: its descriptor has a number of its own */
    int signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    bool over = signals < 0 || send(HELD_READY, &told, sizeof told, MSG_NOSIGNAL) < 0;
    if (!listens)
        _exit(EXIT_OWN_FAILURE);
    close(HELD_READY);
    while (!over || running > 0) {
        struct pollfd polls[] = {{.fd = signals, .events = POLLIN}, {.fd = over || !readable ? -1 : HELD_LAUNCH, .events = POLLIN},
                                 {.fd = over || running >= COMMANDS_AT_ONCE ? -1 : HELD_SOCKET, .events = POLLIN}};
        (void)poll(polls, 3, over || readable ? -1 : LOOK_EVERY);
        while (read(signals, &info, sizeof info) > 0)
            continue;
        if (!over && launch_ended(readable)) {
            over = true;
            close(HELD_SOCKET);
        } else if (polls[2].revents != 0) {
            socket_hide(told.path);
            running += take_call(commands);
        }
        running -= calls_ended(over);
    }
    socket_hide(told.path); /* nobody has come */
    _exit(0);
}

/* ---- its beginning ---- */

/* Nothing of the caller's is held: who reads the output of a launch waits until nobody has it open. It stays in the caller's session,
 * where a command can be in the process group of who calls it, but in a group of its own, which no key of the terminal reaches. No signal
 * but SIGKILL ends it, which ends what it has started. Its memory has the variables of the launch. */
static void settle(int launch, int ready)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), moved[] = {fcntl(launch, F_DUPFD_CLOEXEC, 16), fcntl(ready, F_DUPFD_CLOEXEC, 16)};
    sigset_t all;

    for (int fd = 0; fd < HELD_LAUNCH; fd++)
        if (dup2(null, fd) < 0)
            _exit(EXIT_OWN_FAILURE);
    if (dup3(moved[0], HELD_LAUNCH, O_CLOEXEC) < 0 || dup3(moved[1], HELD_READY, O_CLOEXEC) < 0)
        _exit(EXIT_OWN_FAILURE);
    close_from(HELD_SOCKET);
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    for (int number = 1; number < 32; number++)
        (void)signal(number, SIG_DFL);
    (void)umask(077);
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_NAME, "host-commands");
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (chdir("/") < 0)
        _exit(EXIT_OWN_FAILURE);
}

/* Two forks: the program never has a child that it did not start. */
bool commands_start(const struct commands *commands, const char *const *places, char path[static PATH_MAX], struct error *error)
{
    static struct told told; /* too large for a stack that may be limited */
    bool readable;
    int ends[2];
    OWNED_FD launch = launch_open(&readable);

    if (launch < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_set(error, errno, "start the helper on the host");
    OWNED_FD mine = ends[0], other = ends[1];
    pid_t child = fork();
    if (child == 0) {
        if (fork() != 0)
            _exit(0);
        commands->hide(commands->line);
        settle(launch, other);
        serve(commands, places, readable);
    }
    if (child < 0)
        return error_set(error, errno, "start the helper on the host");
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    fd_close(&other);
    if (recv(mine, &told, sizeof told, 0) != (ssize_t)sizeof told)
        return error_set(error, EAGAIN, "start the helper on the host");
    if (told.number != 0)
        return error_set(error, told.number, "a socket in %s (TMPDIR names another place)", told.path);
    memcpy(path, told.path, sizeof told.path);
    return true;
}
