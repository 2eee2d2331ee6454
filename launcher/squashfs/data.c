/* Contents of files in squashfs: blocks, holes, and tails that share a block with others. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../image/bytes.h"
#include "parts.h"

enum { FRAGMENT_ENTRY = 16, SIZES = 256 };
#define STORED_AS_IS (UINT32_C(1) << 24)

/* How a block is stored: its size, and a bit. Sizes of compressed blocks are below those of their contents, so that none is larger
 * than a block. */
static int extent_set(const struct squashfs *image, uint64_t at, uint32_t word, uint32_t length, struct squashfs_extent *extent)
{
    uint64_t end;

    *extent = (struct squashfs_extent){at, word & (STORED_AS_IS - 1), (word & STORED_AS_IS) == 0, length};
    if (word >= STORED_AS_IS << 1 || extent->stored > image->super.block_size ||
        __builtin_add_overflow(at, extent->stored, &end) || end > image->super.used)
        return -EIO;
    return 0;
}

/* Adds up sizes of stored blocks from where the walk is up to `index`, some at a time. */
static int walk_to(struct squashfs_reader *reader, const struct squashfs_inode *inode, struct squashfs_walk *walk, uint64_t index)
{
    uint8_t words[SIZES * 4];

    if (!walk->begun || index < walk->index)
        *walk = (struct squashfs_walk){.begun = true, .at = inode->start, .place = inode->more};
    while (walk->index < index) {
        size_t count = index - walk->index < SIZES ? (size_t)(index - walk->index) : SIZES;
        int failed = squashfs_metadata(reader, &walk->place, words, count * 4);
        if (failed != 0) {
            walk->begun = false;
            return failed;
        }
        for (size_t i = 0; i < count; i++) /* 24 bits each: the sum is bounded by the list's length */
            walk->at += le32(words + i * 4) & (STORED_AS_IS - 1);
        walk->index += count;
    }
    return 0;
}

int squashfs_extent_of(struct squashfs_reader *reader, const struct squashfs_inode *inode, struct squashfs_walk *walk,
                       uint64_t index, struct squashfs_extent *extent)
{
    const struct squashfs_super *super = &reader->image->super;
    uint64_t left = inode->size - (index << super->block_log);
    uint8_t word[4];

    if (!S_ISREG(inode->mode) || index >= inode->blocks)
        return -EINVAL;
    int failed = walk_to(reader, inode, walk, index);
    struct squashfs_place place = walk->place;
    if (failed == 0)
        failed = squashfs_metadata(reader, &place, word, sizeof word);
    if (failed != 0)
        return failed;
    return extent_set(reader->image, walk->at, le32(word), left < super->block_size ? (uint32_t)left : super->block_size, extent);
}

int squashfs_fragment(struct squashfs_reader *reader, uint32_t index, struct squashfs_extent *extent)
{
    const struct squashfs_super *super = &reader->image->super;
    struct squashfs_place place;
    uint8_t entry[FRAGMENT_ENTRY];

    if (index >= super->fragments)
        return -EIO;
    int failed = squashfs_table(reader, super->fragment_table, index, sizeof entry, &place);
    if (failed == 0)
        failed = squashfs_metadata(reader, &place, entry, sizeof entry);
    if (failed == 0)
        failed = extent_set(reader->image, le64(entry), le32(entry + 8), super->block_size, extent);
    return failed == 0 && extent->stored == 0 ? -EIO : failed;
}

int squashfs_extent_read(struct squashfs_reader *reader, const struct squashfs_extent *extent, bool fragment, void *data)
{
    const struct squashfs *image = reader->image;

    if (extent->stored == 0) {
        memset(data, 0, extent->length);
        return (int)extent->length;
    }
    if (extent->stored > image->super.block_size || extent->length > image->super.block_size)
        return -EIO;
    if (extent->compressed && reader->stored == NULL)
        reader->stored = malloc(image->super.block_size);
    uint8_t *stored = extent->compressed ? reader->stored : data;
    if (stored == NULL)
        return -ENOMEM;
    int length = squashfs_bytes(image, extent->at, stored, extent->stored);
    if (length == 0 && image->source.check != NULL)
        length = image->source.check(image->source.context, extent->at, stored, extent->stored);
    if (length != 0)
        return length;
    length = (int)extent->stored;
    if (extent->compressed)
        length = squashfs_decompress(reader->decompressor, stored, extent->stored, data, image->super.block_size);
    if (length >= 0 && !fragment && length != (int)extent->length)
        return -EIO;
    return length;
}

int squashfs_extent_part(struct squashfs_reader *reader, const struct squashfs_extent *extent, size_t from, void *data, size_t length)
{
    const struct squashfs *image = reader->image;

    if (extent->compressed || extent->stored == 0 || image->source.check != NULL)
        return -ENOTSUP;
    if (extent->stored > extent->length || from > extent->stored || length > extent->stored - from)
        return -EIO;
    return squashfs_bytes(image, extent->at + from, data, length);
}

/* Which block holds `offset`, and where it begins there. */
static int find(struct squashfs_reader *reader, const struct squashfs_inode *inode, uint64_t offset,
                struct squashfs_extent *extent, size_t *within)
{
    const struct squashfs_super *super = &reader->image->super;
    uint64_t index = offset >> super->block_log;

    *within = (size_t)(offset & (super->block_size - 1));
    if (index >= inode->blocks) {
        *within += inode->fragment_offset;
        return squashfs_fragment(reader, inode->fragment, extent);
    }
    if (reader->walk_of != inode->reference)
        reader->walk = (struct squashfs_walk){.begun = false};
    reader->walk_of = inode->reference;
    return squashfs_extent_of(reader, inode, &reader->walk, index, extent);
}

ssize_t squashfs_file_read(struct squashfs_reader *reader, const struct squashfs_inode *inode, uint64_t offset, void *bytes,
                           size_t length)
{
    const struct squashfs_super *super = &reader->image->super;
    size_t done = 0;

    if (!S_ISREG(inode->mode))
        return -EINVAL;
    if (reader->block == NULL && (reader->block = malloc(super->block_size)) == NULL)
        return -ENOMEM;
    if (offset >= inode->size)
        return 0;
    length = length > inode->size - offset ? (size_t)(inode->size - offset) : length;
    while (done < length) {
        struct squashfs_extent extent;
        size_t within, part = super->block_size - (size_t)((offset + done) & (super->block_size - 1));
        int failed = find(reader, inode, offset + done, &extent, &within);
        if (failed != 0)
            return failed;
        part = part < length - done ? part : length - done;
        bool tail = (offset + done) >> super->block_log >= inode->blocks;
        if (extent.stored == 0) {
            memset((char *)bytes + done, 0, part);
            done += part;
            continue;
        }
        if (reader->block_at != extent.at) {
            reader->block_at = 0;
            reader->block_length = squashfs_extent_read(reader, &extent, tail, reader->block);
            if (reader->block_length < 0)
                return reader->block_length;
            reader->block_at = extent.at;
        }
        if (within + part > (size_t)reader->block_length)
            return -EIO;
        memcpy((char *)bytes + done, reader->block + within, part);
        done += part;
    }
    return (ssize_t)done;
}
