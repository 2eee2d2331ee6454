/* File systems of the user's own programs (--fusemount): mounted here, served by a program of the host or of the container, with the
 * user's rights and no others. Not in the setuid program, whose launches go through a user namespace for them. */
#ifndef SINGULARITY_PERFORM_FUSE_MOUNTS_H
#define SINGULARITY_PERFORM_FUSE_MOUNTS_H

#include "perform.h"

enum { FUSE_MOUNTS = 16, FUSE_WORDS = 64 };

struct fuse_mounts {
    const struct request_entry *asked[FUSE_MOUNTS]; /* those of the request */
    int devices[FUSE_MOUNTS], go[FUSE_MOUNTS];      /* /dev/fuse, and the pipe that a program of the host waits at; -1 */
    uint32_t count;
    char *const *environment; /* for programs of the host, */
    const char *directory;    /* which start there */
    bool keep_rights;         /* root's */
};

/* Adds a step for each; sets plan->fuse_mounts where there is any. Stops the process on failure. */
void fuse_mounts_plan(struct fuse_mounts *mounts, struct plan *plan, const struct plan_inputs *inputs, char *const *environment);

/* Inside the user namespace, whose kernel devices these are: opens them, and makes the processes that become programs of the host. */
void fuse_mounts_prepare(const struct plan *plan);

/* Inside the mount namespace: the sources of the steps. Programs of the host start. */
void fuse_mounts_make(struct plan *plan, const struct stage *stage);

/* The words of a program, ended by NULL, with the open device, which it serves, in place of a mount point. */
void fuse_mounts_words(const struct request_entry *asked, int device, char *words[FUSE_WORDS + 3]);

/* Gives up all capabilities, and what could bring some back: of fuse.c, for its own servers. */
void fuse_drop_rights(void);

/* For a process that becomes such a program. */
void fuse_mounts_settle(void);

/* In the container, when all programs have been started: closes the devices, and stops the process where one has ended already. */
void fuse_mounts_check(const struct plan *plan);

#endif
