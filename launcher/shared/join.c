/* Joins the container of a job step or instance, or sets it up for others too. Enters namespaces inside privilege brackets. */
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "../perform/perform.h"

enum { ROUNDS = 3, TRIES = 1000, BACKLOG = 4096 };

/* In the order in which they are entered: the user namespace brings the rights for the others, the mounts come last. */
static const struct {
    int flag;
    const char *path;
} spaces[] = {{CLONE_NEWUSER, "self/ns/user"}, {CLONE_NEWPID, "self/ns/pid"}, {CLONE_NEWIPC, "self/ns/ipc"},
              {CLONE_NEWUTS, "self/ns/uts"},   {CLONE_NEWNET, "self/ns/net"}, {CLONE_NEWNS, "self/ns/mnt"}};
enum { SPACES = sizeof spaces / sizeof spaces[0] };

/* Whether a namespace belongs to the user namespace that this process is in (NS_GET_USERNS, Linux 4.9): one that a user makes
 * belongs to a user namespace of his own, and the setuid program must not enter it. */
static bool is_ours(int space)
{
    struct stat owner, own;
    OWNED_FD user = ioctl(space, NS_GET_USERNS);

    return user >= 0 && fstat(user, &owner) == 0 && fstatat(proc_fd(), "self/ns/user", &own, 0) == 0 &&
           owner.st_dev == own.st_dev && owner.st_ino == own.st_ino;
}

/* False: the first setns(2) is refused, so that nothing has changed and the launch can go on by itself. Later ones
 * must succeed. setns(2) has to come in this order: without the user namespace's rights the others are refused, and
 * after the mount namespace /proc is the container's, so that nothing is opened by name any more. PRIVILEGE_MOUNT is
 * CAP_SYS_ADMIN, which setns(2) asks for. */
static bool enter(struct plan *plan, const struct caller *caller, const int *fds)
{
    size_t used = 0;

    for (size_t i = 0; i < SPACES; i++) {
        if (!(plan->namespaces & (uint64_t)spaces[i].flag))
            continue;
        OWNED_FD space = fds[used++];
        if (plan->mode != MODE_USERNS && !is_ours(space))
            stop(0, "join the container (%s): its namespaces are not of this program's making", plan->join_reason);
        int result = PRIVILEGE_RAISED("setns", PRIVILEGE_MOUNT, setns(space, spaces[i].flag));
        if (result < 0 && used == 1)
            return false;
        if (result < 0)
            stop(errno, "join the container (%s; --join=no starts one of its own)", plan->join_reason);
        if (spaces[i].flag == CLONE_NEWUSER)
            privilege_mapped(plan->root_mapped ? 0 : caller->uid);
    }
    plan->init = false; /* the keeper is the first process of a PID namespace */
    perform_fork(plan, caller);
    return true;
}

/* True in the child that sets up; in the parent false, when the container is ready or will never be. A set-up that
 * ends with a message of its own ends this launch too. The child becomes keeper, not this process: the caller waits
 * for this one, which must end with its program and not with the last rank's. Who starts an instance is nobody else's to wait for. */
static bool set_up(struct plan *plan, int place)
{
    pid_t launcher = getpid(), child = plan->instance ? 0 : fork();
    int status = 0;

    if (child == 0) {
        if (!plan->instance && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != launcher))
            _exit(EXIT_OWN_FAILURE);
        plan->keeper_fd = place;
        return true;
    }
    close(place);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) != 0)
        _exit(WEXITSTATUS(status));
    return false;
}

/* Who binds the name first sets up; all others connect and wait. It ends after ROUNDS refusals or TRIES pauses of a
 * millisecond, so that a keeper that dies again and again cannot hold a job: a launch of its own is always possible. */
bool join_container(struct plan *plan, const struct plan_inputs *inputs, const struct rendezvous *rendezvous, const char *obstacle)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int fds[SPACES], rounds = 0;

    for (int tries = 0; obstacle == NULL && rounds < ROUNDS && tries < TRIES; tries++) {
        OWNED_FD place = !plan->instance || inputs->request->instance_starts ? rendezvous_bind(rendezvous) : -1;
        /* SO_PEERCRED shows those who connect the ids of whoever called listen(2): root's in SUID mode, which a user cannot fake */
        if (place >= 0 && rendezvous->outside != NULL)
            place = rendezvous->outside->begin(rendezvous, place);
        else if (place >= 0 && PRIVILEGE_RAISED("listen", PRIVILEGE_ROOT, listen(place, BACKLOG)) < 0)
            fd_close(&place);
        OWNED_FD connection = rendezvous_ask(rendezvous, &obstacle);
        if (connection < 0) { /* nobody listens yet, or any more */
            (void)nanosleep(&pause, NULL);
            continue;
        }
        if (place >= 0 && set_up(plan, fd_give(&place)))
            return false;
        if (rendezvous_answered(connection, fds, (size_t)__builtin_popcountll(plan->namespaces), &obstacle)) {
            message_verbose("joining a container (%s)", plan->join_reason);
            if (enter(plan, inputs->caller, fds))
                return true;
            obstacle = errno_words(errno);
        }
        rounds++;
    }
    rendezvous_missed(plan, inputs->request, obstacle);
    return false;
}

/* After all privilege has gone: it is this process's own. */
static size_t open_spaces(const struct plan *plan, int fds[SPACES])
{
    size_t count = 0;

    for (size_t i = 0; i < SPACES; i++)
        if ((plan->namespaces & (uint64_t)spaces[i].flag) && (fds[count++] = openat(proc_fd(), spaces[i].path, O_RDONLY | O_CLOEXEC)) < 0)
            stop(errno, "keep the container for others (%s)", spaces[i].path);
    return count;
}

_Noreturn void join_keep(struct plan *plan, const struct plan_inputs *inputs, const struct rendezvous *rendezvous)
{
    privilege_forget(inputs->caller);
    int fds[SPACES];
    size_t count = open_spaces(plan, fds);
    perform_accounts(plan, inputs);
    perform_follow(plan);
    /* from here on the keeper outlives the launch that made it: no death signal, no terminal, and the word that all
     * is ready as the last thing */
    if (prctl(PR_SET_PDEATHSIG, 0) < 0 || setsid() < 0 || write(plan->report_fd, "", 1) != 1)
        stop(errno, "keep the container for its job step");
    keeper_run(rendezvous, plan->keeper_fd, fds, count);
}

/* The first process of an instance keeps it, so that all of it ends together. With --boot that is init(8), and the keeper another. */
void join_stay(const struct plan *plan, const struct plan_inputs *inputs, struct rendezvous *rendezvous)
{
    int fds[SPACES];

    if (!plan->instance || plan->keeper_fd < 0)
        return;
    if ((rendezvous->script = fork()) < 0)
        stop(errno, "start instance %s", inputs->request->instance);
    if ((rendezvous->script > 0) == (inputs->request->action == ACTION_BOOT))
        return;
    privilege_forget(inputs->caller);
    perform_follow(plan);
    size_t count = open_spaces(plan, fds);
    keeper_run(rendezvous, plan->keeper_fd, fds, count);
}
