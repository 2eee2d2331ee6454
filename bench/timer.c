/* Times launches, each case once in every round, in another order each time: a machine that gets slower, or what one
   launch leaves to the next, meets all alike.

   timer latency ROUNDS WARMUP CASES      a line for each launch after the first WARMUP rounds
   timer memory ROUNDS WARMUP CASES       the same by fork: what posix_spawn starts shares the memory of this process at
                                          first, whose size the kernel would count as its peak
   timer throughput COUNT PARALLEL CASES  a line for each case: COUNT launches, PARALLEL of them at a time

   CASES is a file, one case a line: NAME <tab> WORD <tab> WORD ... In a word, {n} becomes the number of the launch. The
   first 8 bytes that the program writes to descriptor 1 are the time when it began (bench/instant.c). A launch has
   ended when its process has; it is gone when all that it started is, which is seen since orphans become children of this.

   Output, tab-separated: NAME, nanoseconds until the program began (0: it did not say), until the launch had ended and
   until it was gone; CPU time in microseconds; peak resident KiB of the launch and of the largest orphan; failures;
   whether processes are left. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CASES = 64, WORDS = 128, TEXT = 1 << 18, PARALLEL = 256, LAUNCH_SECONDS = 60, GRACE_MILLISECONDS = 5000 };

struct test_case {
    char *name;
    char *words[WORDS]; /* ended by NULL */
};

struct result {
    int64_t began, ended, gone, cpu;
    long peak, orphan_peak;
    int failures, left;
};

static struct test_case cases[CASES];
static int case_count;
static char text[TEXT];
static unsigned launch_number;
static int null_fd;
static bool forking;
static pid_t running; /* for the alarm only */

static _Noreturn void stop(const char *what)
{
    fprintf(stderr, "timer: %s: %s\n", what, strerror(errno));
    exit(255);
}

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int64_t cpu_of_children(void)
{
    struct rusage usage;
    struct timeval sum;

    getrusage(RUSAGE_CHILDREN, &usage);
    timeradd(&usage.ru_utime, &usage.ru_stime, &sum);
    return (int64_t)sum.tv_sec * 1000000 + sum.tv_usec;
}

static void too_long(int number)
{
    static const char message[] = "timer: a launch did not end, it is killed\n";

    (void)number;
    (void)!write(2, message, sizeof message - 1);
    kill(running, SIGKILL);
}

/* ---- the cases ---- */

static void add_case(char *line)
{
    char *rest = line;
    int count = 0;

    if (case_count == CASES) {
        errno = E2BIG;
        stop("cases");
    }
    struct test_case *made = &cases[case_count++];
    made->name = strsep(&rest, "\t");
    for (char *word; (word = strsep(&rest, "\t")) != NULL;) {
        if (count + 1 == WORDS) {
            errno = E2BIG;
            stop(made->name);
        }
        made->words[count++] = word;
    }
}

static void read_cases(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        stop(path);
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = '\0';
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        if (*line != '\0')
            add_case(line);
}

/* ---- one launch ---- */

/* Puts the number of the launch in place of {n}; `numbered` holds the words that are changed. */
static void fill_in(char *const *words, char **argv, char numbered[WORDS][256])
{
    int count = 0;

    for (; words[count] != NULL; count++) {
        const char *place = strstr(words[count], "{n}");
        argv[count] = words[count];
        if (place != NULL) {
            snprintf(numbered[count], 256, "%.*s%u%s", (int)(place - words[count]), words[count], launch_number,
                     place + 3);
            argv[count] = numbered[count];
        }
    }
    argv[count] = NULL;
}

static pid_t start_forked(char **argv, int stdout_fd)
{
    pid_t process = fork();

    if (process < 0)
        stop("fork");
    if (process > 0)
        return process;
    dup2(null_fd, 0);
    dup2(stdout_fd, 1);
    execvp(argv[0], argv);
    stop(argv[0]);
}

/* `stdout_fd` is the program's descriptor 1. */
static pid_t start(char *const *words, int stdout_fd)
{
    char *argv[WORDS];
    char numbered[WORDS][256];
    posix_spawn_file_actions_t actions;
    pid_t process;

    fill_in(words, argv, numbered);
    if (forking)
        return start_forked(argv, stdout_fd);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, null_fd, 0);
    posix_spawn_file_actions_adddup2(&actions, stdout_fd, 1);
    errno = posix_spawnp(&process, argv[0], &actions, NULL, argv, environ);
    if (errno != 0)
        stop(argv[0]);
    posix_spawn_file_actions_destroy(&actions);
    return process;
}

static void keep_larger(long *peak, long other)
{
    if (other > *peak)
        *peak = other;
}

