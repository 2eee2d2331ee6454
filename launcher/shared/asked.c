/* --join: whether this launch shares its container with the other ranks of its job step, and why or why not. */
#include "asked.h"

#include <stdio.h>
#include <string.h>

enum { REASON_SIZE = 512 };

static const char *keep(struct launch *launch, const char *text)
{
    return text_copy(&launch->store, text, strlen(text));
}

static void refuse(struct launch *launch, const struct job_step *step)
{
    char text[REASON_SIZE];

    if (step->ranks > 1)
        snprintf(text, sizeof text, "%s gives its job step no name", step->launcher);
    else
        snprintf(text, sizeof text, "one rank of %s on this node", step->launcher);
    launch->request.join_reason = keep(launch, text);
}

static void accept(struct launch *launch, const struct job_step *step)
{
    const char *asked = launch->join == JOIN_YES ? "--join=yes, " : "";
    char text[REASON_SIZE], session[JOB_STEP_SESSION];

    launch->request.join_asked = launch->join == JOIN_YES;
    if (step->name[0] != '\0') {
        snprintf(text, sizeof text, "%s%u ranks of %s job step %.200s on this node", asked, (unsigned)step->ranks,
                 step->launcher, step->shown);
        launch->request.join_step = keep(launch, step->name);
    } else {
        job_step_session(session);
        snprintf(text, sizeof text, "%sin %s", asked, session);
        launch->request.join_step = keep(launch, session);
    }
    launch->request.join_reason = keep(launch, text);
}

void join_take(struct launch *launch, const struct job_step *step)
{
    if (launch->join == JOIN_NO)
        launch->request.join_reason = "--join=no";
    else if (launch->join == JOIN_YES || (step->ranks > 1 && step->name[0] != '\0'))
        accept(launch, step);
    else if (step->launcher != NULL)
        refuse(launch, step);
}
