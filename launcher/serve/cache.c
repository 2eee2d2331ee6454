/* Decompressed blocks, shared by the threads of the image server. Bounded; touches only its memory. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "parts.h"

enum { BLOCKS_MOST = 2560 }; /* more than all threads can hold at once, few enough to be searched one by one */

bool cache_begin(struct cache *cache, uint32_t block_size, size_t memory)
{
    size_t count = memory / block_size < BLOCKS_MOST ? memory / block_size : BLOCKS_MOST;
    uint8_t *data = mmap(NULL, count * block_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (data == MAP_FAILED)
        return false;
    cache->at = calloc(count, sizeof *cache->at);
    cache->blocks = calloc(count, sizeof *cache->blocks);
    if (cache->at == NULL || cache->blocks == NULL)
        return false;
    cache->count = (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        cache->blocks[i].data = data + i * block_size;
    return pthread_mutex_init(&cache->lock, NULL) == 0 && pthread_cond_init(&cache->changed, NULL) == 0;
}

static struct block *find(struct cache *cache, uint64_t at)
{
    for (uint32_t i = 0; i < cache->count; i++)
        if (cache->at[i] == at)
            return &cache->blocks[i];
    return NULL;
}

/* One that the kernel has: its memory is warm. Then one that was never used; then one that nobody uses, and that nobody used again
 * since the last search: what is read once, in order, does not drive out what many small files share. NULL: all are in use. */
static struct block *replace(struct cache *cache)
{
    while (cache->spent_count > 0) {
        struct block *block = &cache->blocks[cache->spent[--cache->spent_count]];
        if (block->users == 0 && block->spent)
            return block;
    }
    if (cache->fresh < cache->count)
        return &cache->blocks[cache->fresh++];
    if (cache->blocks == NULL)
        __builtin_unreachable(); /* since cache_begin(): analyzers forget it at each lock */
    for (uint32_t looked = 0; looked < 2 * cache->count; looked++) {
        struct block *block = &cache->blocks[cache->hand];
        cache->hand = (cache->hand + 1) % cache->count;
        if (block->users == 0 && !block->again)
            return block;
        if (block->users == 0)
            block->again = false;
    }
    return NULL;
}

static void forget(struct cache *cache, struct block *block)
{
    cache->at[block - cache->blocks] = block->at = 0;
    block->again = false;
}

/* Called with the lock, which is free while the block is read. Blocks of fragments are kept, those of one file once used again. */
static void load(struct cache *cache, struct squashfs_reader *reader, const struct squashfs_extent *extent, bool fragment,
                 struct block *block)
{
    cache->at[block - cache->blocks] = block->at = extent->at;
    block->users = 1;
    block->loading = true;
    block->spent = false;
    block->again = fragment;
    pthread_mutex_unlock(&cache->lock);
    int length = squashfs_extent_read(reader, extent, fragment, block->data);
    pthread_mutex_lock(&cache->lock);
    block->length = length;
    block->loading = false;
    pthread_cond_broadcast(&cache->changed);
}

int cache_get(struct cache *cache, struct squashfs_reader *reader, const struct squashfs_extent *extent, bool fragment,
              struct block **found)
{
    struct block *block;
    int failed = 0;

    pthread_mutex_lock(&cache->lock);
    while ((block = find(cache, extent->at)) == NULL) {
        block = replace(cache);
        if (block != NULL) {
            load(cache, reader, extent, fragment, block);
            goto loaded;
        }
        pthread_cond_wait(&cache->changed, &cache->lock);
    }
    block->users++;
    block->again = true;
    while (block->loading)
        pthread_cond_wait(&cache->changed, &cache->lock);
loaded:
    if (block->length < 0)
        failed = block->length;
    else if (!fragment && block->length != (int)extent->length)
        failed = -EIO; /* blocks that lie over each other */
    if (failed != 0) {
        if (block->length < 0)
            forget(cache, block); /* found no more; the last user lets it go */
        block->users--;
        pthread_cond_broadcast(&cache->changed);
    }
    pthread_mutex_unlock(&cache->lock);
    *found = block;
    return failed;
}

void cache_put(struct cache *cache, struct block *block, bool spent)
{
    pthread_mutex_lock(&cache->lock);
    if (spent && !block->spent && cache->spent_count < SPENT) {
        block->spent = true;
        cache->spent[cache->spent_count++] = (uint32_t)(block - cache->blocks);
    }
    if (--block->users == 0)
        pthread_cond_signal(&cache->changed);
    pthread_mutex_unlock(&cache->lock);
}
