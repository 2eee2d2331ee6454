/* The end of a dry run, without any privilege: what the image has completes the plan, which is printed. Mounts and writes
 * nothing. Not in the setuid program. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"
#include "inside.h"
#include "starter.h"

/* Whether the user could make this directory, as a launch would with --workdir. Only asked, never tried: a dry run
 * leaves no directory behind. */
static bool could_be_made(const char *path)
{
    struct missing missing;
    OWNED_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    return root >= 0 && inside_missing(root, path, &missing) && access(missing.parent, W_OK | X_OK) == 0;
}

/* Privilege goes first and for good: everything after it only reads. The order is the launch's own, so that what is
 * printed is what would be performed. */
_Noreturn void launch_show(struct launch *launch, int root)
{
    privilege_forget(&launch->caller);
    facts_named(&launch->plan);
    facts_sources(&launch->plan);
    for (struct step *step = launch->plan.steps; step < launch->plan.steps + launch->plan.step_count; step++)
        if ((step->flags & STEP_MAKE_SOURCE) && step->facts.source_error == ENOENT && could_be_made(step->source))
            step->facts.source_type = S_IFDIR;
        else if (step->flags & STEP_IN_IMAGE) /* which is not mounted now */
            step->facts.source_type = S_IFDIR;
    facts_image(&launch->plan, &launch->inputs, root);
    launch_plan_root(launch);
    plan_print(&launch->plan, &launch->inputs, launch->request.dry_run == DRY_RUN_JSON, stdout);
    _exit(0);
}
