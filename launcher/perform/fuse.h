/* File systems served by a program: what the kernel may not mount for a user.
 *
 * The server is started from outside the container's mount namespace, gets the image and the device by descriptor, has
 * no capability, no terminal and no other descriptor, and ends by itself when the container's mount is gone.
 */
#ifndef SINGULARITY_FUSE_H
#define SINGULARITY_FUSE_H

#include "../plan/plan.h"
#include "mount.h"

struct fuse {
    int device;   /* /dev/fuse */
    int go;       /* a byte written here starts the server; closing it instead ends it */
    int alive;    /* hangs up when the server ends */
    int namespace; /* where a server that mounts by itself does so; -1 for others */
};

/* Inside the user namespace, before the mount namespace is made. Stops the process on failure. */
void fuse_prepare(const struct part *part, struct fuse *fuse);

/* Inside the mount namespace: the mounted tree, with its server started. Stops the process on failure. */
int fuse_mount(const struct session *session, const struct part *part, struct fuse *fuse);

/* An overlay whose writable layer the kernel's own overlay does not take, as it is served by a program itself. It finds
 * the directories of `layers`, which `options` name, as its descriptors from FUSE_LAYERS_FIRST on. Stops the process on
 * failure. */
enum { FUSE_LAYERS_FIRST = 6, FUSE_LAYERS = PLAN_PARTS + 3 };
int fuse_overlay(const struct session *session, const char *options, const int *layers, int count);

#endif
