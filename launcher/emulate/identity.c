/* Who a process believes to be, after it has become another user: what getuid(2) and its like say, in builds. Nothing else follows from
 * it. Bounded: of more processes than KNOWN the one that was noted first is forgotten. */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../descriptor.h"

enum { KNOWN = 256, GROUPS = 32, GENERATIONS = 64, NAME_SIZE = 32, TEXT_SIZE = 1024, TICKS = 100 };
enum { REAL, EFFECTIVE, SAVED, KINDS };
#define SAME UINT32_MAX

struct ids {
    uint32_t users[KINDS], groups[KINDS];
    uint32_t others[GROUPS];
    uint32_t count;
};

/* `started` tells a process from an earlier one of the same number; both times are in ticks since the machine was started (proc_pid_stat(5)). */
struct identity {
    pid_t process;
    uint64_t started, since;
    struct ids ids;
};

static struct {
    struct identity known[KNOWN];
    unsigned used, next;
} table; /* one a process, as that which serves is */

/* ---- processes ---- */

struct process {
    pid_t id, parent;
    uint64_t started;
};

static bool read_file(pid_t process, const char *what, char text[static TEXT_SIZE])
{
    char name[NAME_SIZE];

    snprintf(name, sizeof name, "%d/%s", (int)process, what);
    OWNED_FD file = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, text, TEXT_SIZE - 1) : -1;
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static pid_t line_of(const char *text, const char *label)
{
    const char *line = strstr(text, label);

    return line != NULL ? (pid_t)strtol(line + strlen(label), NULL, 10) : 0;
}

/* The process that a thread is of. The 22nd word of stat is its start; its name, which may hold anything, ends with the last bracket. */
static bool process_look(pid_t thread, struct process *process)
{
    char text[TEXT_SIZE];

    if (!read_file(thread, "status", text))
        return false;
    process->id = line_of(text, "\nTgid:");
    process->parent = line_of(text, "\nPPid:");
    if (process->id <= 0 || !read_file(process->id, "stat", text))
        return false;
    const char *word = strrchr(text, ')');
    for (int i = 2; word != NULL && i < 22; i++)
        word = strchr(word + 1, ' ');
    process->started = word != NULL ? strtoull(word, NULL, 10) : 0;
    return word != NULL;
}

static struct identity *identity_of(const struct process *process)
{
    for (unsigned i = 0; i < table.used; i++)
        if (table.known[i].process == process->id && table.known[i].started == process->started)
            return &table.known[i];
    return NULL;
}

/* Who has ended has no children any more who could ask whose they are: the kernel gives them to another. */
static void forget_ended(void)
{
    for (unsigned i = 0; i < table.used;)
        if (kill(table.known[i].process, 0) < 0 && errno == ESRCH)
            table.known[i] = table.known[--table.used];
        else
            i++;
}

/* Its own, or that of the nearest one above that had it already when it started the next. */
static struct identity *identity_find(const struct process *asks)
{
    struct process process = *asks;
    struct identity *found = identity_of(&process);
    uint64_t started = process.started;

    for (int i = 0; found == NULL && i < GENERATIONS && process.parent > 0 && process_look(process.parent, &process); i++) {
        found = identity_of(&process);
        if (found != NULL && found->since > started)
            return NULL;
        started = process.started;
    }
    return found;
}

static void identity_note(const struct process *process, const struct ids *ids)
{
    struct identity *place = identity_of(process);
    struct timespec now = {0};

    if (place == NULL) {
        place = &table.known[table.used < KNOWN ? table.used++ : table.next++ % KNOWN];
    }
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    *place = (struct identity){process->id, process->started, (uint64_t)now.tv_sec * TICKS + (uint64_t)now.tv_nsec / (1000000000 / TICKS), *ids};
}

/* ---- calls ---- */

/* As setresuid(2), but that who is not root may take all but what is root's: whether he has kept the capabilities for it when he gave up
 * root, and that he gets no others, setpriv(1) knows and we do not. That root is gone for good is what programs make sure of (apt, sshd). */
static int set_three(uint32_t ids[static KINDS], const uint32_t wanted[static KINDS], bool root)
{
    for (int i = 0; i < KINDS; i++)
        if (wanted[i] == 0 && !root && ids[REAL] != 0 && ids[EFFECTIVE] != 0 && ids[SAVED] != 0)
            return -EPERM;
    for (int i = 0; i < KINDS; i++)
        ids[i] = wanted[i] != SAME ? wanted[i] : ids[i];
    return 0;
}

