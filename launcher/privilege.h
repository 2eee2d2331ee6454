/* The one place where privilege is raised and dropped.
 *
 * In SUID mode (and when root launches for another user) the process is the caller from privilege_begin() on: effective,
 * real and file system ids are the caller's, root is only the saved id. Each privileged system call stands in a bracket
 * of its own, with nothing between raise and drop but the call; `grep PRIVILEGE_RAISED` is the whole list.
 * In user-namespace mode, and for root itself, a bracket changes nothing and only leaves its audit lines.
 */
#ifndef SINGULARITY_PRIVILEGE_H
#define SINGULARITY_PRIVILEGE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "caller.h"

/* What is raised. Under the user's own ids, so that the kernel counts for the user and asks what the user may: enough to
 * change mounts and namespaces, or to bring up the loopback interface of a new network namespace. As root, for what is to
 * be root's: enough for loop devices, new file systems and the keeper's name, and the rights over files that an overlay
 * keeps of the one who mounts it. */
enum privilege { PRIVILEGE_MOUNT, PRIVILEGE_NETWORK, PRIVILEGE_ROOT, PRIVILEGE_OVERLAY };

/* Becomes the caller, at the very start. True when privilege can be raised: a setuid root program run by a user. */
bool privilege_begin(void);

/* Real root launching for another user: from here on as if that user had called the setuid starter. */
void privilege_begin_for(uid_t uid, gid_t gid);

/* The user has this id in the user namespace just entered. */
void privilege_mapped(uid_t uid);

/* Real root takes other ids for good; `keep` limits the capabilities that programs can ever have. privilege_end() follows. */
struct ids {
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t group_count;
};
void privilege_become(const struct ids *ids, uint64_t keep);

void privilege_raise(const char *what, enum privilege privilege);
void privilege_drop(void);

/* The bracket: one system call in it, with its result and errno. */
#define PRIVILEGE_RAISED(what, privilege, call) \
    __extension__({ \
        privilege_raise((what), (privilege)); \
        long privileged_result = (call); \
        int privileged_errno = errno; \
        privilege_drop(); \
        errno = privileged_errno; \
        (int)privileged_result; \
    })

/* For good, verified: every id the caller's, every capability set empty but `keep` (a mask), no way back.
 * `no_new_privs` is set and read back unless root keeps its rights. */
void privilege_end(const struct caller *caller, uint64_t keep, bool no_new_privs);

/* For good, for a process that only waits. */
void privilege_forget(const struct caller *caller);

#endif
