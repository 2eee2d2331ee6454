/* Parts of files as pieces of cached blocks. */
#include <errno.h>

#include "parts.h"

static struct squashfs_walk *walk_of(struct walks *walks, uint64_t reference)
{
    static const struct squashfs_walk none;

    for (unsigned i = 0; i < WALKS; i++)
        if (walks->each[i].of == reference && walks->each[i].walk.begun)
            return &walks->each[i].walk;
    unsigned replaced = walks->next++ % WALKS;
    walks->each[replaced].of = reference;
    walks->each[replaced].walk = none;
    return &walks->each[replaced].walk;
}

/* The block of the file that holds `offset`, held; NULL for a hole. */
static int hold(struct hands *hands, const struct squashfs_inode *inode, uint64_t index, struct block **block)
{
    struct squashfs_extent extent;
    bool fragment = index >= inode->blocks;
    int failed = fragment ? squashfs_fragment(hands->reader, inode->fragment, &extent)
                          : squashfs_extent_of(hands->reader, inode, walk_of(&hands->walks, inode->reference), index, &extent);

    *block = NULL;
    if (failed != 0 || extent.stored == 0)
        return failed;
    return cache_get(&hands->server->cache, hands->reader, &extent, fragment, block);
}

void pieces_give_back(struct hands *hands)
{
    struct pieces *pieces = &hands->pieces;

    for (int i = 0; i < pieces->count; i++)
        if (pieces->blocks[i] != NULL)
            cache_put(&hands->server->cache, pieces->blocks[i]);
    pieces->count = 0;
}

int pieces_take(struct hands *hands, const struct squashfs_inode *inode, uint64_t offset, size_t length)
{
    struct pieces *pieces = &hands->pieces;
    size_t block_size = hands->server->block_size;

    pieces->count = 0;
    pieces->length = 0;
    if (offset >= inode->size)
        return 0;
    length = length > REQUEST_MOST ? REQUEST_MOST : length;
    length = length > inode->size - offset ? (size_t)(inode->size - offset) : length;
    while (pieces->length < length) {
        uint64_t at = offset + pieces->length, index = at / block_size;
        size_t within = (size_t)(at % block_size), part = block_size - within;
        struct block *block;
        int failed = hold(hands, inode, index, &block);
        part = part > length - pieces->length ? length - pieces->length : part;
        if (failed == 0) {
            const uint8_t *data = block != NULL ? block->data : hands->server->zeros;
            pieces->blocks[pieces->count] = block;
            if (index >= inode->blocks)
                within += inode->fragment_offset;
            if (block != NULL && within + part > (size_t)block->length)
                failed = -EIO;
            pieces->parts[pieces->count++] = (struct iovec){(void *)(data + within), part};
        }
        if (failed != 0) {
            pieces_give_back(hands);
            return failed;
        }
        pieces->length += part;
    }
    return 0;
}
