/* Any bytes as a squashfs, read as far as they lead: nothing is read outside of them, names are names, going on behind so many entries
 * gives the one that follows them, and what is read piece by piece is what is read at once. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "squashfs/squashfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS = 150, DEPTH = 8, PART = 4097, CONTENTS = 96 << 10, VALUE = 65536 };

struct memory {
    const uint8_t *data;
    size_t size;
    int steps; /* entries that are still looked at: directories of a damaged image may lead in circles */
};

static char whole[CONTENTS], part[PART], value[VALUE], target[SQUASHFS_LINK + 1];

static int memory_read(void *context, uint64_t at, void *bytes, size_t length)
{
    const struct memory *memory = context;

    assert(at <= memory->size && length <= memory->size - at);
    memcpy(bytes, memory->data + at, length);
    return 0;
}

static void look_at_file(struct squashfs_reader *reader, const struct squashfs_inode *inode)
{
    ssize_t length = squashfs_file_read(reader, inode, 0, whole, sizeof whole);

    assert(length < 0 || (uint64_t)length == (inode->size < sizeof whole ? inode->size : sizeof whole));
    for (ssize_t at = 0; at < length; at += 3 * PART) {
        ssize_t got = squashfs_file_read(reader, inode, (uint64_t)at, part, sizeof part);
        assert(got > 0 && memcmp(part, whole + at, (size_t)(got < length - at ? got : length - at)) == 0);
    }
}

static void look_at_xattrs(struct squashfs_reader *reader, const struct squashfs_inode *inode, struct memory *memory)
{
    struct squashfs_xattrs list;
    struct squashfs_xattr xattr;

    if (squashfs_xattr_begin(reader, inode, &list) < 0)
        return;
    while (memory->steps-- > 0 && squashfs_xattr_next(reader, &list, &xattr) > 0) {
        assert(strchr(xattr.name, '.') != NULL && xattr.size <= sizeof value);
        (void)squashfs_xattr_value(reader, &xattr, value);
    }
}

static void look_at(struct squashfs_reader *reader, uint64_t reference, int depth, struct memory *memory);

static void look_into(struct squashfs_reader *reader, const struct squashfs_inode *inode, int depth, struct memory *memory)
{
    static struct squashfs_entry again;
    struct squashfs_entry entry;
    struct squashfs_cursor cursor, other;

    if (squashfs_directory_begin(reader, inode, 0, &cursor) < 0)
        return;
    uint64_t before = 0;
    while (memory->steps-- > 0 && squashfs_directory_next(reader, &cursor, &entry) > 0) {
        assert(entry.length == strlen(entry.name) && entry.length > 0 && strchr(entry.name, '/') == NULL);
        squashfs_reader_request(reader);
        assert(squashfs_directory_begin(reader, inode, before, &other) == 0);
        assert(squashfs_directory_next(reader, &other, &again) == 1 && again.reference == entry.reference && again.next == entry.next);
        assert(entry.next == before + 1);
        before = entry.next;
        int found = squashfs_lookup(reader, inode, entry.name, &again);
        assert(found < 0 || strcmp(again.name, entry.name) == 0);
        if (depth < DEPTH)
            look_at(reader, entry.reference, depth + 1, memory);
    }
}

static void look_at(struct squashfs_reader *reader, uint64_t reference, int depth, struct memory *memory)
{
    struct squashfs_inode inode;

    if (squashfs_inode_read(reader, reference, &inode) < 0)
        return;
    look_at_xattrs(reader, &inode, memory);
    if (S_ISREG(inode.mode))
        look_at_file(reader, &inode);
    else if (S_ISDIR(inode.mode))
        look_into(reader, &inode, depth, memory);
    else if (S_ISLNK(inode.mode)) {
        int length = squashfs_link_read(reader, &inode, target, sizeof target);
        assert(length < 0 || (uint64_t)length == inode.size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory memory = {data, size, STEPS};
    const struct squashfs_source source = {.context = &memory, .size = size, .read = memory_read};
    struct squashfs *image;
    struct squashfs_reader *reader;
    const char *why = NULL;
    int failed = squashfs_open(&source, &image, &why);

    assert((failed == 0) == (image != NULL) && (failed == 0 || why != NULL));
    if (failed != 0)
        return 0;
    if (squashfs_reader_new(image, &reader, &why) == 0)
        look_at(reader, squashfs_super(image)->root, 0, &memory);
    squashfs_reader_free(reader);
    squashfs_close(image);
    return 0;
}