/* Waits for one process; those adopted on the way are buried. Returns whether it failed. */
static bool await(pid_t process, struct result *result)
{
    struct rusage usage;
    int status;

    running = process;
    alarm(LAUNCH_SECONDS);
    for (;;) {
        pid_t ended = wait4(-1, &status, 0, &usage);
        if (ended < 0 && errno != EINTR)
            stop("wait4");
        keep_larger(ended == process ? &result->peak : &result->orphan_peak, ended < 0 ? 0 : usage.ru_maxrss);
        if (ended == process)
            break;
    }
    alarm(0);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* Until all that was started has ended. Returns how many processes have not, after a while. */
static int await_orphans(struct result *result)
{
    const struct timespec pause = {.tv_nsec = 100000};
    int64_t limit = now() + (int64_t)GRACE_MILLISECONDS * 1000000;
    struct rusage usage;

    for (;;) {
        pid_t ended = wait4(-1, NULL, WNOHANG, &usage);
        if (ended < 0)
            return 0;
        if (ended > 0)
            keep_larger(&result->orphan_peak, usage.ru_maxrss);
        else if (now() > limit)
            return 1;
        else
            nanosleep(&pause, NULL);
    }
}

static void launch(const struct test_case *test, struct result *result)
{
    int64_t began = 0;
    int stamp[2];

    if (pipe2(stamp, O_CLOEXEC | O_NONBLOCK) < 0)
        stop("pipe2");
    launch_number++;
    *result = (struct result){0};
    int64_t cpu = cpu_of_children();
    int64_t begin = now();
    result->failures = await(start(test->words, stamp[1]), result);
    result->ended = now() - begin;
    result->left = await_orphans(result);
    result->gone = now() - begin;
    result->cpu = cpu_of_children() - cpu;
    if (read(stamp[0], &began, sizeof began) == sizeof began)
        result->began = began - begin;
    close(stamp[0]);
    close(stamp[1]);
}

static void print(const struct test_case *test, const struct result *result)
{
    printf("%s\t%lld\t%lld\t%lld\t%lld\t%ld\t%ld\t%d\t%d\n", test->name, (long long)result->began,
           (long long)result->ended, (long long)result->gone, (long long)result->cpu, result->peak, result->orphan_peak,
           result->failures, result->left);
    fflush(stdout);
}

/* The same orders in every run. */
static void shuffle(int order[CASES])
{
    for (int i = 0; i < case_count; i++) {
        int other = (int)(random() % (i + 1));
        order[i] = order[other];
        order[other] = i;
    }
}

static void measure_latency(int rounds, int warmup)
{
    struct result result;
    int order[CASES] = {0};

    for (int round = 0; round < warmup + rounds; round++) {
        shuffle(order);
        for (int i = 0; i < case_count; i++) {
            const struct test_case *test = &cases[order[i]];
            launch(test, &result);
            if (round >= warmup || result.failures > 0)
                print(test, &result);
        }
    }
}

/* ---- many at a time ---- */

static void launch_many(const struct test_case *test, int count, int parallel, struct result *result)
{
    pid_t live[PARALLEL] = {0};
    int started = 0, ended = 0;

    if (parallel > PARALLEL)
        parallel = PARALLEL;
    *result = (struct result){0};
    int64_t cpu = cpu_of_children();
    int64_t begin = now();
    while (ended < count) {
        for (int i = 0; i < parallel && started < count; i++)
            if (live[i] == 0) {
                launch_number++;
                started++;
                live[i] = start(test->words, null_fd);
            }
        int status;
        struct rusage usage;
        pid_t process = wait4(-1, &status, 0, &usage);
        if (process < 0)
            stop("wait4");
        for (int i = 0; i < parallel; i++)
            if (live[i] == process) {
                live[i] = 0;
                ended++;
                result->failures += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
            }
    }
    result->ended = now() - begin;
    result->left = await_orphans(result);
    result->gone = now() - begin;
    result->cpu = cpu_of_children() - cpu;
}

int main(int argc, char **argv)
{
    struct result result;

    if (argc != 5) {
        fputs("usage: timer latency|memory ROUNDS WARMUP CASES | timer throughput COUNT PARALLEL CASES\n", stderr);
        return 1;
    }
    read_cases(argv[4]);
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const struct sigaction action = {.sa_handler = too_long};
    sigaction(SIGALRM, &action, NULL);
    forking = strcmp(argv[1], "memory") == 0;
    if (forking || strcmp(argv[1], "latency") == 0)
        measure_latency(atoi(argv[2]), atoi(argv[3]));
    else
        for (int i = 0; i < case_count; i++) {
            launch_many(&cases[i], atoi(argv[2]), atoi(argv[3]), &result);
            print(&cases[i], &result);
        }
}
