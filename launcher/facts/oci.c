/* Where and as whom the program of an image of Docker or OCI starts: its files are read and judged by a child without any
 * privilege, which has a plan of its own to work on, and what comes of it goes into the plan here. */
#include "facts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../privilege.h"

enum { START, PASSWD, GROUP, FILES };

struct question {
    struct plan *plan;
    const struct plan_inputs *inputs;
    const char *files[FILES];
};

struct answer {
    uint32_t image;              /* one that has a WORKDIR and a USER */
    uint32_t placed;             /* its WORKDIR is made where it is missing */
    uint32_t own_accounts;       /* the account files stay the image's own */
    uint32_t home_yields;
    uint32_t no_new_privs;
    uint64_t keep_capabilities;
    struct plan_user user;       /* without its texts */
    char spec[PATH_MAX], home[PATH_MAX], directory[PATH_MAX]; /* "": as planned before */
};

/* ---- in the child ---- */

/* Why the kernel makes no user namespace with any rights in it, or NULL. Tried in the child, since a process cannot leave it again;
 * the second unshare(2) needs a right that AppArmor takes from unprivileged ones (Ubuntu 24.04). */
static const char *namespace_obstacle(void)
{
    return unshare(CLONE_NEWUSER) < 0 || unshare(CLONE_NEWUTS) < 0 ? "the kernel makes no user namespace" : NULL;
}

/* The child plans on its own copy of the memory (fork(2)); only what stands in the answer comes back. */
static void decide(const struct question *question, struct answer *answer)
{
    struct plan *plan = question->plan;
    uint32_t steps = plan->step_count;

    if (plan_oci(plan, question->inputs, question->files[START])) {
        plan_oci_passwd(plan, question->files[PASSWD]);
        plan_oci_group(plan, question->files[GROUP]);
        plan_oci_user(plan, question->inputs, plan_oci_user_needs_namespace(plan, question->inputs) ? namespace_obstacle() : NULL);
    }
    *answer = (struct answer){.image = plan->oci_image, .placed = plan->step_count > steps, .home_yields = plan->home_yields,
                              .no_new_privs = plan->no_new_privs, .keep_capabilities = plan->keep_capabilities, .user = plan->user};
    for (uint32_t i = 0; i < steps; i++)
        answer->own_accounts |= (plan->steps[i].flags & (STEP_PASSWD | STEP_GROUP)) && plan->steps[i].skipped != NULL;
    snprintf(answer->spec, PATH_MAX, "%s", plan->user.spec);
    snprintf(answer->home, PATH_MAX, "%s", plan->home_yields ? plan->home : "");
    snprintf(answer->directory, PATH_MAX, "%s", plan->directory_reason != NULL ? plan->directory : "");
}

static _Noreturn void look(const void *asked, int to)
{
    static struct answer answer;
    const struct question *question = asked;

    privilege_forget(question->inputs->caller);
    decide(question, &answer);
    _exit(fd_write(to, &answer, sizeof answer) ? 0 : EXIT_OWN_FAILURE);
}

/* ---- in this process ---- */

/* A hostile image may have taken the child over: its answer can say nothing here that a user could not ask for. Texts
 * get their end here, numbers are compared with their limits, and a plan that is not root's keeps its capabilities
 * whatever the answer says. */
static void apply(struct plan *plan, struct answer *answer)
{
    answer->spec[PATH_MAX - 1] = answer->home[PATH_MAX - 1] = answer->directory[PATH_MAX - 1] = '\0';
    if (answer->user.way > USER_REAL || answer->user.group_count > PLAN_GROUPS)
        stop(0, "WORKDIR and USER of the image could not be read (--no-compat does without)");
    plan->oci_image = answer->image;
    plan->user = answer->user;
    plan->user.spec = plan_text(plan, "%s", answer->spec);
    plan->user.name = plan->user.home = "";
    plan->home_yields = answer->home_yields;
    if (answer->home_yields)
        plan->home = plan_text(plan, "%s", answer->home);
    for (uint32_t i = 0; answer->own_accounts && i < plan->step_count; i++)
        if (plan->steps[i].flags & (STEP_PASSWD | STEP_GROUP))
            plan->steps[i].skipped = "the program is a user of the image";
    if (plan->mode == MODE_ROOT) {
        plan->keep_capabilities = answer->keep_capabilities;
        plan->no_new_privs = answer->no_new_privs;
    }
    if (*answer->directory != '\0')
        plan_oci_directory(plan, plan_text(plan, "%s", answer->directory), answer->placed);
}

/* Nothing is read unless it was asked for, or is to be told. */
void facts_oci(struct plan *plan, const struct plan_inputs *inputs, int root)
{
    static const char *const names[FILES] = {"/.singularity.d/oci-start", "/etc/passwd", "/etc/group"};
    static char texts[FILES][SMALL_FILE]; /* these are too large for a stack that may be limited */
    static struct answer answer;
    struct question question = {.plan = plan, .inputs = inputs};

    if (!plan->oci_wanted && message_level_get() < LEVEL_VERBOSE)
        return;
    for (size_t i = 0; i < FILES; i++) {
        OWNED_FD file = open_small_file(root, names[i]);
        if (file < 0 && i == START)
            return;
        question.files[i] = read_small_file(file, texts[i]);
    }
    if (!ask(look, &question, &answer, sizeof answer))
        stop(0, "WORKDIR and USER of the image could not be read (--no-compat does without)");
    apply(plan, &answer);
}
