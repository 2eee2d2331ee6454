/* Blocks of data, compressed by several threads and written in their order. */
#include "blocks.h"

#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define THREADS_LIMIT 64U
#define WAITING 4U /* blocks for each thread */

struct squeeze {
    enum compressor compressor;
    ZSTD_CCtx *zstd;
    struct libdeflate_compressor *deflate;
};

struct squeeze *squeeze_make(enum compressor compressor, int level)
{
    struct squeeze *squeeze = must_allocate(sizeof *squeeze);
    squeeze->compressor = compressor;
    if (compressor == COMPRESSOR_ZSTD) {
        squeeze->zstd = ZSTD_createCCtx();
        if (squeeze->zstd)
            ZSTD_CCtx_setParameter(squeeze->zstd, ZSTD_c_compressionLevel, level);
    } else {
        squeeze->deflate = libdeflate_alloc_compressor(level);
    }
    if (!squeeze->zstd && !squeeze->deflate)
        stop(ENOMEM, "a compressor of level %d", level);
    return squeeze;
}

size_t squeeze_to(struct squeeze *squeeze, void *to, size_t room, const void *from, size_t size)
{
    size_t count;
    if (squeeze->compressor == COMPRESSOR_ZSTD) {
        count = ZSTD_compress2(squeeze->zstd, to, room, from, size);
        count = ZSTD_isError(count) ? 0 : count;
    } else {
        count = libdeflate_zlib_compress(squeeze->deflate, from, size, to, room);
    }
    return count < size ? count : 0;
}

void squeeze_free(struct squeeze *squeeze)
{
    ZSTD_freeCCtx(squeeze->zstd);
    libdeflate_free_compressor(squeeze->deflate);
    free(squeeze);
}

bool expand(enum compressor compressor, void *to, size_t size, size_t *used, const void *from, size_t from_size)
{
    if (compressor == COMPRESSOR_ZSTD) {
        *used = ZSTD_decompress(to, size, from, from_size);
        return !ZSTD_isError(*used);
    }
    struct libdeflate_decompressor *deflate = libdeflate_alloc_decompressor();
    bool done = deflate && libdeflate_zlib_decompress(deflate, from, from_size, to, size, used) == LIBDEFLATE_SUCCESS;
    libdeflate_free_decompressor(deflate);
    return done;
}

enum state { FREE, GIVEN, TAKEN, DONE };

struct slot {
    enum state state;
    bool stored;
    size_t size, packed; /* 0: it did not get smaller */
    uint8_t data[BLOCK_SIZE], out[BLOCK_SIZE];
};

struct blocks {
    int fd;
    uint64_t offset;
    enum compressor compressor;
    int level;
    pthread_mutex_t lock;
    pthread_cond_t given, freed;
    struct slot *slots; /* block N is in slot N modulo their number */
    unsigned slot_count, thread_count;
    pthread_t threads[THREADS_LIMIT];
    uint64_t next_given, next_taken, next_written; /* numbers of blocks */
    bool ended, writing;
    struct written written;
    uint64_t capacity;
};

static struct slot *slot_of(struct blocks *blocks, uint64_t number)
{
    return &blocks->slots[number % blocks->slot_count];
}

static void note(struct blocks *blocks, uint32_t size)
{
    struct written *written = &blocks->written;
    if (written->count == blocks->capacity) {
        blocks->capacity = blocks->capacity * 2 + 1024;
        written->sizes = must_resize(written->sizes, blocks->capacity * sizeof *written->sizes);
        written->places = must_resize(written->places, blocks->capacity * sizeof *written->places);
    }
    written->sizes[written->count] = size;
    written->places[written->count++] = written->size;
}

/* Writes the block whose turn it is; alone, though not under the lock. */
static void write_slot(struct blocks *blocks, const struct slot *slot)
{
    struct written *written = &blocks->written;
    const uint8_t *data = slot->packed ? slot->out : slot->data;
    size_t size = slot->packed ? slot->packed : slot->size;
    write_at(blocks->fd, data, size, blocks->offset + written->size);
    written->crc = libdeflate_crc32(written->crc, data, size);
    note(blocks, (uint32_t)size | (slot->packed ? 0 : STORED));
    written->size += size;
}

