/* The sources of a plan's binds: made where they are missing, copied with their mounts. Raises privilege for the copies alone. */
#include "perform.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"

/* Directories of --workdir: made by the user, in his own directory, with his rights. Failure is no error here: the
 * source is looked at later like any other, and is then missing by name. fchmod(2) since mkdirat(2) obeys the umask,
 * by descriptor so that no name is followed twice. */
static void make_source(const struct step *step)
{
    mode_t mode = step->flags & STEP_STICKY ? 01777 : 0755;
    OWNED_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root >= 0 && inside_make(root, step->source, true, mode) == 0) {
        OWNED_FD made = inside_open(root, step->source, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (made >= 0 && (step->flags & STEP_STICKY))
            (void)fchmod(made, mode);
    }
}

void perform_make_sources(const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].flags & STEP_MAKE_SOURCE)
            make_source(&plan->steps[i]);
}

void perform_sources(struct plan *plan, const struct session *session)
{
    facts_sources(plan);
    for (uint32_t i = 0; i < plan->step_count && !session->staged; i++) {
        struct step_facts *facts = &plan->steps[i].facts;
        if (plan->steps[i].kind != STEP_BIND || !S_ISDIR(facts->source_type))
            continue;
        OWNED_FD source = facts->source_fd;
        facts->source_fd = mount_clone(session, source, true);
        facts->copied = facts->source_fd >= 0;
        if (!facts->copied) { /* no copy is made later, when a mount of ours may have its name: it is missing */
            facts->source_error = errno;
            facts->source_type = 0;
        }
    }
}
