/* Root emulation, for a user namespace with one id: calls that only a root with more ids could make are answered as done, and what they
 * would have done to files is remembered, by an extended attribute of the file. A process of the user's own beside the program answers;
 * no privilege, no library in the image, nothing preloaded.
 *
 * The kernel hands calls over by seccomp user notification (seccomp_unotify(2)). Answered are chown(2) and its like, mknod(2) of devices
 * and extended attributes of "security." and "trusted."; the calls that change ids are answered by the filter itself, or in builds by the
 * process too, which tells who asks. Where the kernel is older than Linux 5.9 all are, and nothing is remembered. */
#ifndef SINGULARITY_EMULATE_H
#define SINGULARITY_EMULATE_H

#include <stdbool.h>

/* For this process and all that it starts, for good. `status`: stat(2) and getuid(2) show what is remembered, too, which costs each such call some
 * microseconds. Called last of all, with nothing of the host in reach: the process that answers is a copy of this one, with its root
 * directory and its rights, neither more nor fewer. It ends with the last process that it serves. */
void emulate_root(bool status);

#endif
