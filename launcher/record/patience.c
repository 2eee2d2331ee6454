/* The recorder looks at one call after the other, and may wait in one for a file system whose server is itself under the filter, and waits
 * for the recorder. A process beside it sees that, and lets calls go unseen until the recorder goes on. */
#include "parts.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

/* Milliseconds between looks, and after how many of them a turn takes too long. Once there is such a server it is waited for less. */
enum { TICK = 1000, TICK_THEN = 20, TICKS = 5 };
static const unsigned HELD = 1U << 31; /* a call is let go at this moment: the recorder takes none */

static struct shared {
    atomic_uint turn; /* odd while a call is looked at */
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

static void watch(int listener)
{
    int tick = TICK, ticks = 0;

    for (unsigned last = 0;;) {
        pause_for(tick);
        unsigned turn = atomic_load(&shared->turn);
        ticks = turn == last && turn % 2 == 1 ? ticks + 1 : 0;
        last = turn;
        if (ticks < TICKS)
            continue;
        while (atomic_load(&shared->turn) == turn)
            let_go(listener, turn);
        tick = atomic_load(&shared->let_go) > 0 ? TICK_THEN : TICK;
        ticks = 0;
    }
}

void patience_begin(int listener)
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
            watch(listener);
        _exit(EXIT_SUCCESS);
    }
}

void patience_turn_begins(void)
{
    if (shared != NULL)
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

unsigned long long patience_let_go(void)
{
    return shared != NULL ? atomic_load(&shared->let_go) : 0;
}