static int set_ids(uint32_t ids[static KINDS], enum call call, const uint64_t *arguments, bool root)
{
    uint32_t first = (uint32_t)arguments[0], second = (uint32_t)arguments[1];
    uint32_t wanted[KINDS] = {first, second, (uint32_t)arguments[2]};

    if (call == CALL_SETUID || call == CALL_SETGID) {
        wanted[REAL] = wanted[SAVED] = root ? first : SAME;
        wanted[EFFECTIVE] = first;
    } else if (call == CALL_SETREUID || call == CALL_SETREGID) {
        wanted[SAVED] = first != SAME || (second != SAME && second != ids[REAL]) ? second : SAME;
    }
    return set_three(ids, wanted, root);
}

static int set_groups(struct asker *asker, struct ids *ids, const uint64_t *arguments, bool root)
{
    uint32_t count = (uint32_t)arguments[0];

    ids->count = count < GROUPS ? count : GROUPS;
    if (ids->count > 0 && !asker_read(asker, arguments[1], ids->others, ids->count * sizeof ids->others[0]))
        return -EFAULT;
    for (uint32_t i = 0; i < ids->count; i++)
        if (ids->others[i] == 0 && !root)
            return -EPERM;
    return 0;
}

int identity_set(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    struct process process;
    struct identity *before;
    struct ids ids = {.count = 0};
    int result = 0;

    if (!process_look(asker->process, &process) || !asker_waits(asker))
        return 0;
    if ((before = identity_find(&process)) != NULL)
        ids = before->ids;
    bool root = ids.users[EFFECTIVE] == 0, of_users = rule->call == CALL_SETUID || rule->call == CALL_SETREUID || rule->call == CALL_SETRESUID;
    if (rule->call == CALL_SETGROUPS)
        result = set_groups(asker, &ids, arguments, root);
    else
        result = set_ids(of_users ? ids.users : ids.groups, rule->call, arguments, root);
    static const struct ids nobody_else;
    if (result == 0 && (before != NULL || memcmp(&ids, &nobody_else, sizeof ids) != 0))
        identity_note(&process, &ids);
    return result;
}

static int get_three(struct asker *asker, const uint32_t ids[static KINDS], const uint64_t *arguments)
{
    for (int i = 0; i < KINDS; i++)
        if (!asker_write(asker, arguments[i], &ids[i], sizeof ids[i]))
            return -EFAULT;
    return 0;
}

static int get_groups(struct asker *asker, const struct ids *ids, const uint64_t *arguments)
{
    asker->value = ids->count;
    if ((uint32_t)arguments[0] == 0)
        return 0;
    if ((uint32_t)arguments[0] < ids->count)
        return -EINVAL;
    return ids->count == 0 || asker_write(asker, arguments[1], ids->others, ids->count * sizeof ids->others[0]) ? 0 : -EFAULT;
}

static const struct identity *identity_of_asker(const struct asker *asker)
{
    struct process process;

    forget_ended();
    return table.used > 0 && process_look(asker->process, &process) ? identity_find(&process) : NULL;
}

void identity_owner(const struct asker *asker, struct mark *mark)
{
    const struct identity *found = identity_of_asker(asker);

    if (found != NULL && asker_waits(asker))
        mark->uid = found->ids.users[EFFECTIVE], mark->gid = found->ids.groups[EFFECTIVE];
}

int identity_get(struct asker *asker, const struct rule *rule, const uint64_t *arguments)
{
    const struct identity *found = identity_of_asker(asker);

    if (found == NULL)
        return ANSWER_PROCEED;
    const struct ids *ids = &found->ids;
    bool user = rule->call == CALL_GETUID || rule->call == CALL_GETEUID;
    bool effective = rule->call == CALL_GETEUID || rule->call == CALL_GETEGID;
    if (rule->call == CALL_GETRESUID || rule->call == CALL_GETRESGID)
        return get_three(asker, rule->call == CALL_GETRESUID ? ids->users : ids->groups, arguments);
    if (rule->call == CALL_GETGROUPS)
        return get_groups(asker, ids, arguments);
    asker->value = (user ? ids->users : ids->groups)[effective ? EFFECTIVE : REAL];
    return 0;
}
