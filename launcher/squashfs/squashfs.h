/* Reading squashfs 4.0, from any source of bytes. Touches nothing but its source and its memory; uses nothing else of the launcher
 * but numbers of foreign bytes (image/bytes.h), has no state of its own, and takes every image for hostile.
 *
 * An image is opened once and never changes then, so that threads share it. What reads is a reader, one a thread: it has the
 * decompressors, a few hundred KiB of metadata blocks, and buffers of one data block.
 *
 * Functions return 0 or more on success and a negative errno otherwise: -EIO for what is damaged, -ENOMEM, or what the source said.
 * Layout of the format: the kernel's fs/squashfs/squashfs_fs.h. */
#ifndef SINGULARITY_SQUASHFS_H
#define SINGULARITY_SQUASHFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum squashfs_compression { SQUASHFS_ZLIB = 1, SQUASHFS_LZMA, SQUASHFS_LZO, SQUASHFS_XZ, SQUASHFS_LZ4, SQUASHFS_ZSTD };
enum { SQUASHFS_METADATA = 8192, SQUASHFS_BLOCK_MOST = 1 << 20, SQUASHFS_NAME = 256, SQUASHFS_LINK = 65536 };
#define SQUASHFS_NONE UINT32_MAX /* no fragment, no attributes */

/* Where the bytes come from: a part of a file, a web server. Called by several threads at once. */
struct squashfs_source {
    void *context;
    uint64_t size; /* no byte behind it is asked for */
    /* Reads `length` bytes at `at` of the image, all of them. 0, or a negative errno (-EIO: the image ends before). */
    int (*read)(void *context, uint64_t at, void *bytes, size_t length);
    /* Judges a stored block, of data or metadata (the latter with its header of two bytes), before it is decompressed: 0, or a
     * negative errno. NULL: nobody does. */
    int (*check)(void *context, uint64_t at, const void *bytes, size_t length);
};

/* A source that is a file, from `offset` on: pread(2). The file stays the caller's. */
struct squashfs_file {
    int fd;
    uint64_t offset;
};
struct squashfs_source squashfs_file_source(struct squashfs_file *file, uint64_t size);

/* The superblock, decoded and checked: block sizes, order of tables, everything within `used`. */
struct squashfs_super {
    uint32_t inodes, modified, block_size, fragments;
    uint16_t compression, block_log, flags, ids;
    uint64_t root; /* an inode reference */
    uint64_t used; /* bytes */
    uint64_t id_table, xattr_table, inode_table, directory_table, fragment_table; /* xattr, fragment: UINT64_MAX for none */
};

struct squashfs;
struct squashfs_reader;

/* On failure `why` says what is wrong, in a few words without the image's name; a constant. Two parts, for who has more rights before:
 * squashfs_look() judges the 96 bytes of the superblock, and squashfs_tables() decompresses; nothing else may be called in between. */
int squashfs_open(const struct squashfs_source *source, struct squashfs **image, const char **why);
int squashfs_look(const struct squashfs_source *source, struct squashfs **image, const char **why);
int squashfs_tables(struct squashfs *image, const char **why);
void squashfs_close(struct squashfs *image); /* NULL is fine; its readers are closed before */
const struct squashfs_super *squashfs_super(const struct squashfs *image);
bool squashfs_has_xattrs(const struct squashfs *image);

int squashfs_reader_new(const struct squashfs *image, struct squashfs_reader **reader, const char **why);
/* Another request: each has so much work done for it and no more, whatever a hostile image says of its lists (who waits for an
 * answer of a FUSE server cannot be killed). */
void squashfs_reader_request(struct squashfs_reader *reader);
void squashfs_reader_free(struct squashfs_reader *reader); /* NULL is fine */

/* A place in metadata: a block, from the start of the image, and a byte in what it decompresses to. */
struct squashfs_place {
    uint64_t block;
    uint32_t offset;
};

struct squashfs_inode {
    uint64_t reference; /* block of the inode table << 16 | byte in it: what entries of directories say */
    uint32_t number;
    uint32_t mode; /* as st_mode, with the kind */
    uint32_t uid, gid, mtime, links;
    uint32_t xattr;  /* SQUASHFS_NONE: none */
    uint32_t device; /* as the kernel's new_encode_dev() */
    uint64_t size;   /* of a file, a link's target, a directory as stat(2) shows it */
    /* files */
    uint64_t sparse; /* bytes of holes, where the image says so */
    uint64_t start;  /* of the first data block */
    uint64_t blocks; /* in the list at `more`; then the tail, if fragment is one */
    uint32_t fragment, fragment_offset;
    /* directories */
    uint32_t parent; /* an inode number */
    uint32_t index_count;
    struct squashfs_place listing;
    /* behind the inode: list of blocks, index of a directory, target of a link */
    struct squashfs_place more;
};
int squashfs_inode_read(struct squashfs_reader *reader, uint64_t reference, struct squashfs_inode *inode);

