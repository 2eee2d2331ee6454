/* Reading what is sealed: each block is read into memory of ours, compared with its digest there, and only then used. Digests are read
 * in blocks as well, checked by the level above, up to the root, and kept while there is room. */
#include "signature.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../image/bytes.h"

/* Blocks of digests that are kept: each is enough for 512 KiB of data. */
enum { KEPT = 512, LEVELS = 9, PER_BLOCK = SEAL_BLOCK / SEAL_DIGEST, TOLD_MOST = 8 };

struct kept {
    uint64_t block; /* its number in the tree, + 1; 0: none */
    uint8_t digests[SEAL_BLOCK];
};

struct sealed_file {
    int fd;
    struct seal seal;
    char name[256];
    unsigned levels;
    uint64_t starts[LEVELS]; /* where each level begins in the tree, in blocks; [0] has the digests of data */
    pthread_mutex_t lock;
    unsigned told;
    uint64_t told_last;
    struct kept kept[KEPT];
};

struct sealed_file *sealed_open(int fd, const struct seal *seal, const char *name)
{
    uint64_t counts[LEVELS], place = 0;
    struct sealed_file *file = seal->tree != 0 ? calloc(1, sizeof *file) : NULL;

    if (file == NULL)
        return NULL;
    file->fd = fd;
    file->seal = *seal;
    strncpy(file->name, name, sizeof file->name - 1);
    file->told = TOLD_MOST; /* whoever opens it says it himself */
    for (uint64_t count = seal->size / SEAL_BLOCK; count > 1 && file->levels < LEVELS; file->levels++) {
        count = (count + PER_BLOCK - 1) / PER_BLOCK;
        counts[file->levels] = count;
    }
    for (unsigned level = file->levels; level-- > 0; place += counts[level]) /* the top level comes first */
        file->starts[level] = place;
    if (pthread_mutex_init(&file->lock, NULL) != 0) {
        free(file);
        return NULL;
    }
    return file;
}

void sealed_move(struct sealed_file *file, int fd)
{
    file->fd = fd;
    file->told = 0;
}

/* One line for the user, and not one for each try of the kernel's and each program that stumbles over it. */
static int refuse(struct sealed_file *file, uint64_t block, bool of_tree)
{
    pthread_mutex_lock(&file->lock);
    bool told = file->told >= TOLD_MOST || (file->told > 0 && file->told_last == block);
    file->told += !told;
    file->told_last = block;
    pthread_mutex_unlock(&file->lock);
    if (!told)
        message_error("%s: %s byte %llu is not what was signed (damaged, or changed since; get the image again)", file->name,
                      of_tree ? "its hash tree near" : "the block at", (unsigned long long)(file->seal.offset + block * SEAL_BLOCK));
    return -EIO;
}

static bool kept_digest(struct sealed_file *file, uint64_t number, uint64_t entry, uint8_t digest[SEAL_DIGEST])
{
    struct kept *kept = &file->kept[number % KEPT];

    pthread_mutex_lock(&file->lock);
    bool found = kept->block == number + 1;
    if (found)
        memcpy(digest, kept->digests + entry * SEAL_DIGEST, SEAL_DIGEST);
    pthread_mutex_unlock(&file->lock);
    return found;
}

/* The digest that block `index` below this level must have; level 0 is above the data. */
static int digest_of(struct sealed_file *file, unsigned level, uint64_t index, uint8_t digest[SEAL_DIGEST])
{
    uint8_t block[SEAL_BLOCK], found[SEAL_DIGEST], wanted[SEAL_DIGEST];

    if (level == file->levels) {
        memcpy(digest, file->seal.root, SEAL_DIGEST);
        return 0;
    }
    uint64_t above = index / PER_BLOCK, number = file->starts[level] + above;
    if (kept_digest(file, number, index % PER_BLOCK, digest))
        return 0;
    int failed = digest_of(file, level + 1, above, wanted);
    if (failed != 0)
        return failed;
    if (!bytes_read(file->fd, file->seal.tree, INT64_MAX - file->seal.tree, number * SEAL_BLOCK, block, sizeof block))
        return -EIO;
    sha256_of(block, sizeof block, found);
    if (memcmp(found, wanted, SEAL_DIGEST) != 0)
        return refuse(file, level == 0 ? above * PER_BLOCK : 0, true);
    memcpy(digest, block + index % PER_BLOCK * SEAL_DIGEST, SEAL_DIGEST);
    struct kept *kept = &file->kept[number % KEPT];
    pthread_mutex_lock(&file->lock);
    kept->block = number + 1;
    memcpy(kept->digests, block, sizeof block);
    pthread_mutex_unlock(&file->lock);
    return 0;
}

static int check(struct sealed_file *file, uint64_t index, const uint8_t *block)
{
    uint8_t found[SEAL_DIGEST], wanted[SEAL_DIGEST];
    int failed = digest_of(file, 0, index, wanted);

    if (failed != 0)
        return failed;
    sha256_of(block, SEAL_BLOCK, found);
    return memcmp(found, wanted, SEAL_DIGEST) == 0 ? 0 : refuse(file, index, false);
}

/* Blocks of which only a part is wanted are read beside; the rest straight to where it goes, which is nobody's yet. */
int sealed_read(void *context, uint64_t at, void *bytes, size_t length)
{
    struct sealed_file *file = context;
    uint8_t edge[SEAL_BLOCK], *to = bytes;
    uint64_t end;

    if (__builtin_add_overflow(at, length, &end) || end > file->seal.size)
        return -EIO;
    for (size_t part; length > 0; at += part, to += part, length -= part) {
        size_t within = (size_t)(at % SEAL_BLOCK);
        bool whole = within == 0 && length >= SEAL_BLOCK;
        part = whole ? length / SEAL_BLOCK * SEAL_BLOCK : SEAL_BLOCK - within < length ? SEAL_BLOCK - within : length;
        uint8_t *read = whole ? to : edge;
        size_t size = whole ? part : sizeof edge;
        if (!bytes_read(file->fd, file->seal.offset, file->seal.size, at - within, read, size))
            return -EIO;
        for (size_t done = 0; done < size; done += SEAL_BLOCK) {
            int failed = check(file, (at - within + done) / SEAL_BLOCK, read + done);
            if (failed != 0)
                return failed;
        }
        if (!whole)
            memcpy(to, edge + within, part);
    }
    return 0;
}