/* Writes all blocks whose turn has come; under the lock, but for the writing itself. */
static void write_done(struct blocks *blocks)
{
    if (blocks->writing)
        return;
    blocks->writing = true;
    struct slot *slot;
    while (blocks->next_written < blocks->next_taken && (slot = slot_of(blocks, blocks->next_written))->state == DONE) {
        pthread_mutex_unlock(&blocks->lock);
        write_slot(blocks, slot);
        pthread_mutex_lock(&blocks->lock);
        slot->state = FREE;
        blocks->next_written++;
        pthread_cond_broadcast(&blocks->freed);
    }
    blocks->writing = false;
}

static void *work(void *about)
{
    struct blocks *blocks = about;
    struct squeeze *squeeze = squeeze_make(blocks->compressor, blocks->level);
    pthread_mutex_lock(&blocks->lock);
    for (;;) {
        while (blocks->next_taken == blocks->next_given && !blocks->ended)
            pthread_cond_wait(&blocks->given, &blocks->lock);
        if (blocks->next_taken == blocks->next_given)
            break;
        struct slot *slot = slot_of(blocks, blocks->next_taken++);
        slot->state = TAKEN;
        pthread_mutex_unlock(&blocks->lock);
        slot->packed = slot->stored ? 0 : squeeze_to(squeeze, slot->out, sizeof slot->out, slot->data, slot->size);
        pthread_mutex_lock(&blocks->lock);
        slot->state = DONE;
        write_done(blocks);
    }
    pthread_mutex_unlock(&blocks->lock);
    squeeze_free(squeeze);
    return NULL;
}

struct blocks *blocks_start(int fd, uint64_t offset, enum compressor compressor, int level, unsigned threads)
{
    struct blocks *blocks = must_allocate(sizeof *blocks);
    *blocks = (struct blocks){.fd = fd, .offset = offset, .compressor = compressor, .level = level};
    blocks->thread_count = threads < 1 ? 1 : threads > THREADS_LIMIT ? THREADS_LIMIT : threads;
    blocks->slot_count = blocks->thread_count * WAITING;
    blocks->slots = must_allocate(blocks->slot_count * sizeof *blocks->slots);
    pthread_mutex_init(&blocks->lock, NULL);
    pthread_cond_init(&blocks->given, NULL);
    pthread_cond_init(&blocks->freed, NULL);
    for (unsigned i = 0; i < blocks->thread_count; i++) {
        int number = pthread_create(&blocks->threads[i], NULL, work, blocks);
        if (number)
            stop(number, "thread %u", i);
    }
    return blocks;
}

void *blocks_room(struct blocks *blocks)
{
    struct slot *slot = slot_of(blocks, blocks->next_given);
    pthread_mutex_lock(&blocks->lock);
    while (slot->state != FREE)
        pthread_cond_wait(&blocks->freed, &blocks->lock);
    pthread_mutex_unlock(&blocks->lock);
    return slot->data;
}

uint64_t blocks_give(struct blocks *blocks, size_t size, bool stored)
{
    pthread_mutex_lock(&blocks->lock);
    struct slot *slot = slot_of(blocks, blocks->next_given);
    slot->size = size;
    slot->stored = stored;
    slot->state = GIVEN;
    uint64_t number = blocks->next_given++;
    pthread_cond_signal(&blocks->given);
    pthread_mutex_unlock(&blocks->lock);
    return number;
}

void blocks_finish(struct blocks *blocks, struct written *written)
{
    pthread_mutex_lock(&blocks->lock);
    blocks->ended = true;
    pthread_cond_broadcast(&blocks->given);
    pthread_mutex_unlock(&blocks->lock);
    for (unsigned i = 0; i < blocks->thread_count; i++)
        pthread_join(blocks->threads[i], NULL);
    *written = blocks->written;
    free(blocks->slots);
    free(blocks);
}
