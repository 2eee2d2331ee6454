/* The job step that this process is a rank of, as Slurm, PALS, Hydra and others tell it in variables. */
#include "asked.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../variable.h"

enum { NAMES = 4, COUNT_LIMIT = 1 << 20 };

/* A launcher of ranks: where it says how many of them are on this node, and what it calls the step. */
struct launcher {
    const char *name;
    const char *ranks;
    const char *names[NAMES]; /* all that are set together name the step; the first is shown */
    const char *socket;       /* or a descriptor of a socket, whose other end is the launcher's process on this node */
};

/* Open MPI's mpirun (prte), MPICH's Hydra and HPE's PALS set these for each rank. Open MPI's stand first: PRRTE under
 * Slurm or PALS sets its own beside theirs, and is then the innermost. Slurm is last, since its variables are
 * inherited by everything that runs in an allocation. */
static const struct launcher launchers[] = {
    {"Open MPI", "OMPI_COMM_WORLD_LOCAL_SIZE", {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "OMPI_MCA_orte_hnp_uri"}, NULL},
    {"MPICH", "MPI_LOCALNRANKS", {"PMI_PORT"}, "PMI_FD"},
    {"PALS", "PALS_LOCAL_SIZE", {"PALS_APID"}, NULL},
};

/* Launchers count from one on in every job: the batch system's own number goes into the name too. */
static const char *const jobs[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"};

/* Digits, up to what stands behind them; 0: there is no such number. */
static uint32_t number_read(const char **text)
{
    uint32_t value = 0;

    for (; **text >= '0' && **text <= '9'; ++*text)
        if ((value = value * 10 + (uint32_t)(**text - '0')) > COUNT_LIMIT)
            return 0;
    return value;
}

/* One more word; one that does not fit leaves no name at all. A name that was cut would not do: two steps whose names
 * were cut could have the same rest, and ranks of different jobs would meet. */
static void name_add(struct job_step *step, const char *word)
{
    size_t used = strlen(step->name);

    step->name_full |= used + strlen(word) + 2 > sizeof step->name;
    if (step->name_full)
        step->name[0] = '\0';
    else
        snprintf(step->name + used, sizeof step->name - used, "%s%s", used > 0 ? " " : "", word);
}

/* The process at the other end, by its number: on a node no two launchers have the same at a time. */
static void name_add_peer(struct job_step *step, const char *descriptor)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    const char *end = descriptor;
    char word[32];
    uint32_t fd = number_read(&end);

    if (*end != '\0' || end == descriptor || getsockopt((int)fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid <= 0)
        return;
    snprintf(word, sizeof word, "process %d", (int)peer.pid);
    name_add(step, word);
}

static bool launcher_take(const struct launcher *launcher, char *const *environment, struct job_step *step)
{
    const char *ranks = variable(environment, launcher->ranks), *value;

    if (ranks == NULL)
        return false;
    step->launcher = launcher->name;
    step->ranks = number_read(&ranks);
    for (size_t i = 0; i < NAMES && launcher->names[i] != NULL; i++) {
        if ((value = variable(environment, launcher->names[i])) == NULL || *value == '\0')
            continue;
        if (*step->shown == '\0')
            step->shown = value;
        name_add(step, value);
    }
    if (launcher->socket != NULL && (value = variable(environment, launcher->socket)) != NULL)
        name_add_peer(step, value);
    return true;
}

/* Slurm's "2(x3),1": how many tasks each node has, in order. */
static uint32_t tasks_of_node(const char *list, uint32_t node)
{
    while (*list != '\0') {
        uint32_t tasks = number_read(&list), times = 1;
        if (strncmp(list, "(x", 2) == 0) {
            list += 2;
            times = number_read(&list);
            list += *list == ')' ? 1 : 0;
        }
        if (node < times)
            return tasks;
        node -= times;
        if (*list++ != ',')
            return 0;
    }
    return 0;
}

/* By the variables that srun(1) sets for each task; those of the allocation alone do not make a rank. The counts of a
 * step go before those of the job, since a step may use fewer tasks. */
static bool slurm_take(char *const *environment, struct job_step *step)
{
    const char *number = variable(environment, "SLURM_STEP_ID"), *node = variable(environment, "SLURM_NODEID");
    const char *tasks = variable(environment, "SLURM_STEP_TASKS_PER_NODE");

    if (number == NULL || variable(environment, "SLURM_JOB_ID") == NULL || variable(environment, "SLURM_LOCALID") == NULL)
        return false;
    if (tasks == NULL)
        tasks = variable(environment, "SLURM_TASKS_PER_NODE");
    step->launcher = "Slurm";
    node = node != NULL ? node : "0";
    step->shown = number;
    name_add(step, number);
    name_add(step, node); /* sites that try things out have several nodes on one machine */
    step->ranks = tasks != NULL ? tasks_of_node(tasks, number_read(&node)) : 0;
    return true;
}

void job_step_read(char *const *environment, struct job_step *step)
{
    bool found = false;

    *step = (struct job_step){.shown = ""};
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0] && !found; i++)
        found = launcher_take(&launchers[i], environment, step);
    if (!found && !slurm_take(environment, step))
        return;
    if (step->name[0] == '\0') /* a job may have many steps: its own name is none for them */
        return;
    name_add(step, "of");
    name_add(step, step->launcher);
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        const char *job = variable(environment, jobs[i]);
        if (job != NULL)
            name_add(step, job);
    }
}

void job_step_session(char name[JOB_STEP_SESSION])
{
    snprintf(name, JOB_STEP_SESSION, "session %d", (int)getsid(0));
}
