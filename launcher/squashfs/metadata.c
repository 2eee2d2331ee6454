/* Metadata of squashfs: blocks of 8 KiB, each with its size before it, and tables that list their addresses. */
#include <errno.h>
#include <string.h>

#include "../image/bytes.h"
#include "parts.h"

enum { HEADER = 2, STORED_AS_IS = 0x8000 };

static int fill(struct squashfs_reader *reader, uint64_t at, struct metadata_block *block)
{
    const struct squashfs *image = reader->image;
    uint8_t stored[HEADER + SQUASHFS_METADATA];
    uint64_t left = image->super.used > at ? image->super.used - at : 0;
    /* in one read: what lies behind it is in the page cache anyway */
    size_t most = left < sizeof stored ? (size_t)left : sizeof stored;

    block->at = 0;
    int failed = most <= HEADER ? -EIO : squashfs_bytes(image, at, stored, most);
    if (failed != 0)
        return failed;
    size_t size = le16(stored) & ~STORED_AS_IS & 0xffff;
    if (size == 0 || size > SQUASHFS_METADATA || size > most - HEADER)
        return -EIO;
    failed = image->source.check != NULL ? image->source.check(image->source.context, at, stored, HEADER + size) : 0;
    if (failed != 0)
        return failed;
    int length = (int)size;
    if (le16(stored) & STORED_AS_IS)
        memcpy(block->data, stored + HEADER, size);
    else
        length = squashfs_decompress(reader->decompressor, stored + HEADER, size, block->data, sizeof block->data);
    if (length <= 0)
        return length < 0 ? length : -EIO;
    block->at = at;
    block->next = at + HEADER + size;
    block->length = (uint32_t)length;
    return 0;
}

/* The least recently used one makes room. */
static int metadata_block(struct squashfs_reader *reader, uint64_t at, struct metadata_block **found)
{
    struct metadata_block *oldest = &reader->metadata[0];
    int failed = 0;

    *found = NULL;
    for (int i = 0; i < METADATA_BLOCKS; i++) {
        struct metadata_block *block = &reader->metadata[i];
        if (block->at == at && at != 0) {
            *found = block;
            break;
        }
        if (block->used < oldest->used)
            oldest = block;
    }
    if (*found == NULL) {
        *found = oldest;
        reader->work += BLOCK_WORK;
        failed = fill(reader, at, oldest);
    }
    (*found)->used = failed == 0 ? ++reader->clock : 0;
    return failed;
}

int squashfs_metadata(struct squashfs_reader *reader, struct squashfs_place *place, void *bytes, size_t length)
{
    uint8_t *to = bytes;

    while (length > 0) {
        struct metadata_block *block;
        int failed = ++reader->work > WORK_MOST ? -EIO : metadata_block(reader, place->block, &block);
        if (failed != 0)
            return failed;
        if (place->offset > block->length)
            return -EIO;
        if (place->offset == block->length) { /* on, never back: each block has at least a byte */
            *place = (struct squashfs_place){.block = block->next};
            continue;
        }
        size_t part = block->length - place->offset < length ? block->length - place->offset : length;
        if (to != NULL) {
            memcpy(to, block->data + place->offset, part);
            to += part;
        }
        place->offset += (uint32_t)part;
        length -= part;
    }
    return 0;
}

int squashfs_table(struct squashfs_reader *reader, uint64_t table, uint64_t index, uint32_t size, struct squashfs_place *place)
{
    uint64_t each = SQUASHFS_METADATA / size, at;
    uint8_t address[8];

    if (__builtin_add_overflow(table, index / each * sizeof address, &at))
        return -EIO;
    int failed = squashfs_bytes(reader->image, at, address, sizeof address);
    *place = (struct squashfs_place){.block = le64(address), .offset = (uint32_t)(index % each) * size};
    return failed != 0 ? failed : place->block >= table ? -EIO : 0; /* a table's blocks are written before it */
}
