/* uid: and gid: of --security, and --add-caps where the program is not root: who the program is, and what it keeps. */
#include "restrict.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { GROUPS = 64 };

/* Whether the namespace has the id: the kernel takes another one for files, in silence, or not (setfsuid(2)). */
static bool mapped(const struct request_entry *asked)
{
    uint32_t id = (uint32_t)strtoul(asked->first, NULL, 10);
    bool group = (asked->number & RESTRICTION_KIND) == RESTRICTION_GID;
    int before = group ? setfsgid(id) : setfsuid(id);
    bool taken = (uint32_t)(group ? setfsgid((gid_t)-1) : setfsuid((uid_t)-1)) == id;

    (void)(group ? setfsgid((gid_t)before) : setfsuid((uid_t)before));
    return taken;
}

static void check(const struct request_entry *asked, bool possible)
{
    if (!possible)
        stop(0, "%s: only root can choose ids, or who has them in a user namespace (--fakeroot, --userns)", asked->second);
    if (!mapped(asked))
        stop(0, "%s: %s %s does not exist in this user namespace (--fakeroot has those of /etc/subuid and /etc/subgid)", asked->second,
             (asked->number & RESTRICTION_KIND) == RESTRICTION_GID ? "group" : "user", asked->first);
}

bool restrict_ids(const struct request *request, bool possible, struct ids *ids)
{
    static gid_t groups[GROUPS];
    const struct request_entry *entry = restriction_next(request, RESTRICTION_UID, NULL);
    bool first = true, changed = false;
    int count;

    if (entry == NULL && restriction_next(request, RESTRICTION_GID, NULL) == NULL)
        return false;
    if ((count = getgroups(GROUPS, groups)) < 0) /* more than fit: none of them is kept */
        count = 0;
    *ids = (struct ids){.uid = getuid(), .gid = getgid(), .groups = groups, .group_count = (size_t)count};
    if (entry != NULL) {
        check(entry, possible);
        ids->uid = (uid_t)strtoul(entry->first, NULL, 10);
        changed = ids->uid != getuid();
    }
    for (entry = NULL; (entry = restriction_next(request, RESTRICTION_GID, entry)) != NULL; first = false) {
        check(entry, possible);
        gid_t id = (gid_t)strtoul(entry->first, NULL, 10);
        changed |= id != getgid() || !first;
        if (first)
            ids->gid = id, ids->group_count = 0;
        else if (ids->group_count < GROUPS)
            groups[ids->group_count++] = id;
    }
    return changed;
}

/* A program that is not root's starts without capabilities but those of the ambient set (capabilities(7), Linux 4.3). */
void restrict_keep(uint64_t wanted)
{
    for (unsigned long number = 0; number < 64 && geteuid() != 0; number++)
        if ((wanted & UINT64_C(1) << number) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) < 0 && errno != EINVAL)
            stop(errno, "--add-caps: keep capability %lu", number);
}
