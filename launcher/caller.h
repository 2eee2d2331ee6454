/* Who is calling: ids and groups, from the kernel only. */
#ifndef SINGULARITY_CALLER_H
#define SINGULARITY_CALLER_H

#include <sys/types.h>

enum { CALLER_GROUPS = 65536 }; /* NGROUPS_MAX */

/* 256 KiB: for static storage, not for the stack. */
struct caller {
    uid_t uid;
    gid_t gid;
    int group_count;
    gid_t groups[CALLER_GROUPS];
};

/* Reads the real ids of the process; stops the process when the kernel does not answer. */
void caller_read(struct caller *caller);

#endif
