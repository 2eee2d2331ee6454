/* The administrator's configuration file. */
#ifndef SINGULARITY_CONFIG_H
#define SINGULARITY_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"

/* Where images are mounted when the file names no other directory; given by the build. */
#ifndef CONTAINER_DIR
#define CONTAINER_DIR "/usr/local/var/singularity/mnt"
#endif

enum { CONFIG_SIZE_LIMIT = 1 << 20, CONFIG_LINE_LIMIT = 4096 };
/* One enum for all keys with more than two values: what a word means depends on its key, so several names share a
 * number. */
enum config_choice { CHOICE_NO = 0, CHOICE_YES = 1, CHOICE_TRY = 2, CHOICE_MINIMAL = 2, CHOICE_PREFERRED = 2,
                     CHOICE_IFLIMITED = 2, CHOICE_FULL = 1, CHOICE_FILE = 2 };

/* One value of a list key, and the line it stands on (for reasons and messages). */
struct config_item {
    const char *text;
    uint32_t line;
};

/* More than 1 MiB: static storage, not the stack. */
struct config {
    char path[PATH_MAX];
#define CONFIG_BOOL(member, key, value) bool member;
#define CONFIG_CHOICE(member, key, value, ...) enum config_choice member;
#define CONFIG_NUMBER(member, key, value, maximum) uint64_t member;
#define CONFIG_PLACE(member, key, value) const char *member;
#define CONFIG_LIST(member, key, limit) struct config_item member[limit]; uint32_t member##_count;
#define CONFIG_PLACES(member, key, limit) CONFIG_LIST(member, key, limit)
#define CONFIG_FOREIGN(key)
#include "config.def"
    char text_store[CONFIG_SIZE_LIMIT + 1]; /* the file; values point into it */
};

/* Reads the file into `config`, which is all zero before. `enforced` (SUID mode): the file and every directory above it
 * must belong to root and be writable by root only, none may be a symbolic link, the file must be a regular one with one link,
 * and hold nothing unknown;
 * otherwise an unknown key is a warning with file and line, and a missing file means the defaults. In both, a line
 * that cannot be read, an empty value and a second, different value of one key are errors. A `bind path` entry is
 * left whole ("source[:target]"), the blanks around its colons removed. */
bool config_read(const char *path, bool enforced, struct config *config, struct error *error);

/* " (did you mean ...?)" for a key that there is not, where one is near. The setuid program makes no suggestions. */
void config_suggest(const char *name, char *hint, size_t size);

/* Opens what nobody but root has a say in: it and every directory above it belong to root, are writable by root only, and are
 * no links. From "/" down by descriptor, so that no name is looked up twice; -1 with the error set. */
int config_open(const char *path, struct error *error);

/* config_read() of a file that is open; -1: of none. `name` stands in messages. */
bool config_take(int fd, const char *name, bool enforced, struct config *config, struct error *error);

#endif
