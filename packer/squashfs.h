/* A squashfs 4.0 file system written around blocks that are there already: superblock, inodes, directories and the other tables.
 * Tables are compressed, so that one block of them is one read for the kernel (singularity/build/layout.py). */
#pragma once

#include "names.h"

/* A part of a layer's data that the image has too. */
struct run {
    uint64_t start, size; /* in the layer, from LAYER_DATA on */
    uint64_t place;       /* in the image */
    bool first;           /* what starts read, which lies together */
};

/* What has become of one layer's data. */
struct carried {
    struct run *runs; /* by start */
    size_t count, room;
    uint32_t *fragments; /* their numbers in the image, plus 1; 0: not wanted */
};

/* Where in the image what begins at `start` in the layer is; it is in one of the runs. */
uint64_t carried_place(const struct carried *carried, uint64_t start);

struct image {
    int fd;
    uint64_t base, at; /* where the file system is in the file, and how far it goes */
    enum compressor compressor;
    int level;
    int64_t epoch;     /* no time is later; negative: any may be */
    uint32_t made;     /* seconds since 1970 */
    struct carried *carried; /* of each layer */
    struct buffer fragments; /* 16 bytes each, as the table has them */
    uint32_t losses_of_times, losses_of_attributes;
};

/* Writes all but the data, which is there up to `image->at`. */
void squashfs_write(struct image *image, struct names *names);

#define SUPERBLOCK_SIZE 96U
