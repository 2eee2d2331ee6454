/* What the files of this room share. */
#ifndef SINGULARITY_SQUASHFS_PARTS_H
#define SINGULARITY_SQUASHFS_PARTS_H

#include "squashfs.h"

/* WORK_MOST: looks at metadata for one request, of which one that reads a block counts as BLOCK_WORK. A second or two of a
 * processor, for half a GiB of a block list or two million entries of a directory without an index. */
enum { METADATA_BLOCKS = 64, BLOCK_WORK = 64, WORK_MOST = 1 << 22 };

struct squashfs {
    struct squashfs_source source;
    struct squashfs_super super;
    uint32_t *ids;
    uint64_t xattrs;      /* where references of attributes count from */
    uint32_t xattr_count; /* entries of that table; 0: none */
};

struct metadata_block {
    uint64_t at, next; /* 0: nothing here, for the superblock is there */
    uint64_t used;     /* when, by the reader's clock */
    uint32_t length;
    uint8_t data[SQUASHFS_METADATA];
};

struct squashfs_reader {
    const struct squashfs *image;
    struct squashfs_decompressor *decompressor;
    uint8_t *stored; /* a data block as it is in the image; made when first needed */
    uint8_t *block;  /* what squashfs_file_read() keeps, and which extent it is */
    uint64_t block_at;
    int block_length;
    struct squashfs_walk walk; /* of the file with this reference */
    uint64_t walk_of;
    uint64_t clock;
    uint32_t work; /* since the request began */
    struct metadata_block metadata[METADATA_BLOCKS];
};

/* Bytes of the image, none behind what the superblock says it has. */
int squashfs_bytes(const struct squashfs *image, uint64_t at, void *bytes, size_t length);

/* Copies from a place in metadata on, and moves the place behind; without `bytes` it moves only. */
int squashfs_metadata(struct squashfs_reader *reader, struct squashfs_place *place, void *bytes, size_t length);

/* Where entry `index` of a table is: entries of `size` bytes in metadata blocks, whose addresses stand at `table`. */
int squashfs_table(struct squashfs_reader *reader, uint64_t table, uint64_t index, uint32_t size, struct squashfs_place *place);

#endif
