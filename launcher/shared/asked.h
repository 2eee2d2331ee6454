/* Whether a launch shares its container with the other ranks of its job step. */
#ifndef SINGULARITY_SHARED_ASKED_H
#define SINGULARITY_SHARED_ASKED_H

#include "job_step.h"
#include "../front/launch.h"

/* Fills in the request from --join and from what the launcher of ranks says: with whom, and why or why not. */
void join_take(struct launch *launch, const struct job_step *step);

#endif
