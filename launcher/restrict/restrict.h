/* Takes rights away from this process, for good and for all that it starts: by Landlock, by filters of system calls, by labels of
 * security modules, by other ids. The last stage of a launch, in the container and as the user: nothing here has or needs privilege.
 * A restriction that cannot be applied ends the launch. */
#ifndef SINGULARITY_RESTRICT_H
#define SINGULARITY_RESTRICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../privilege.h"
#include "../request.h"
#include "../restriction.h"

/* All that the request asks for but the ids, before the first file of the image is executed. What is allowed to be read and executed
 * without being named: the image, and what the launcher has put into it to make programs work. */
void restrict_program(const struct request *request);

/* The ids that the request asks for, in place of those in `ids`; false: it asks for none, or for those that the process has.
 * `possible`: this process may take other ids. */
bool restrict_ids(const struct request *request, bool possible, struct ids *ids);

/* After the last change of ids: `wanted` capabilities, which the process still has, stay when the next program starts. */
void restrict_keep(uint64_t wanted);

/* ---- The parts of restrict_program(). `asked` is the entry that asks for it. */

/* The next entry of a kind after `last`; NULL: there is none. NULL as `last` begins. */
const struct request_entry *restriction_next(const struct request *request, enum restriction kind, const struct request_entry *last);

void restrict_home(const struct request *request, const struct request_entry *asked);
void restrict_paths(const struct request *request, const struct request_entry *asked);
void restrict_network(const struct request_entry *asked);
void restrict_calls(const struct request_entry *asked);

/* Of the program that is executed next, AppArmor's or SELinux's. */
void restrict_label(const struct request_entry *asked, enum restriction module);

/* ---- Landlock (Documentation/userspace-api/landlock.rst). */

/* What a kernel can refuse came one by one: see landlock.c. The names are those of linux/landlock.h, which may be older than the kernel. */
enum {
    LANDLOCK_TRUNCATES = 3, /* the version that can refuse to shorten files by their names: Linux 6.2 */
    LANDLOCK_NETWORK = 4,   /* TCP: Linux 6.7 */
    LANDLOCK_DEVICES = 5,   /* ioctl(2) of devices: Linux 6.10 */
    LANDLOCK_SCOPES = 6,    /* sockets without a file: Linux 6.12 */
};

/* The version of this kernel; stops where there is none, or less than the `least` that refuses `what`. */
int landlock_version(const struct request_entry *asked, int least, const char *what);

/* No TCP, no sockets of strangers, as far as the kernel can; and always: no process outside can be traced, so that none lends its own. */
void landlock_network(const struct request_entry *asked);

#endif
