/* Recognises squashfs by the superblock; reads nothing else. */
#include <string.h>

#include "bytes.h"
#include "image.h"

/* The superblock of squashfs 4.0, 96 bytes at the start (fs/squashfs/squashfs_fs.h). Fields used, by offset: 4
 * inodes, 12 block size, 20 compression, 22 log2(block size), 26 ids, 28 and 30 version, 32 root inode (block of the
 * inode table << 16 | place in that block), 40 bytes used, 48 id table, 64 inode table, 72 directory table. Blocks
 * are 4 KiB to 1 MiB; blocks of metadata have 8 KiB, which bounds the place of the root. */
enum { SUPERBLOCK_SIZE = 96, BLOCK_LOG_LEAST = 12, BLOCK_LOG_MOST = 20, METADATA_SIZE = 8192 };
/* 1 to 6: zlib, lzma, lzo, xz, lz4, zstd; whether this kernel was built with one of them only a mount can tell */
enum { COMPRESSION_LZMA = 2, COMPRESSIONS = 6, SECTOR = 512 };

/* The tables must stand in the order in which mksquashfs writes and the kernel expects them: a superblock whose
 * tables lie over each other is what fuzzers make (R-I7). */
enum verdict squashfs_recognise(int fd, uint64_t offset, uint64_t room, struct partition *partition, struct error *error)
{
    uint8_t block[SUPERBLOCK_SIZE];

    if (!bytes_read(fd, offset, room, 0, block, 4) || memcmp(block, "hsqs", 4) != 0)
        return VERDICT_OTHER;
    if (!bytes_read(fd, offset, room, 0, block, sizeof block)) {
        error_set(error, 0, "the squashfs ends within its superblock: incomplete download? (pull it again)");
        return VERDICT_BAD;
    }
    uint32_t block_size = le32(block + 12);
    uint16_t compression = le16(block + 20), block_log = le16(block + 22);
    uint16_t major = le16(block + 28), minor = le16(block + 30);
    uint64_t root = le64(block + 32), used = le64(block + 40);
    uint64_t ids = le64(block + 48), inodes = le64(block + 64), directories = le64(block + 72);
    bool whole_sectors = used <= room - room % SECTOR; /* a loop device has no others */

    if (major != 4 || minor != 0)
        error_set(error, 0, "squashfs version %u.%u (only 4.0 can be mounted: make it again with today's mksquashfs)",
                  major, minor);
    else if (compression < 1 || compression > COMPRESSIONS)
        error_set(error, 0, "squashfs with the unknown compression %u (damaged?)", compression);
    else if (compression == COMPRESSION_LZMA)
        error_set(error, 0, "squashfs with lzma, which the kernel does not read either (unsquashfs it and pack it again with "
                  "mksquashfs -comp xz)");
    else if (block_log < BLOCK_LOG_LEAST || block_log > BLOCK_LOG_MOST || block_size != UINT32_C(1) << block_log ||
             le32(block + 4) == 0 || le16(block + 26) == 0 || used > INT64_MAX)
        error_set(error, 0, "damaged squashfs superblock (pull or build it again)");
    else if (used > room)
        error_set(error, 0, "the squashfs lacks its last %llu bytes: incomplete download? (pull it again)",
                  (unsigned long long)(used - room));
    else if (inodes < sizeof block || directories <= inodes || ids < directories || used <= ids ||
             root >> 16 >= directories - inodes || (root & 0xffff) >= METADATA_SIZE)
        error_set(error, 0, "damaged squashfs superblock: its tables lie in no possible place (pull or build it again)");
    else {
        *partition = (struct partition){.filesystem = FILESYSTEM_SQUASHFS, .offset = offset, .size = room,
                                        .no_kernel = whole_sectors ? NULL : "the squashfs is not padded to whole sectors"};
        return VERDICT_YES;
    }
    return VERDICT_BAD;
}
