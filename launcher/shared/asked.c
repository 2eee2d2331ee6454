/* --join: whether this launch shares its container with the other ranks of its job step, and why or why not. */
#include "asked.h"

#include <stdio.h>
#include <string.h>

enum { REASON_SIZE = 512 };

static const char *keep(struct invocation *invocation, const char *text)
{
    return text_copy(&invocation->store, text, strlen(text));
}

/* A reason even where nobody asked for --join: --dry-run and --verbose show why a launch is on its own. */
static void refuse(struct invocation *invocation, const struct job_step *step)
{
    char text[REASON_SIZE];

    if (step->ranks > 1)
        snprintf(text, sizeof text, "%s gives its job step no name", step->launcher);
    else
        snprintf(text, sizeof text, "one rank of %s on this node", step->launcher);
    invocation->request.join_reason = keep(invocation, text);
}

/* Asked for by hand, launches that no launcher of ranks has started share by terminal or batch script, the only thing
 * that they have in common. */
static void accept(struct invocation *invocation, const struct job_step *step)
{
    const char *asked = invocation->join == JOIN_YES ? "--join=yes, " : "";
    char text[REASON_SIZE], session[JOB_STEP_SESSION];

    invocation->request.join_asked = invocation->join == JOIN_YES;
    if (invocation->join_name != NULL) {
        snprintf(text, sizeof text, "the name %s", invocation->join_name);
        invocation->request.join_step = keep(invocation, text);
        snprintf(text, sizeof text, "--join=@%s", invocation->join_name);
    } else if (step->name[0] != '\0') {
        snprintf(text, sizeof text, "%s%u ranks of %s job step %.200s on this node", asked, (unsigned)step->ranks,
                 step->launcher, step->shown);
        invocation->request.join_step = keep(invocation, step->name);
    } else {
        job_step_session(session);
        snprintf(text, sizeof text, "%sin %s", asked, session);
        invocation->request.join_step = keep(invocation, session);
    }
    invocation->request.join_reason = keep(invocation, text);
}

void join_take(struct invocation *invocation, const struct job_step *step)
{
    if (invocation->request.instance != NULL)
        return; /* it has a name of its own */
    if (invocation->join == JOIN_NO)
        invocation->request.join_reason = "--join=no";
    else if (invocation->join == JOIN_YES || (step->ranks > 1 && step->name[0] != '\0'))
        accept(invocation, step);
    else if (step->launcher != NULL)
        refuse(invocation, step);
}
