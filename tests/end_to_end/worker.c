/* Launches again and again as the user that it is started as, without anything but the starter between two of them, and
 * says what each left behind: processes, mounts. Test only; no privilege. One job is a head of four numbers (bytes of the
 * request or -1 for none, bytes of the words, how many descriptors from KEPT on are open, milliseconds that it may take),
 * then the request, then the words, each ended by NUL; the first is the file to execute. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST = 5, OUT = 20, ERR = 21, KEPT = 30, KEPT_LIMIT = 8, WORDS = 8192, GRACE = 5000, SHOWN = 1 << 20 };
enum left { LEFT_TIMED_OUT = 1, LEFT_PROCESSES = 2, LEFT_MOUNTS = 4 };

struct head { int32_t request, words, kept, milliseconds; };
struct answer { int32_t status, left, out, err; };

static char *buffer;
static size_t room;

static void die(const char *what)
{
    perror(what);
    exit(70);
}

static void read_all(void *bytes, size_t size)
{
    for (char *next = bytes; size > 0;) {
        ssize_t done = read(0, next, size);
        if (done == 0)
            exit(0);
        if (done < 0 && errno != EINTR)
            die("read");
        if (done > 0)
            next += done, size -= (size_t)done;
    }
}

static void write_all(const void *bytes, size_t size)
{
    for (const char *next = bytes; size > 0;) {
        ssize_t done = write(1, next, size);
        if (done < 0 && errno != EINTR)
            die("write");
        if (done > 0)
            next += done, size -= (size_t)done;
    }
}

static void put(int fd, int at)
{
    if (fd < 0 || (fd != at && (dup2(fd, at) < 0 || close(fd) < 0)))
        die("descriptor");
}

static void supply(const struct head *head)
{
    if (head->request >= 0) {
        put(memfd_create("request", MFD_ALLOW_SEALING), REQUEST);
        if (write(REQUEST, buffer, (size_t)head->request) != head->request ||
            fcntl(REQUEST, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
            die("request");
    }
    for (int i = 0; i < head->kept; i++)
        put(open("/dev/null", O_RDWR), KEPT + i);
}

static void take_back(const struct head *head)
{
    if (head->request >= 0)
        close(REQUEST);
    for (int i = 0; i < head->kept; i++)
        close(KEPT + i);
}

static pid_t begin(char **words, const sigset_t *usual)
{
    static char *const environment[] = {"PATH=/bin:/usr/bin", NULL};
    pid_t child = vfork();

    if (child == 0) {
        setsid();
        sigprocmask(SIG_SETMASK, usual, NULL);
        int null = open("/dev/null", O_RDONLY);
        dup2(null, 0);
        close(null);
        dup2(OUT, 1);
        dup2(ERR, 2);
        close(OUT);
        close(ERR);
        execve(words[0], words + 1, environment);
        _exit(99);
    }
    if (child < 0)
        die("fork");
    return child;
}

static long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Waits for `child`, then for whatever was left to this process, which is the parent of orphans. */
static int await(pid_t child, int milliseconds, int *left)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    long limit = now() + milliseconds;
    sigset_t ended;
    int status = 0, one;
    pid_t pid;

    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    for (;;) {
        while ((pid = waitpid(-1, &one, WNOHANG)) > 0)
            if (pid == child) {
                status = one;
                child = 0;
                limit = now() + GRACE;
            }
        if (pid < 0 && errno == ECHILD)
            return status;
        if (now() > limit && child > 0) {
            *left |= LEFT_TIMED_OUT;
            kill(-child, SIGKILL);
            kill(child, SIGKILL);
            limit = now() + GRACE;
        } else if (now() > limit) {
            *left |= LEFT_PROCESSES;
            return status;
        }
        sigtimedwait(&ended, NULL, &pause);
    }
}

static uint64_t mounts_known(void)
{
    static char text[1 << 17];
    uint64_t mixed = UINT64_C(14695981039346656037);
    int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    ssize_t size;

    while (fd >= 0 && (size = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < size; i++)
            mixed = (mixed ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    close(fd);
    return mixed;
}

/* What a launch wrote here, and nothing the next one writes. */
static size_t fetch(int fd, char *text)
{
    ssize_t size = pread(fd, text, SHOWN, 0);

    close(fd);
    return size > 0 ? (size_t)size : 0;
}

static void run(const struct head *head, const sigset_t *usual, uint64_t mounts)
{
    static char out[SHOWN], err[SHOWN];
    char *words[WORDS + 2], *word = buffer + (head->request > 0 ? head->request : 0);
    const char *end = word + head->words;
    struct answer answer = {0};
    int count = 0;

    for (; word < end && count < WORDS; word += strlen(word) + 1)
        words[count++] = word;
    words[count] = NULL;
    supply(head);
    put(memfd_create("out", 0), OUT);
    put(memfd_create("err", 0), ERR);
    pid_t child = begin(words, usual);
    take_back(head);
    answer.status = await(child, head->milliseconds, &answer.left);
    if (mounts_known() != mounts)
        answer.left |= LEFT_MOUNTS;
    answer.out = (int32_t)fetch(OUT, out);
    answer.err = (int32_t)fetch(ERR, err);
    write_all(&answer, sizeof answer);
    write_all(out, (size_t)answer.out);
    write_all(err, (size_t)answer.err);
}

int main(void)
{
    struct head head;
    sigset_t ended, usual;
    uint64_t mounts = mounts_known();

    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, &usual);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        die("orphans");
    for (;;) {
        read_all(&head, sizeof head);
        size_t size = (size_t)(head.request > 0 ? head.request : 0) + (size_t)head.words;
        if (head.words < 0 || head.kept > KEPT_LIMIT)
            die("job");
        if (size + 1 > room && (buffer = realloc(buffer, room = size + 1)) == NULL)
            die("memory");
        read_all(buffer, size);
        run(&head, &usual, mounts);
    }
}
