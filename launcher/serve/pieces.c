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

/* Where block `index` of the file is. */
static int find(struct hands *hands, const struct squashfs_inode *inode, uint64_t index, struct squashfs_extent *extent)
{
    if (index >= inode->blocks)
        return squashfs_fragment(hands->reader, inode->fragment, extent);
    return squashfs_extent_of(hands->reader, inode, walk_of(&hands->walks, inode->reference), index, extent);
}

/* One piece more: `part` bytes from `within` a block on. */
static int add(struct hands *hands, const struct squashfs_extent *extent, bool fragment, size_t within, size_t part)
{
    struct pieces *pieces = &hands->pieces;
    struct server *server = hands->server;
    uint8_t *plain = pieces->plain + pieces->length;
    struct block *block = NULL;
    const uint8_t *data = server->zeros;
    int failed = 0;

    if (extent->stored != 0 && (failed = squashfs_extent_part(hands->reader, extent, within, plain, part)) == 0)
        data = plain - within;
    else if (failed == -ENOTSUP && (failed = cache_get(&server->cache, hands->reader, extent, fragment, &block)) == 0)
        data = block->data;
    if (failed != 0)
        return failed;
    pieces->blocks[pieces->count] = block;
    pieces->kinds[pieces->count] = fragment ? PIECE_SHARED : within == 0 && part == extent->length ? PIECE_WHOLE : PIECE_PART;
    pieces->parts[pieces->count++] = (struct iovec){(void *)(data + within), part};
    pieces->length += part;
    return block != NULL && within + part > (size_t)block->length ? -EIO : 0;
}

void pieces_give_back(struct hands *hands, bool rest)
{
    struct pieces *pieces = &hands->pieces;

    for (int i = 0; i < pieces->count; i++)
        if (pieces->blocks[i] != NULL)
            cache_put(&hands->server->cache, pieces->blocks[i], pieces->kinds[i] >= (rest ? PIECE_PART : PIECE_WHOLE));
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
        struct squashfs_extent extent;
        bool fragment = index >= inode->blocks;
        int failed = find(hands, inode, index, &extent);
        part = part > length - pieces->length ? length - pieces->length : part;
        if (failed == 0)
            failed = add(hands, &extent, fragment, fragment ? within + inode->fragment_offset : within, part);
        if (failed != 0) {
            pieces_give_back(hands, false);
            return failed;
        }
    }
    return 0;
}
