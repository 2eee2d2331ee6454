/* A launch, as both starters do it: sexec, which has no privilege, and sexec-suid, which is setuid root. */
#ifndef SINGULARITY_STARTER_H
#define SINGULARITY_STARTER_H

#include "image/images.h"
#include "inherited.h"
#include "shared/join.h"
#include "perform/perform.h"
#include "plan/plan.h"

/* Static in a starter, since the stack of the caller may be small; untouched pages cost nothing. */
struct starter {
    struct request request;
    struct config config;
    struct caller caller;
    struct plan plan;
    struct plan_inputs inputs;
    struct images images;
    bool images_locked;
    struct inherited inherited;
    struct rendezvous rendezvous;
    const char *rendezvous_obstacle;
};

/* Reads the request that the first argument names a descriptor of. All of these stop the process on failure. */
void starter_receive(struct starter *starter, int argc, char **argv);

/* By which means: reads the configuration and opens the images, as the user. `setuid`: privilege can be raised. */
void starter_choose_mode(struct starter *starter, bool setuid);

/* Runs the plain starter with the same request: what needs a user namespace, without any privilege; or root himself. */
_Noreturn void starter_hand_over(struct starter *starter, char **argv);

/* Which mounts; the last act before the first that needs privilege. */
void starter_plan(struct starter *starter);

/* From the plan to the root directory, or into one that is shared; what waits outside, and a keeper, does not return. */
void starter_make_container(struct starter *starter);

/* Nothing of the host but `also` is open from here on, and the process stands in its first directory. */
void starter_leave_host(struct starter *starter, int also);

/* Completes the request with what a program needs to know of the plan. */
void starter_tell_payload(struct starter *starter);

/* The program, by such a request. Not in the setuid program. */
_Noreturn void starter_start_program(const struct starter *starter, char **argv);

#endif
