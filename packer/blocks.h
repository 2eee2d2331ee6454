/* Blocks of data, compressed by several threads and written one after another, in the order in which they are given: the file is
 * the same whatever the number of threads. */
#pragma once

#include "common.h"

#define BLOCK_SIZE 131072U
#define STORED (1U << 24) /* in the size of a block: not compressed */
#define STORED_METADATA 0x8000U
#define METADATA_SIZE 8192U

enum compressor { COMPRESSOR_GZIP = 1, COMPRESSOR_ZSTD = 6 }; /* as squashfs has them */

/* One thread's means of compressing. */
struct squeeze;
struct squeeze *squeeze_make(enum compressor compressor, int level);
size_t squeeze_to(struct squeeze *squeeze, void *to, size_t room, const void *from, size_t size); /* 0: not smaller */
void squeeze_free(struct squeeze *squeeze);
bool expand(enum compressor compressor, void *to, size_t size, size_t *used, const void *from, size_t from_size);

struct blocks;
struct blocks *blocks_start(int fd, uint64_t offset, enum compressor compressor, int level, unsigned threads);
void *blocks_room(struct blocks *blocks);                              /* for BLOCK_SIZE bytes, when there is room */
uint64_t blocks_give(struct blocks *blocks, size_t size, bool stored); /* what is in that room; its number, from 0 */

/* What has become of all of them: each one's size, STORED among it, and where it is, relative to the first. */
struct written {
    uint32_t *sizes;
    uint64_t *places;
    uint64_t count, size; /* bytes in all */
    uint32_t crc;
};

void blocks_finish(struct blocks *blocks, struct written *written); /* frees `blocks`; the caller frees the arrays */
