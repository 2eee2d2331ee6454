/* Recognises EROFS by the superblock; reads nothing else. */
#include "bytes.h"
#include "image.h"

/* The superblock of EROFS: 128 bytes behind 1024 that are anybody's (fs/erofs/erofs_fs.h). Fields used, by offset: 0 magic,
 * 12 log2(block size), 14 high part of the number of blocks (with 48BIT), 16 inodes (0 with 48BIT), 36 blocks, 40 first block of
 * inodes, 80 incompatible features, 86 further devices. Blocks are of 512 bytes to 64 KiB. */
enum { SUPERBLOCK_AT = 1024, SUPERBLOCK_SIZE = 128, BLOCK_LOG_LEAST = 9, BLOCK_LOG_MOST = 16, INCOMPATIBLE_48BIT = 0x80 };
static const uint32_t magic = 0xe0f5e1e2;

/* Which features a kernel knows only a mount can tell. */
enum verdict erofs_recognise(int fd, uint64_t offset, uint64_t room, struct partition *partition, struct error *error)
{
    uint8_t block[SUPERBLOCK_SIZE];

    if (!bytes_read(fd, offset, room, SUPERBLOCK_AT, block, sizeof block) || le32(block) != magic)
        return VERDICT_OTHER;
    bool wide = (le32(block + 80) & INCOMPATIBLE_48BIT) != 0;
    uint64_t blocks = le32(block + 36) | (wide ? (uint64_t)le16(block + 14) << 32 : 0); /* 48 bits, and 16 more make 64 */

    if (block[12] < BLOCK_LOG_LEAST || block[12] > BLOCK_LOG_MOST || le32(block + 40) >= blocks || (!wide && le64(block + 16) == 0))
        error_set(error, 0, "damaged EROFS superblock (pull or build it again)");
    else if (blocks << block[12] > room)
        error_set(error, 0, "the EROFS lacks its last %llu bytes: incomplete download? (pull it again)",
                  (unsigned long long)((blocks << block[12]) - room));
    else if (le16(block + 86) > 0)
        error_set(error, 0, "an EROFS whose data lies in further files (make it again, without --blobdev)");
    else {
        *partition = (struct partition){.filesystem = FILESYSTEM_EROFS, .offset = offset, .size = room};
        return VERDICT_YES;
    }
    return VERDICT_BAD;
}
