/* --join: whether a launch shares its container with the other ranks of its job step. For the front door. */
#ifndef SINGULARITY_SHARED_ASKED_H
#define SINGULARITY_SHARED_ASKED_H

#include <stdbool.h>
#include <stdint.h>

#include "../front/front.h"

/* ---- The job step that a launch is one rank of, as the launcher of ranks tells it in the environment. */

enum { JOB_STEP_NAME = 768, JOB_STEP_SESSION = 32 };

struct job_step {
    const char *launcher;        /* NULL: no launcher of ranks has started this process */
    const char *shown;           /* what people call the step; "" where it has no name */
    uint32_t ranks;              /* of this step on this node; 0: unknown */
    char name[JOB_STEP_NAME];    /* the same in all ranks of the step on this node, and in no other; "": it has none */
    bool name_full;              /* what would be its name is too long for one */
};

/* Several launchers may be stacked (mpirun inside of a batch system's step): the innermost counts. */
void job_step_read(char *const *environment, struct job_step *step);

/* The name that the processes of this terminal or batch script have in common, for launches that no launcher started. */
void job_step_session(char name[JOB_STEP_SESSION]);

/* Fills in the request from --join and from what the launcher of ranks says: with whom, and why or why not. */
void join_take(struct invocation *invocation, const struct job_step *step);

#endif
