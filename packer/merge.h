/* Layer files, the lowest first, become one squashfs file system: blocks are copied as they are, tables are written anew. */
#pragma once

#include "squashfs.h"

struct merge_options {
    int fd; /* of the file that the file system is written into, `offset` bytes from its beginning */
    uint64_t offset;
    struct layer_options conversion; /* of what comes on standard input */
    int64_t epoch;                   /* no time is later; negative: any may be */
    uint32_t made;
    const char *scratch; /* a directory */
    bool literal;        /* no name is a whiteout */
    /* Patterns of paths, see fnmatch(3): */
    const char *const *hold;       /* files and links that are handed over, and taken out of the tree */
    const char *const *hold_links; /* links of which the same is true */
    const char *const *hold_trees; /* these, and what is below directories */
    const char *const *show; /* what is told, without content, and stays */
    const char *const *read; /* what is told with its content and what is below it, and stays: where one of the links was held */
    const char *const *first; /* files whose data lie before those of all others: a start reads them */
    const char *const *layers; /* paths, ended by NULL */
};

/* Tells what was asked for on standard output, as `Members of merge` in singularity/image/squashfs/packer.py has it; reads an
 * archive with what comes above all layers from standard input; writes; tells what squashfs had no room for. */
void merge(const struct merge_options *options);

