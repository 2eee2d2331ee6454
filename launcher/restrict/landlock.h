/* Rules of Landlock, for the restrictions that are made of them (Documentation/userspace-api/landlock.rst). */
#ifndef SINGULARITY_LANDLOCK_H
#define SINGULARITY_LANDLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../text_store.h"
#include "restrict.h"

/* The rights of linux/landlock.h, which may be older than the kernel. */
#define LANDLOCK_RIGHT(number) (UINT64_C(1) << (number))
#define LANDLOCK_EXECUTE LANDLOCK_RIGHT(0)
#define LANDLOCK_WRITE_FILE LANDLOCK_RIGHT(1)
#define LANDLOCK_READ_FILE LANDLOCK_RIGHT(2)
#define LANDLOCK_READ_DIR LANDLOCK_RIGHT(3)
#define LANDLOCK_MAKE_BLOCK LANDLOCK_RIGHT(11)
#define LANDLOCK_REFER LANDLOCK_RIGHT(13)    /* to another directory: Linux 5.19 */
#define LANDLOCK_TRUNCATE LANDLOCK_RIGHT(14) /* Linux 6.2 */
#define LANDLOCK_IOCTL LANDLOCK_RIGHT(15)    /* of devices: Linux 6.10 */

#define LANDLOCK_READS (LANDLOCK_READ_FILE | LANDLOCK_READ_DIR)
/* 4 to 12: to remove and to make entries of directories, each kind of entry by itself */
#define LANDLOCK_WRITES (LANDLOCK_WRITE_FILE | (LANDLOCK_RIGHT(13) - LANDLOCK_RIGHT(4)) | LANDLOCK_REFER | LANDLOCK_TRUNCATE)
#define LANDLOCK_OF_FILES (LANDLOCK_EXECUTE | LANDLOCK_WRITE_FILE | LANDLOCK_READ_FILE | LANDLOCK_TRUNCATE | LANDLOCK_IOCTL)

/* What is refused unless a rule allows it. */
struct ruleset {
    const struct request_entry *asked;
    uint64_t handled;
    int fd;
};
struct ruleset landlock_begin(const struct request_entry *asked, uint64_t handled);

/* Allows rights on a file, or on a directory and all beneath it. `place` may be O_PATH. */
void landlock_allow(const struct ruleset *rules, int place, uint64_t rights);

/* From here on, for this process and what it starts. */
void landlock_end(struct ruleset *rules);

/* Paths without links. */
enum { PLACES = 2048 };
struct places {
    const char *path[PLACES];
    uint32_t count;
    struct text_store store; /* to be set before the first */
};

/* False: there is no room. */
bool places_add(struct places *places, const char *path);

/* What follows `above` in a path that is or lies beneath it, "" or from a "/" on; else NULL. */
const char *path_beneath(const char *path, const char *above);

/* Allows rights on all but those places and what is beneath them. */
void landlock_allow_others(const struct ruleset *rules, const struct places *places, uint64_t rights);

#endif
