/* The stages of a launch, for both starters: the one without privilege, and sexec-suid, which is setuid root. launch_here() and
 * the latter's main() have the order, and beside each stage why it stands there. All of these stop the process on failure. */
#ifndef SINGULARITY_STARTER_H
#define SINGULARITY_STARTER_H

#include "facts/facts.h"
#include "image/images.h"
#include "inherited.h"
#include "perform/perform.h"
#include "plan/plan.h"
#include "shared/shared.h"

/* Static in main(), since the stack of the caller may be small; untouched pages cost nothing. */
struct launch {
    struct inherited inherited;
    struct caller caller;
    struct request request;
    struct config config;
    struct images images;
    bool images_locked;
    struct host_facts host;
    struct plan_inputs inputs; /* points to those above */
    struct plan plan;
    struct rendezvous rendezvous;
    const char *rendezvous_obstacle;
    struct stage stage;
};

/* The launch without the setuid program, in this very process: of the front door's request or, where that is NULL, of the one that
 * argv[1] names. The program's words begin at argv[2], and are the end of `line`, the command line that others see; its variables are those of
 * `environ`. */
_Noreturn void launch_here(const struct request *given, char **line, int argc, char **argv);

/* Reads the request that the first argument names a descriptor of. */
void launch_receive(struct launch *launch, int argc, char **argv);

/* Configuration, images and the host, looked at as the user and read-only. `setuid`: privilege can be raised. */
void launch_find_facts(struct launch *launch, bool setuid);

/* By which means. What is refused goes to syslog. */
void launch_plan_mode(struct launch *launch);

/* Runs the plain starter with the same request: what needs a user namespace, without any privilege; or root himself. */
_Noreturn void launch_hand_over(struct launch *launch, char **argv);

/* Whether the images are signed as the site requires it. A child without privilege looks. */
void launch_check_signatures(struct launch *launch);

/* Which mounts. */
void launch_plan_mounts(struct launch *launch);

/* The last acts as the user, on the host: directories of --workdir, the key of a shared container, the audit line. */
void launch_prepare(struct launch *launch);

/* Into a container that other launches of the job step share. False: it is to be set up by this process. */
bool launch_join(struct launch *launch);

/* The image's root directory: a file's is mounted in namespaces of the launch's own. In them what waits outside does not return. */
int launch_open_image(struct launch *launch);

/* The end of a dry run: looks into the image, completes the plan and prints it. The setuid program has sexec-judge do so. */
_Noreturn void launch_show(struct launch *launch, int root);

/* What is left out, and what the root is laid out of. */
void launch_plan_root(struct launch *launch);

/* From the plan to the root directory. The keeper of a shared container does not return. */
void launch_make_root(struct launch *launch);

/* Nothing of the host but `also` is open from here on, and the process stands in its first directory. */
void launch_leave_host(struct launch *launch, int also);

/* Completes the request with what a program needs to know of the plan. */
void launch_tell_payload(struct launch *launch);

/* The program, by such a request. Not in the setuid program. */
_Noreturn void launch_start_program(const struct launch *launch, char **argv);

#endif
