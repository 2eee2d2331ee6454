/* A layer as a file: blocks that a squashfs file system can have as they are, and records of the members. Made once for each
 * layer; images are merged of such files.
 *
 *   0       the head, 4096 bytes: see HEAD below
 *   4096    blocks, compressed, one after another: those of files, and fragments, which small files share
 *   behind  the records, in the order of the members; then sets of attributes; then the places of fragments
 *
 * A checksum is for each part: a file that a disk has damaged is noticed. Who could change it on purpose could change images. */
#pragma once

#include "blocks.h"
#include "tar.h"

#define LAYER_DATA 4096U
#define NO_FRAGMENT 0xFFFFFFFFU

struct layer_options {
    enum compressor compressor;
    int level;
    unsigned threads;
    const char *const *hot;   /* patterns of paths: stored as they are, in no fragment */
    const char *const *warm;  /* these too, while `budget` lasts */
    const char *const *alone; /* in no fragment */
    uint64_t budget;  /* bytes by which the layer may grow for what is warm */
    bool all_alone;
};

/* Converts an archive into a file that is empty. */
void layer_convert(tar_read_function *read, void *from, int fd, const struct layer_options *options);

/* A member as a layer file has it; texts and blocks lie in the mapped file. */
struct record {
    enum kind kind;
    uint32_t mode, uid, gid, major, minor;
    int64_t mtime;
    uint32_t attributes; /* a set of the layer, from 1; 0: none */
    struct text path, target;
    uint64_t size, start, sparse; /* of a file: `start` from LAYER_DATA on; bytes in holes */
    uint32_t fragment, fragment_offset, block_count;
    const uint8_t *blocks; /* 4 bytes each: the size; 0 is a hole */
};

void record_put(struct buffer *buffer, const struct record *record); /* its blocks are copied */

struct layer {
    const char *name;
    int fd;
    const uint8_t *mapped;
    size_t mapped_size;
    uint64_t data_size;
    struct text records, attributes, fragments; /* what is in the file */
    uint32_t record_count, set_count, fragment_count;
    enum compressor compressor;
    const uint8_t **sets; /* where each set of attributes begins */
};

/* Opens and checks a layer file, whose descriptor is its own then; ends the program for a damaged one. */
void layer_open(struct layer *layer, int fd, const char *name);
void layer_close(struct layer *layer);

/* The record at `at` bytes of the records, and where the next one begins. */
size_t layer_record(const struct layer *layer, size_t at, struct record *record);

/* One attribute of those in a set; how many there are. */
uint32_t layer_attribute_count(const struct layer *layer, uint32_t set);
const uint8_t *layer_attribute(const uint8_t *at, struct attribute *attribute); /* the first is at sets[set - 1] + 4 */

/* Where a fragment is, and its size. */
uint64_t layer_fragment(const struct layer *layer, uint32_t number, uint32_t *size);

/* The content of a file, part by part, into `give`. */
void layer_content(const struct layer *layer, const struct record *record, void (*give)(void *to, const void *data, size_t size),
                   void *to);
