/* Mounts by descriptor: a tree is made apart from everything, gets its attributes, and is then attached.
 *
 * With Linux 5.12 the tree is a detached mount; older kernels get the same by staging it in the session directory,
 * which nobody else sees, and moving it. All functions return -1 and errno on failure unless they say otherwise.
 */
#ifndef SINGULARITY_MOUNT_H
#define SINGULARITY_MOUNT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../privilege.h"

/* The directory in memory that holds what a launch makes; the current directory while the root is put together. */
struct session {
    int fd;      /* -1 until it is mounted */
    bool staged; /* the kernel cannot restrict a detached tree: before Linux 5.12 */
};
void session_begin(struct session *session);

/* A directory or file of the session, made with what is above it where it is new, and opened. Stops the process on failure. */
int session_entry(const struct session *session, const char *path, bool directory, int flags);

/* A copy of the mounts at an open file or directory; O_PATH descriptor of its root. */
int mount_clone(const struct session *session, int source, bool directory);

/* The same, always detached: for mounts of another namespace that this process is visiting. From Linux 5.2 on. */
int mount_take(int source);

/* A new file system. `options` is a comma list of KEY or KEY=VALUE, `attributes` MOUNT_ATTR_*. A value that is a list of
 * MOUNT_DESCRIPTOR with numbers goes to the kernel as those descriptors where it takes them. */
#define MOUNT_DESCRIPTOR "/proc/self/fd/"
struct new_filesystem {
    const char *type;
    const char *source;
    const char *options;
    uint64_t attributes;
    enum privilege privilege;
};
int mount_new(const struct session *session, const struct new_filesystem *filesystem);

/* Without the descriptor calls: the session's own file system, straight on its place; a descriptor of its root. */
int mount_first(int place, const struct new_filesystem *filesystem);

/* Adds MOUNT_ATTR_* to a tree, to all of it. */
int mount_restrict(int tree, uint64_t attributes);

/* Attaches a tree to an open mount point. */
int mount_attach(int tree, int target);

/* Makes the mounts of this namespace private, or receivers of the host's later ones. */
int mount_propagation(bool slave);

/* The tree becomes the root directory; the old one is gone when this returns. */
int mount_pivot(int root);

#endif
