/* Root emulation, for root of a user namespace: calls that only the machine's root could make are answered as done, and what they would
 * have done to files is remembered, by an extended attribute of the file. A process of the user's own beside the program answers; no
 * privilege, no library in the image, nothing preloaded.
 *
 * The kernel hands calls over by seccomp user notification (seccomp_unotify(2)). Answered are mknod(2) of devices and extended attributes
 * of "security." and "trusted."; where there is one id, chown(2) and its like too, and by the filter itself the calls that change ids, or
 * in builds by the process, which tells who asks. Where the kernel is older than Linux 5.9 the filter answers all for one id, and nothing
 * is remembered. */
#ifndef SINGULARITY_EMULATE_H
#define SINGULARITY_EMULATE_H

#include <stdbool.h>

struct emulation {
    bool one_id; /* no other id can be given to files, or become */
    bool status; /* stat(2) shows what is remembered, too, and with one id getuid(2): for builds, since it costs each some microseconds */
};

/* For this process and all that it starts, for good. Called last of all, with nothing of the host in reach: the process that answers is a
 * copy of this one, with its root directory and its rights, neither more nor fewer. It ends with the last process that it serves. */
void emulate_root(struct emulation how);

#endif
