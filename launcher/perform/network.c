/* A network for a container in a user namespace: pasta or slirp4netns carries its packets to and from sockets of the user's, from
 * outside. No privilege, and not in the setuid program. */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"

enum { READY = 3, HAND, FORWARDS = 2048, POLL = 500 /* ms */ };

/* What is executed, and what it is told. Names and options by pasta(1) and slirp4netns(1): neither lets the container reach servers that
 * listen on the host's loopback interface alone, and each answers questions for names at NETWORK_NAMESERVER. Packets are a hostile program's,
 * and read on the host: pasta confines itself, slirp4netns when it is told to (0.4.3), in a directory of its own where the namespace has a
 * root. */
struct carrier {
    char path[PATH_MAX], process[16], tcp[FORWARDS], udp[FORWARDS];
    bool is_pasta, has_root;
};

/* Never by PATH: another carrier would see everything. */
static bool find(const char *name, char path[static PATH_MAX])
{
    static const char *const directories[] = {"/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"};

    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
        snprintf(path, PATH_MAX, "%s/%s", directories[i], name);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

/* "8080:80/tcp,53:53/udp" in the form of pasta's options: a list for each. */
static void forwards(const char *ports, struct carrier *carrier)
{
    snprintf(carrier->tcp, sizeof carrier->tcp, "none");
    snprintf(carrier->udp, sizeof carrier->udp, "none");
    for (const char *next = ports; *next != '\0'; next += *next == ',') {
        size_t length = strcspn(next, ",");
        char *list = length > 4 && memcmp(next + length - 4, "/udp", 4) == 0 ? carrier->udp : carrier->tcp;
        size_t used = strcmp(list, "none") == 0 ? 0 : strlen(list);
        snprintf(list + used, FORWARDS - used, "%s%.*s", used > 0 ? "," : "", (int)strcspn(next, "/,"), next);
        next += length;
    }
}

static void choose(const struct plan *plan, struct carrier *carrier)
{
    carrier->is_pasta = find("pasta", carrier->path);
    if (!carrier->is_pasta && !find("slirp4netns", carrier->path))
        stop(0, "pasta not found, needed for a network without privilege (install passt, or slirp4netns)");
    if (!carrier->is_pasta && *plan->network_ports != '\0')
        stop(0, "pasta not found, needed to forward ports without privilege (install passt)");
    snprintf(carrier->process, sizeof carrier->process, "%d", (int)getpid());
    carrier->has_root = plan->root_mapped;
    forwards(plan->network_ports, carrier);
}

static _Noreturn void carry(const struct carrier *carrier, int ready)
{
    static char *const environment[] = {NULL};
    char *text = (char *)(uintptr_t)NETWORK_NAMESERVER, *process = (char *)(uintptr_t)carrier->process;
    char *tcp = (char *)(uintptr_t)carrier->tcp, *udp = (char *)(uintptr_t)carrier->udp;
    char *const pasta[] = {(char[]){"pasta"}, (char[]){"--config-net"}, (char[]){"--no-map-gw"}, (char[]){"--quiet"},
                           (char[]){"--dns-forward"}, text, (char[]){"-t"}, tcp, (char[]){"-u"}, udp, (char[]){"-T"}, (char[]){"none"},
                           (char[]){"-U"}, (char[]){"none"}, process, NULL};
    char *const slirp[] = {(char[]){"slirp4netns"}, (char[]){"--configure"}, (char[]){"--mtu=65520"}, (char[]){"--disable-host-loopback"},
                           (char[]){"--enable-seccomp"}, (char[]){"--ready-fd=3"}, process, (char[]){"tap0"},
                           carrier->has_root ? (char[]){"--enable-sandbox"} : NULL, NULL};

    if (!carrier->is_pasta && dup2(ready, READY) < 0)
        _exit(EXIT_OWN_FAILURE);
    execve(carrier->path, carrier->is_pasta ? pasta : slirp, environment);
    _exit(EXIT_OWN_FAILURE);
}

/* Whoever reads the output of a launch waits until nobody has it open any more, and Ctrl-C is for the program. What a carrier says
 * is seen with --debug. */
static void settle(int hand)
{
    int null = open("/dev/null", O_RDWR), last = message_level_get() < LEVEL_DEBUG ? STDERR_FILENO : STDOUT_FILENO;

    (void)setsid();
    for (int fd = STDIN_FILENO; fd <= last; fd++)
        if (dup2(null, fd) < 0)
            _exit(EXIT_OWN_FAILURE);
    if ((hand != HAND && dup3(hand, HAND, O_CLOEXEC) < 0) || chdir("/") < 0)
        _exit(EXIT_OWN_FAILURE);
    close(READY);
    perform_close(HAND + 1);
    for (int number = 1; number < 32; number++)
        (void)signal(number, SIG_DFL);
    (void)prctl(PR_SET_NAME, "sexec-network");
}

/* Ready: pasta's first process has ended well, and the one that carries is a child of ours now; slirp4netns has said so. */
static bool started(const struct carrier *carrier, int ready, pid_t child)
{
    int status = 0;
    char byte;

    if (!carrier->is_pasta)
        return read(ready, &byte, 1) == 1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Whatever carries ends with the process that set the container up, which becomes the program or waits for it. */
static void end_carriers(void)
{
    char line[256];
    OWNED_FD children = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    ssize_t length = children >= 0 ? read(children, line, sizeof line - 1) : 0;

    line[length > 0 ? length : 0] = '\0';
    for (char *next = line, *end; *next != '\0'; next = end) {
        pid_t child = (pid_t)strtol(next, &end, 10);
        if (end == next || child <= 1)
            break;
        (void)kill(child, SIGKILL);
    }
}

static _Noreturn void attend(const struct carrier *carrier, int hand)
{
    pid_t launcher = (pid_t)atoi(carrier->process);
    struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, launcher, 0), .events = POLLIN};
    int ready[2];
    char byte;

    if (recv(hand, &byte, 1, 0) != 1 || pipe2(ready, O_CLOEXEC) < 0) /* the launch has failed, and says so itself */
        _exit(EXIT_OWN_FAILURE);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = fork();
    if (child == 0)
        carry(carrier, ready[1]);
    close(ready[1]);
    if (child > 0 && started(carrier, ready[0], child) && send(hand, "", 1, MSG_NOSIGNAL) == 1) {
        close(hand);
        while (ended.fd >= 0 ? poll(&ended, 1, -1) < 0 : kill(launcher, 0) == 0) /* no descriptor of a process before Linux 5.3 */
            if (ended.fd < 0)
                (void)poll(NULL, 0, POLL);
    }
    end_carriers();
    _exit(0);
}

/* Two forks: nobody's child, so that no program in the container meets it in wait(2). */
int network_begin(const struct plan *plan)
{
    static struct carrier carrier;
    int ends[2];

    if (plan->network_ports == NULL)
        return -1;
    choose(plan, &carrier);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        stop(errno, "a network for the container");
    pid_t child = fork();
    if (child < 0)
        stop(errno, "a network for the container");
    if (child == 0) {
        if (fork() != 0)
            _exit(0);
        close(ends[0]);
        settle(ends[1]);
        attend(&carrier, HAND);
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    close(ends[1]);
    return ends[0];
}

void network_connect(int hand)
{
    char byte;

    if (hand < 0)
        return;
    if (send(hand, "", 1, MSG_NOSIGNAL) != 1 || recv(hand, &byte, 1, 0) != 1)
        stop(0, "no network for the container: pasta or slirp4netns has failed (--debug shows what it says; it needs /dev/net/tun)");
    close(hand);
}
