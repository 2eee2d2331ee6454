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
    int process;  /* of a server that mounts by itself, or -1; close-on-exec */
    int namespace; /* where a server that mounts by itself does so; -1 for others */
};

/* Whether a part of the image is served by a program. */
bool fuse_needed(const struct plan *plan);

/* The servers of such parts. Inside the user namespace, before the mount namespace is made. Stops the process on failure. */
void fuse_prepare(struct plan *plan, struct fuse *servers);

/* Inside the mount namespace: the mounted tree, with its server started. Stops the process on failure. */
int fuse_mount(const struct session *session, const struct part *part, struct fuse *fuse);

/* An overlay whose writable layer the kernel's own overlay does not take, as it is served by a program itself. It finds
 * the directories of `layers`, which `options` name, as its descriptors from FUSE_LAYERS_FIRST on. Stops the process on
 * failure. */
enum { FUSE_LAYERS_FIRST = 7, FUSE_LAYERS = PLAN_PARTS + 3 };
int fuse_overlay(const struct session *session, const char *options, const int *layers, int count);

/* In the container: lets `unmounted_fd` of the plan tell when nobody uses the root directory any more. */
void fuse_watch(const struct plan *plan);

/* Outside, when the program has ended: returns when the server of what it has written has ended too, all of it in the image.
 * Processes that the program left keep their container, and are not waited for: nothing is told of the root then. Nor is it
 * where it could not be watched, so there is a moment of patience.
 * Signals end the wait as they would end the launcher. */
void fuse_await(int server, int unmounted);

#endif
