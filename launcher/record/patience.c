/* The recorder looks at one call after the other, and may wait in one for a file system whose server is itself under the filter, and waits
 * for the recorder. A process beside it sees that, and lets calls go unseen until the recorder goes on. Where the program ends meanwhile, it
 * ends the recorder. */
#include "parts.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

/* Milliseconds between looks, and after how many of them a turn takes too long. Once there is such a server it is waited for less. */
enum { TICK = 1000, TICK_THEN = 20, TICKS = 5 };
static const unsigned HELD = 1U << 31; /* a call is let go at this moment: the recorder takes none */

static struct shared {
    atomic_uint turn;    /* odd while a call is looked at */
    atomic_ullong call;  /* which */
    atomic_ullong let_go;
} *shared;

static void pause_for(int milliseconds)
{
    (void)poll(NULL, 0, milliseconds);
}

static void let_go(int listener, unsigned turn)
{
    static union notice notice;
    struct pollfd asked = {.fd = listener, .events = POLLIN};
    unsigned expected = turn;

    if (poll(&asked, 1, 0) != 1 || !(asked.revents & POLLIN)) {
        pause_for(TICK_THEN);
        return;
    }
    if (!atomic_compare_exchange_strong(&shared->turn, &expected, turn | HELD))
        return;
    if (poll(&asked, 1, 0) == 1 && (asked.revents & POLLIN) && listener_receive(listener, &notice) && notice.call.id != 0) {
        listener_continue(listener, notice.call.id);
        atomic_fetch_add(&shared->let_go, 1);
    }
    atomic_store(&shared->turn, turn);
}

/* How a process has ended whose parent has not heard of it yet (proc_pid_stat(5)); false: it has not. */
static bool has_ended(pid_t process, int *status)
{
    char text[1024];

    snprintf(text, sizeof text, "/proc/%d/stat", (int)process);
    FILE *file = fopen(text, "re");
    size_t size = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file != NULL)
        fclose(file);
    text[size] = '\0';
    const char *name_end = strrchr(text, ')'), *last = strrchr(text, ' ');
    if (name_end == NULL || strncmp(name_end, ") Z", 3) != 0)
        return false;
    *status = atoi(last);
    return true;
}

_Noreturn void serve_unseen(int listener)
{
    static union notice notice;
    struct pollfd asked = {.fd = 0, .events = POLLIN};

    (void)setsid();
    if (dup2(listener, 0) < 0 || syscall(SYS_close_range, 1, ~0U, 0) < 0 || chdir("/") < 0)
        _exit(EXIT_FAILURE);
    while (poll(&asked, 1, -1) >= 0 || errno == EINTR) {
        if (!(asked.revents & POLLIN) && (asked.revents & (POLLHUP | POLLERR)))
            break;
        if ((asked.revents & POLLIN) && !listener_receive(0, &notice))
            break;
        if ((asked.revents & POLLIN) && notice.call.id != 0)
            listener_continue(0, notice.call.id);
    }
    _exit(EXIT_SUCCESS);
}

/* The recorder waits in the kernel and hears nothing. All that it knows is written, for it writes after each call. */
static void take_over(int listener, pid_t recorder, int status)
{
    (void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
    record_end(status, true);
    (void)kill(recorder, SIGKILL);
    listener_continue(listener, atomic_load(&shared->call));
    serve_unseen(listener);
}

static void watch(int listener, pid_t recorder, pid_t program)
{
    int status, tick = TICK, ticks = 0;

    for (unsigned last = 0;;) {
        pause_for(tick);
        unsigned turn = atomic_load(&shared->turn);
        ticks = turn == last && turn % 2 == 1 ? ticks + 1 : 0;
        last = turn;
        if (ticks < TICKS)
            continue;
        while (atomic_load(&shared->turn) == turn) {
            if (has_ended(program, &status))
                take_over(listener, recorder, status);
            let_go(listener, turn);
        }
        tick = atomic_load(&shared->let_go) > 0 ? TICK_THEN : TICK;
        ticks = 0;
    }
}

void patience_begin(int listener, pid_t program)
{
    void *memory = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return;
    shared = memory;
    pid_t recorder = getpid();
    pid_t child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (getppid() == recorder)
            watch(listener, recorder, program);
        _exit(EXIT_SUCCESS);
    }
}

void patience_turn_begins(uint64_t call)
{
    if (shared == NULL)
        return;
    atomic_store(&shared->call, call);
    atomic_fetch_add(&shared->turn, 1);
}

/* Who lets a call go is waited for, but not for ever: he may have been killed. */
void patience_turn_ends(void)
{
    if (shared == NULL)
        return;
    unsigned turn = atomic_load(&shared->turn) & ~HELD, expected = turn;
    for (int i = 0; i < TICK && !atomic_compare_exchange_strong(&shared->turn, &expected, turn + 1); i++, expected = turn)
        pause_for(1);
    atomic_store(&shared->turn, turn + 1);
}

void record_end(int status, bool begun)
{
    unsigned long long unseen = shared != NULL ? atomic_load(&shared->let_go) : 0;
    char text[128];

    if (unseen > 0) {
        snprintf(text, sizeof text, "%llu calls that named files, while a file system that the run serves itself did not answer", unseen);
        log_words(LOG_GAP, text, "", "");
    }
    snprintf(text, sizeof text, "%d", status);
    log_words(LOG_END, text, begun ? "begun" : "", "");
    (void)log_flush();
}
