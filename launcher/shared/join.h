/* One container for several launches of a job step. */
#ifndef SINGULARITY_SHARED_JOIN_H
#define SINGULARITY_SHARED_JOIN_H

#include "../plan/plan.h"
#include "rendezvous.h"

/* `obstacle`: what rendezvous_prepare() said. True: this process is in a container that another process keeps. False: it is to be set up here: for others too, in the
 * child that this returns in with plan->keeper_fd set, or, with plan->join taken back, for this launch alone. */
bool join_container(struct plan *plan, const struct plan_inputs *inputs, const struct rendezvous *rendezvous, const char *obstacle);

/* What becomes of the child that has set up a container for others: without any privilege it keeps the namespaces until
 * the last of those that joined has ended. */
_Noreturn void join_keep(struct plan *plan, const struct plan_inputs *inputs, const struct rendezvous *rendezvous);

#endif
