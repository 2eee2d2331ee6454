/* What a program in a container sees of itself, in a form that tests compare byte by byte. Static, needs no shell.
 *
 *   probe argv WORD...     the words after "argv", each ended by NUL
 *   probe env              the environment, each variable ended by NUL
 *   probe ids              real, effective, saved uid, then the same of the gid
 *   probe fds              "NUMBER TARGET" of every open descriptor
 *   probe open PATH r|w    "opened" or the errno
 *   probe limits           "NUMBER SOFT HARD" of every resource limit
 *   probe state            umask, nice value, blocked and ignored signals, number of CPUs allowed, time left of ITIMER_REAL
 *   probe root             "closed" when no chain of ".." leaves the root directory
 *   probe become-root      the errno of setuid(0) and of regaining a capability
 *   probe exit N | probe die SIGNAL
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

extern char **environ;

static void print_each(char **words)
{
    for (; *words != NULL; words++)
        fwrite(*words, 1, strlen(*words) + 1, stdout);
}

static void print_ids(void)
{
    uid_t uid[3];
    gid_t gid[3];
    getresuid(&uid[0], &uid[1], &uid[2]);
    getresgid(&gid[0], &gid[1], &gid[2]);
    printf("%u %u %u %u %u %u\n", uid[0], uid[1], uid[2], gid[0], gid[1], gid[2]);
}

static void print_fds(void)
{
    for (int fd = 0; fd < 4096; fd++) {
        char name[32], target[4096];
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(name, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        printf("%d %s\n", fd, target);
    }
}

static void print_open(const char *path, const char *mode)
{
    int fd = open(path, (*mode == 'w' ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY);
    printf("%s\n", fd >= 0 ? "opened" : strerrorname_np(errno));
}

static void print_limits(void)
{
    for (int number = 0; number < RLIM_NLIMITS; number++) {
        struct rlimit limit;
        if (getrlimit((__rlimit_resource_t)number, &limit) == 0)
            printf("%d %lld %lld\n", number, (long long)limit.rlim_cur, (long long)limit.rlim_max);
    }
}

static void print_state(void)
{
    sigset_t blocked;
    cpu_set_t cpus;
    struct itimerval timer;
    mode_t mask = umask(0);
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    sched_getaffinity(0, sizeof cpus, &cpus);
    getitimer(ITIMER_REAL, &timer);
    printf("umask %03o\nnice %d\nblocked", (unsigned)mask, getpriority(PRIO_PROCESS, 0));
    for (int number = 1; number < 32; number++)
        if (sigismember(&blocked, number) == 1)
            printf(" %d", number);
    printf("\nignored");
    for (int number = 1; number < 32; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            printf(" %d", number);
    }
    printf("\ncpus %d\ntimer %ld\n", CPU_COUNT(&cpus), (long)timer.it_value.tv_sec);
}

static void print_root(void)
{
    struct stat root, up;
    stat("/", &root);
    chdir("/");
    for (int depth = 0; depth < 64; depth++) {
        stat("..", &up);
        if (up.st_dev != root.st_dev || up.st_ino != root.st_ino || chdir("..") != 0) {
            printf("open\n");
            return;
        }
    }
    printf("closed\n");
}

static void print_become_root(void)
{
    printf("setuid %s\n", setuid(0) == 0 ? "root" : strerrorname_np(errno));
    printf("ambient %s\n", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0) == 0 ? "raised" : strerrorname_np(errno));
    printf("effective %u\n", geteuid());
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    const char *word = argc > 2 ? argv[2] : "";
    if (strcmp(what, "argv") == 0)
        print_each(argv + 2);
    else if (strcmp(what, "env") == 0)
        print_each(environ);
    else if (strcmp(what, "ids") == 0)
        print_ids();
    else if (strcmp(what, "fds") == 0)
        print_fds();
    else if (strcmp(what, "open") == 0 && argc > 3)
        print_open(word, argv[3]);
    else if (strcmp(what, "limits") == 0)
        print_limits();
    else if (strcmp(what, "state") == 0)
        print_state();
    else if (strcmp(what, "root") == 0)
        print_root();
    else if (strcmp(what, "become-root") == 0)
        print_become_root();
    else if (strcmp(what, "exit") == 0)
        return atoi(word);
    else if (strcmp(what, "die") == 0)
        raise(atoi(word));
    else
        return 2;
    return 0;
}