/* The target, with a NUL behind it. Returns its length; -ENAMETOOLONG where `size` is too small. */
int squashfs_link_read(struct squashfs_reader *reader, const struct squashfs_inode *inode, char *target, size_t size);

/* ---- Directories: sorted by strcmp(3), without "." and "..". */

struct squashfs_entry {
    uint64_t reference;
    uint32_t number; /* of the inode */
    uint32_t kind;   /* S_IFREG and so on */
    uint32_t length;
    char name[SQUASHFS_NAME + 1]; /* never empty, ".", "..", and without '/' or NUL; not always UTF-8 */
    uint64_t next;                /* how many there are up to it: where to go on behind it */
};
struct squashfs_cursor {
    struct squashfs_place place;
    uint64_t remaining, size; /* bytes of the listing */
    uint64_t passed;          /* entries */
    uint32_t left, start, base; /* of a run of entries */
};
/* Behind so many entries, which are read; behind the last one where there are fewer. -ENOTDIR for others. */
int squashfs_directory_begin(struct squashfs_reader *reader, const struct squashfs_inode *directory, uint64_t from,
                             struct squashfs_cursor *cursor);
/* 1 with an entry, 0 at the end. */
int squashfs_directory_next(struct squashfs_reader *reader, struct squashfs_cursor *cursor, struct squashfs_entry *entry);
/* By name, with the help of the directory's index. -ENOENT. */
int squashfs_lookup(struct squashfs_reader *reader, const struct squashfs_inode *directory, const char *name,
                    struct squashfs_entry *entry);

/* ---- Extended attributes */

struct squashfs_xattr {
    char name[SQUASHFS_NAME + 16]; /* with its prefix, "user." and so on */
    uint32_t size;                 /* of the value */
    struct squashfs_place value;
};
struct squashfs_xattrs {
    struct squashfs_place place;
    uint32_t left;
    uint32_t size; /* of all of it, names and values */
};
int squashfs_xattr_begin(struct squashfs_reader *reader, const struct squashfs_inode *inode, struct squashfs_xattrs *list);
/* 1 with one, 0 at the end. */
int squashfs_xattr_next(struct squashfs_reader *reader, struct squashfs_xattrs *list, struct squashfs_xattr *xattr);
/* All `size` bytes of it. */
int squashfs_xattr_value(struct squashfs_reader *reader, const struct squashfs_xattr *xattr, void *value);

/* ---- Data */

/* A block as it is stored. */
struct squashfs_extent {
    uint64_t at;      /* from the start of the image */
    uint32_t stored;  /* bytes there; 0: a hole */
    bool compressed;
    uint32_t length;  /* decompressed: what the file says of its block; of a fragment block at most that */
};
/* Where the search for a file's blocks is: zero before the first. It makes the next block cheap, those behind it cost reading the
 * list in between, those before it the list from its start. */
struct squashfs_walk {
    bool begun;
    uint64_t index, at;
    struct squashfs_place place;
};
/* Block `index` of a file, which is below inode->blocks. */
int squashfs_extent_of(struct squashfs_reader *reader, const struct squashfs_inode *inode, struct squashfs_walk *walk,
                       uint64_t index, struct squashfs_extent *extent);
int squashfs_fragment(struct squashfs_reader *reader, uint32_t index, struct squashfs_extent *extent);
/* Reads and decompresses one into `data`, which has room for a block. Returns the bytes that it has: `length` of the extent for blocks
 * of files (fewer are -EIO), at most that for fragments. A hole becomes NULs. */
int squashfs_extent_read(struct squashfs_reader *reader, const struct squashfs_extent *extent, bool fragment, void *data);

/* A part of one that is stored as it is: only that is read. -ENOTSUP where all of it is needed: it is compressed, or blocks are judged. */
int squashfs_extent_part(struct squashfs_reader *reader, const struct squashfs_extent *extent, size_t from, void *data, size_t length);

/* Contents of a file as pread(2) has them; keeps one block, so that small reads in order decompress each once. */
ssize_t squashfs_file_read(struct squashfs_reader *reader, const struct squashfs_inode *inode, uint64_t offset, void *bytes,
                           size_t length);

/* ---- Decompression alone */

struct squashfs_decompressor;
/* -EOPNOTSUPP with a reason for a compression that is unknown, or whose library was missing when this was built. */
int squashfs_decompressor_new(unsigned compression, struct squashfs_decompressor **decompressor, const char **why);
void squashfs_decompressor_free(struct squashfs_decompressor *decompressor);
/* The bytes written, at most `room`; -EIO. */
int squashfs_decompress(struct squashfs_decompressor *decompressor, const void *from, size_t length, void *to, size_t room);

#endif
