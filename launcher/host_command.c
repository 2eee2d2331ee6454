/* A command of the host, as a container started with --host-cmd has it: asks the helper on the host for the command by whose name it was
 * called, and ends as that ends. Runs in the container with the rights of whoever calls it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands/commands.h"
#include "descriptor.h"
#include "inside.h"
#include "message.h"

enum { SIGNALS = 65 };

/* Those that a fault of this very process raises cannot be held (signal(7)); the end of a child is not the command's to know. */
static void signals_hold(sigset_t *before, struct call_head *head)
{
    static const int others[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGCHLD};
    struct sigaction action;
    sigset_t all;

    sigfillset(&all);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        sigdelset(&all, others[i]);
    (void)sigprocmask(SIG_SETMASK, &all, before);
    for (int number = 1; number < SIGNALS; number++) {
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            head->ignored |= UINT64_C(1) << (number - 1);
        if (sigismember(before, number) == 1)
            head->blocked |= UINT64_C(1) << (number - 1);
    }
}

static int helper_connect(const char *name)
{
    int fd = commands_connect();

    if (fd < 0)
        stop(errno == ECONNREFUSED ? 0 : errno, "%s: the host does not answer%s", name,
             errno == ECONNREFUSED ? " any more: the helper of this container has ended" : "");
    return fd;
}

/* Counted first, then copied: what the helper would not take is not sent. */
static size_t texts_put(const char *directory, char *const *words, char *const *variables, struct call_head *head, char *bytes)
{
    size_t size = strlen(directory) + 1;

    if (bytes != NULL)
        memcpy(bytes, directory, size);
    head->words = head->variables = 0;
    for (; words[head->words] != NULL; head->words++) {
        size_t length = strlen(words[head->words]) + 1;
        if (bytes != NULL)
            memcpy(bytes + size, words[head->words], length);
        size += length;
    }
    for (; *variables != NULL; variables++) {
        size_t length = strlen(*variables) + 1;
        if (!call_passes(words[0], *variables))
            continue;
        if (bytes != NULL)
            memcpy(bytes + size, *variables, length);
        size += length;
        head->variables++;
    }
    return size;
}

static bool call_send(int connection, const struct call_head *head, const char *texts, const int fds[CALL_DESCRIPTORS])
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(CALL_DESCRIPTORS * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec vector = {.iov_base = (void *)(uintptr_t)head, .iov_len = sizeof *head};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    size_t sent = 0;

    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                                      .cmsg_len = (socklen_t)CMSG_LEN(CALL_DESCRIPTORS * sizeof(int))};
    memcpy(CMSG_DATA(&control.header), fds, CALL_DESCRIPTORS * sizeof(int));
    if (sendmsg(connection, &message, MSG_NOSIGNAL) != (ssize_t)sizeof *head)
        return false;
    while (sent < head->size) {
        ssize_t now = send(connection, texts + sent, head->size - sent, MSG_NOSIGNAL);
        if (now <= 0)
            return false;
        sent += (size_t)now;
    }
    return true;
}

static void call_make(int connection, char *const *words, char *const *variables, struct call_head *head)
{
    char directory[PATH_MAX];
    int fds[CALL_DESCRIPTORS] = {0, 1, 2, open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)};

    if (getcwd(directory, sizeof directory) == NULL)
        *directory = '\0';
    if (fds[CALL_DIRECTORY] < 0)
        fds[CALL_DIRECTORY] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    size_t size = texts_put(directory, words, variables, head, NULL);
    head->size = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
    if (!call_head_valid(head))
        stop(E2BIG, "%s", words[0]);
    char *texts = malloc(size);
    if (texts == NULL)
        stop(ENOMEM, "%s", words[0]);
    (void)texts_put(directory, words, variables, head, texts);
    if (!call_send(connection, head, texts, fds))
        stop(0, "%s: the helper of this container on the host has ended", words[0]);
    free(texts);
    close(fds[CALL_DIRECTORY]);
}

/* As the command has stopped or ended by it. Without a core file: there is nothing of the command in this process. */
static void do_as_told(int number)
{
    sigset_t one;

    sigemptyset(&one);
    sigaddset(&one, number);
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    (void)signal(number, SIG_DFL);
    (void)kill(getpid(), number);
    (void)sigprocmask(SIG_UNBLOCK, &one, NULL);
    (void)sigprocmask(SIG_BLOCK, &one, NULL);
}

/* Keys, the size of the window, and reading or writing in the background: all of the process group get these at once, and several of one
 * kind are one to whoever is slow, so that nobody could tell afterwards which of them others have had. */
static bool of_terminal(const struct signalfd_siginfo *info)
{
    const uint32_t number = info->ssi_signo;

    return info->ssi_code == SI_KERNEL && (number == SIGINT || number == SIGQUIT || number == SIGTSTP || number == SIGWINCH ||
                                           number == SIGTTIN || number == SIGTTOU);
}

static void pass_on(int connection, int signals, const struct call_head *head)
{
    struct signalfd_siginfo info;

    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
        uint8_t number = (uint8_t)(info.ssi_signo | (of_terminal(&info) ? CALL_OF_TERMINAL : 0));
        if (info.ssi_signo < SIGNALS && !(head->ignored >> (info.ssi_signo - 1) & 1))
            (void)send(connection, &number, 1, MSG_NOSIGNAL);
    }
}

static _Noreturn void wait_end(int connection, int signals, const struct call_head *head, const char *name)
{
    struct pollfd polls[] = {{.fd = connection, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    struct call_news news;

    for (;;) {
        (void)poll(polls, 2, -1);
        if (polls[1].revents != 0)
            pass_on(connection, signals, head);
        if (polls[0].revents == 0)
            continue;
        if (recv(connection, &news, sizeof news, MSG_WAITALL) != (ssize_t)sizeof news)
            stop(0, "%s: the helper of this container on the host has ended, and the command with it", name);
        if (news.word == CALL_EXITED) {
            (void)recv(connection, &news.word, 1, 0); /* the end of the helper's process: it has said all by then */
            _exit(news.number);
        }
        if (news.number > 0 && news.number < SIGNALS)
            do_as_told(news.number);
        if (news.word == CALL_KILLED)
            _exit(128 + news.number); /* as process 1 of a PID namespace it cannot end itself by a signal */
    }
}

int main(int argc, char **argv, char **environment)
{
    struct call_head head = {.size = 0};
    sigset_t before, held;

    message_begin(LEVEL_INFO, false);
    if (argc < 1 || *path_last(argv[0]) == '\0')
        stop_with(EXIT_USAGE, 0, "host-command: a command of the host is called by its name");
    for (int fd = 0; fd < CALL_STREAMS; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd)
            stop(errno, "%s: /dev/null, in place of a closed standard stream", argv[0]);
    argv[0] = (char *)(uintptr_t)path_last(argv[0]);
    signals_hold(&before, &head);
    head.mask = (uint32_t)umask(0);
    int connection = helper_connect(argv[0]);
    (void)sigprocmask(SIG_SETMASK, NULL, &held);
    int signals = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (signals < 0)
        stop(errno, "%s: its signals", argv[0]);
    call_make(connection, argv, environment, &head);
    for (int fd = 0; null >= 0 && fd < STDERR_FILENO; fd++) /* who waits for their end waits for the command alone */
        (void)dup2(null, fd);
    wait_end(connection, signals, &head, argv[0]);
}
