/* Members of a tar archive, read from a stream as singularity/image/archive/tar.py reads them: v7, ustar, GNU, pax. */
#pragma once

#include "common.h"

enum kind { KIND_FILE = 'f', KIND_DIRECTORY = 'd', KIND_LINK = 'l', KIND_HARD_LINK = 'h',
            KIND_CHARACTER = 'c', KIND_BLOCK = 'b', KIND_FIFO = 'p', KIND_SOCKET = 's' };

#define NAME_LIMIT 255
#define PATH_LIMIT 4096
#define ID_LIMIT 0xFFFFFFFFU /* which chown(2) understands as "leave it" */
#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

struct segment {
    uint64_t offset, size;
};

struct attribute {
    struct text name, value;
};

/* One member; its texts are there until the next one. */
struct member {
    enum kind kind;
    uint32_t mode, uid, gid;
    int64_t mtime;       /* whole seconds, rounded down */
    uint64_t size;       /* of a file, holes included */
    uint32_t major, minor;
    struct text path, target;
    const struct attribute *attributes; /* sorted by name */
    size_t attribute_count;
    const struct segment *segments; /* of a file with holes: its data */
    size_t segment_count;
    bool sparse;
};

/* Where an archive comes from: up to `size` bytes, fewer at the end only. */
typedef size_t tar_read_function(void *from, void *data, size_t size);

struct tar;
struct tar *tar_open(tar_read_function *read, void *from);
bool tar_next(struct tar *tar, struct member *member); /* false at the end; what was not read of a file is passed over */
void tar_data(struct tar *tar, void *data, size_t size); /* the next bytes of a file, holes left out */
unsigned tar_left_out(const struct tar *tar);            /* members of unknown types, and access lists without numbers */
void tar_close(struct tar *tar);

/* Parts of it, in files of their own. */
int64_t tar_number(struct text field, const char *what); /* saturated */
uint64_t tar_decimal(struct text text, const char *what); /* saturated */

/* Records of pax headers: a list in which a later one of a key replaces an earlier one. Texts lie in `room`. */
struct records {
    struct attribute *all;
    size_t count, capacity;
};

bool records_read(struct records *records, struct text data, struct records *pairs);
const struct text *records_find(const struct records *records, const char *key);
void records_set(struct records *records, struct text key, struct text value);
void records_free(struct records *records);

/* The attributes that records speak of, into `found`, and the mode with what an ACL changes of it; what is made of the records
 * lies in `room`, whose bytes do not move. True: an ACL was left out. */
struct arena;
bool records_attributes(const struct records *records, struct records *found, struct arena *room, uint32_t *mode);

/* Memory that is given back as a whole. */
struct arena {
    struct arena_block *first;
};

void *arena_take(struct arena *arena, size_t size);
struct text arena_copy(struct arena *arena, struct text text);
void arena_clear(struct arena *arena);
