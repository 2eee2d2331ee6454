/* A thread that answers one process runs on the processor of that process: to wake one that sleeps takes longer than most answers.
 * Opens /proc/PID/stat of who asks, and by Landlock nothing else; without Landlock nothing at all, and threads run anywhere. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "parts.h"

#if __has_include(<linux/landlock.h>)
#include <linux/landlock.h>
#endif

/* So many requests in a row are no accident, and who makes them is looked for again each LOOK requests: the kernel may have moved it.
 * PROCESSOR: how many spaces stand before that number, behind the name in brackets (proc_pid_stat(5), field 39). */
enum { IN_ROW = 8, LOOK = 16, PROCESSOR = 37, STAT = 512 };

#ifdef LANDLOCK_ACCESS_FS_READ_FILE

/* All rights of its first version: each is refused where no rule grants it. */
static bool restrict_to(int directory)
{
    const struct landlock_ruleset_attr all = {.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    const struct landlock_path_beneath_attr below = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE, .parent_fd = directory};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    bool done = rules >= 0 && syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) == 0 &&
                syscall(SYS_landlock_restrict_self, rules, 0) == 0;

    if (rules >= 0)
        close(rules);
    return done;
}

#else

static bool restrict_to(int directory)
{
    (void)directory;
    return false;
}

#endif

int near_begin(struct server *server)
{
    int proc = CPU_COUNT(&server->processors) > 1 ? open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

    if (proc >= 0 && !restrict_to(proc)) {
        close(proc);
        proc = -1;
    }
    server->proc = proc;
    return proc;
}

/* The processor that a process runs on, or ran on last; -1: it is gone, or not to be seen. */
static int processor_of(const struct server *server, struct near *near)
{
    char text[STAT];

    if (near->stat < 0) {
        snprintf(text, sizeof text, "%u/stat", near->asker);
        near->stat = (int)syscall(SYS_openat, server->proc, text, NEAR_FLAGS, 0); /* as it is: C libraries add flags */
    }
    ssize_t length = near->stat >= 0 ? pread(near->stat, text, sizeof text - 1, 0) : -1;
    if (length <= 0)
        return -1;
    text[length] = '\0';
    const char *at = strrchr(text, ')');
    for (int i = 0; at != NULL && i < PROCESSOR; i++)
        at = strchr(at + 1, ' ');
    return at != NULL ? atoi(at + 1) : -1;
}

void near_follow(struct server *server, struct near *near, uint32_t asker)
{
    cpu_set_t one;

    if (asker != near->asker) {
        if (near->stat >= 0)
            close(near->stat);
        if (near->on >= 0)
            (void)sched_setaffinity(0, sizeof server->processors, &server->processors);
        *near = (struct near){.asker = asker, .stat = -1, .on = -1};
    }
    if (server->proc < 0 || asker == 0 || near->in_row++ % LOOK != IN_ROW)
        return;
    int on = processor_of(server, near);
    if (on < 0 || on == near->on)
        return;
    CPU_ZERO(&one);
    CPU_SET((unsigned)on, &one); /* nothing, beyond what a set can hold */
    if (sched_setaffinity(0, sizeof one, &one) == 0)
        near->on = on;
}
