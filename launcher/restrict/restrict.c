/* The restrictions of a request, in their order; each is applied, or ends the launch with a line. */
#include "restrict.h"

#include <errno.h>
#include <sys/prctl.h>

#include "../inside.h"
#include "../record/record.h"

const struct request_entry *restriction_next(const struct request *request, enum restriction kind, const struct request_entry *last)
{
    const struct request_entry *end = request->restriction + request->restriction_count;

    for (const struct request_entry *entry = last == NULL ? request->restriction : last + 1; entry < end; entry++)
        if ((entry->number & RESTRICTION_KIND) == (uint64_t)kind)
            return entry;
    return NULL;
}

/* The setuid program cannot give its users other ids, and a request may be forged. */
static void check(const struct request *request)
{
    const struct request_entry *id = restriction_next(request, RESTRICTION_UID, NULL);

    for (uint32_t i = 0; i < request->restriction_count; i++)
        if ((request->restriction[i].number & RESTRICTION_KIND) >= RESTRICTION_KINDS)
            stop(0, "launch request with an unknown restriction");
    if (id == NULL)
        id = restriction_next(request, RESTRICTION_GID, NULL);
    if (id != NULL && request->payload_stage)
        stop(0, "%s: only root can choose ids, or who has them in a user namespace (--fakeroot, --userns)", id->second);
}

/* What needs /proc to be written comes first, then what needs to look around; filters last, for a profile may refuse whatever the
 * others call. no_new_privs is what lets an unprivileged process have any of it (seccomp(2), landlock(7)). */
void restrict_program(const struct request *request)
{
    const struct request_entry *entry = NULL;

    if (request->restriction_count == 0)
        return;
    check(request);
    if (proc_fd() < 0)
        proc_open();
    while ((entry = restriction_next(request, RESTRICTION_APPARMOR, entry)) != NULL)
        restrict_label(entry, RESTRICTION_APPARMOR);
    while ((entry = restriction_next(request, RESTRICTION_SELINUX, entry)) != NULL)
        restrict_label(entry, RESTRICTION_SELINUX);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        stop(errno, "set no_new_privs");
    if ((entry = restriction_next(request, RESTRICTION_HOME, NULL)) != NULL)
        restrict_home(request, entry);
    entry = restriction_next(request, RESTRICTION_PATH, NULL);
    if (entry == NULL)
        entry = restriction_next(request, RESTRICTION_PATH_READ, NULL);
    if (entry != NULL)
        restrict_paths(request, entry);
    if ((entry = restriction_next(request, RESTRICTION_NETWORK, NULL)) != NULL)
        restrict_network(entry);
    entry = restriction_next(request, RESTRICTION_RECORD, NULL);
    if (entry != NULL && !record_begin((int)(entry->number >> RESTRICTION_DESCRIPTOR)))
        stop(errno, "%s: the kernel hands no calls over to who records them (Linux 5.9 does, where nobody else has them handed over)",
             entry->second);
    for (entry = NULL; (entry = restriction_next(request, RESTRICTION_FILTER, entry)) != NULL;)
        restrict_calls(entry);
}
