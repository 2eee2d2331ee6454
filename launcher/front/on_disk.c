/* --writable-tmpfs with --workdir: what the program writes goes to a directory of the disk in place of memory. */
#include "front.h"

#include <errno.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* XFS_SB_MAGIC of the kernel's fs/xfs, which linux/magic.h lacks in some versions. */
enum { MAGIC_XFS = 0x58465342 };

/* The upper layer of an overlay needs extended attributes and types of directory entries: local disks have them, and so do the kernels
 * that let users mount overlays there (overlayfs.rst). Others do without, or in memory. */
static bool takes_overlays(const char *directory)
{
    static const unsigned long known[] = {EXT4_SUPER_MAGIC, MAGIC_XFS, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC};
    struct statfs status;
    bool taken = false;

    for (size_t i = 0; i < sizeof known / sizeof known[0] && statfs(directory, &status) == 0; i++)
        taken |= (unsigned long)status.f_type == known[i];
    return taken;
}

/* The kernel looks into a directory of the host with the rights of who mounts the overlay, so that it is a user namespace's to do. */
static bool has_user_namespaces(void)
{
    int status = 1;
    pid_t child = fork();

    if (child == 0)
        _exit(unshare(CLONE_NEWUSER) == 0 ? 0 : 1);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return child > 0 && status == 0;
}

void on_disk_take(struct invocation *invocation)
{
    struct request *request = &invocation->request;
    const char *directory = request->workdir;
    enum { LIMIT = sizeof request->overlay / sizeof request->overlay[0] };

    if (!request->writable_tmpfs || directory == NULL || request->overlay_count == LIMIT)
        return;
    if (request->dry_run == DRY_RUN_NO && mkdir(directory, 0755) < 0 && errno != EEXIST)
        return; /* that it cannot be is told as for its other directories */
    const char *why = request->join_step != NULL && request->instance == NULL ? "a container that is shared"
                      : !takes_overlays(directory) ? "no local disk, or not of a kind that an overlay can be on"
                      : !invocation->root && !has_user_namespaces() ? "no user namespaces here" : NULL;
    if (why != NULL) {
        message_verbose("what is written stays in memory, and is not in %s: %s", directory, why);
        return;
    }
    request->writable_tmpfs = false;
    request->overlay[request->overlay_count++] = (struct request_entry){directory, "", OVERLAY_THROWAWAY};
}
