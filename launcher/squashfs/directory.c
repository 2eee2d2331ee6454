/* Directories of squashfs: runs of up to 256 entries behind a header, sorted by name; large ones with an index. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "../image/bytes.h"
#include "parts.h"

/* A directory's size counts three bytes for "." and "..", which are not stored. */
enum { HEADER = 12, ENTRY = 8, INDEX = 12, RUN = 256, UNSTORED = 3 };

static const uint32_t kinds[] = {0, S_IFDIR, S_IFREG, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK};

static int take(struct squashfs_reader *reader, struct squashfs_cursor *cursor, void *bytes, size_t length)
{
    if (length > cursor->remaining)
        return -EIO;
    cursor->remaining -= length;
    return squashfs_metadata(reader, &cursor->place, bytes, length);
}

static int begin_run(struct squashfs_reader *reader, struct squashfs_cursor *cursor)
{
    uint8_t header[HEADER];

    int failed = take(reader, cursor, header, sizeof header);
    if (failed != 0)
        return failed;
    if (le32(header) >= RUN)
        return -EIO;
    cursor->left = le32(header) + 1;
    cursor->start = le32(header + 4);
    cursor->base = le32(header + 8);
    return 0;
}

/* Names that no tool writes would lead out of the directory, or end it for who asks by name. */
static bool name_good(const struct squashfs_entry *entry)
{
    return memchr(entry->name, '\0', entry->length) == NULL && memchr(entry->name, '/', entry->length) == NULL &&
           strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0;
}

int squashfs_directory_next(struct squashfs_reader *reader, struct squashfs_cursor *cursor, struct squashfs_entry *entry)
{
    uint8_t raw[ENTRY];
    int failed = 0;

    if (cursor->left == 0) {
        if (cursor->remaining == 0)
            return 0;
        failed = begin_run(reader, cursor);
    }
    if (failed == 0)
        failed = take(reader, cursor, raw, sizeof raw);
    if (failed != 0)
        return failed;
    uint32_t kind = le16(raw + 4);
    if (kind == 0 || kind >= sizeof kinds / sizeof kinds[0] || le16(raw + 6) >= SQUASHFS_NAME)
        return -EIO;
    entry->length = (uint32_t)le16(raw + 6) + 1;
    entry->reference = (uint64_t)cursor->start << 16 | le16(raw);
    entry->number = (uint32_t)((int64_t)cursor->base + (int16_t)le16(raw + 2));
    entry->kind = kinds[kind];
    entry->name[entry->length] = '\0';
    failed = take(reader, cursor, entry->name, entry->length);
    if (failed != 0 || !name_good(entry))
        return failed != 0 ? failed : -EIO;
    cursor->left--;
    entry->next = ++cursor->passed;
    return 1;
}

/* A number cannot be misread, whoever makes it up (lseek(2), seekdir(3)), as a place in the listing can: what lies there is a header only
 * if the runs before it say so. */
int squashfs_directory_begin(struct squashfs_reader *reader, const struct squashfs_inode *directory, uint64_t from,
                             struct squashfs_cursor *cursor)
{
    static const struct squashfs_cursor none;
    struct squashfs_entry entry;

    if (!S_ISDIR(directory->mode))
        return -ENOTDIR;
    *cursor = none;
    cursor->place = directory->listing;
    cursor->size = cursor->remaining = directory->size > UNSTORED ? directory->size - UNSTORED : 0;
    int more = 1;
    while (more > 0 && cursor->passed < from)
        more = squashfs_directory_next(reader, cursor, &entry);
    return more < 0 ? more : 0;
}

/* Moves to the last run whose first name is not behind the one that is looked for. The index is in the order of names, so the first
 * that is behind ends the search. */
static int use_index(struct squashfs_reader *reader, const struct squashfs_inode *directory, const char *name,
                     struct squashfs_cursor *cursor)
{
    struct squashfs_place place = directory->more;
    char first[SQUASHFS_NAME + 1];
    uint8_t raw[INDEX];

    for (uint32_t i = 0; i < directory->index_count; i++) {
        int failed = squashfs_metadata(reader, &place, raw, sizeof raw);
        if (failed != 0)
            return failed;
        uint32_t at = le32(raw), length = le32(raw + 8);
        if (length >= SQUASHFS_NAME || at >= cursor->size)
            return -EIO;
        failed = squashfs_metadata(reader, &place, first, length + 1);
        if (failed != 0)
            return failed;
        first[length + 1] = '\0';
        if (strcmp(first, name) > 0)
            return 0;
        cursor->remaining = cursor->size - at;
        cursor->place.block = reader->image->super.directory_table + le32(raw + 4);
        cursor->place.offset = (directory->listing.offset + at) % SQUASHFS_METADATA;
    }
    return 0;
}

int squashfs_lookup(struct squashfs_reader *reader, const struct squashfs_inode *directory, const char *name,
                    struct squashfs_entry *entry)
{
    struct squashfs_cursor cursor;
    int result = squashfs_directory_begin(reader, directory, 0, &cursor);

    if (result == 0)
        result = use_index(reader, directory, name, &cursor);
    if (result != 0)
        return result;
    while ((result = squashfs_directory_next(reader, &cursor, entry)) > 0) {
        int order = strcmp(entry->name, name);
        if (order == 0)
            return 0;
        if (order > 0)
            break;
    }
    return result < 0 ? result : -ENOENT;
}
