/* Recognises ext3 and ext4 by the superblock; reads nothing else. */
#include "bytes.h"
#include "image.h"

/* The superblock of ext2, ext3 and ext4: 1024 bytes behind a boot block of 1024
 * (Documentation/filesystems/ext4/super.rst). Fields used, by offset: 0 inodes, 4 and 336 blocks (low and high
 * half), 20 first data block, 24 log2(block size / 1024), 32 blocks per group, 40 inodes per group, 56 magic, 76
 * revision, 88 inode size, 96 incompatible features. Blocks are 64 KiB at most; inodes of the first revision have 128
 * bytes. */
enum { SUPERBLOCK_AT = 1024, SUPERBLOCK_SIZE = 1024, MAGIC = 0xef53, BLOCK_LOG_MOST = 6, INODE_SIZE_LEAST = 128 };
/* features by which the layout differs: an external journal is no file system, and with 64BIT the number of blocks
 * has a high half */
enum { INCOMPATIBLE_JOURNAL_DEVICE = 0x8, INCOMPATIBLE_64BIT = 0x80 };

/* What the kernel would divide by or index with: not a full check, which is e2fsck's, but damage that is seen early
 * is named and costs no mount. The inodes of a group are counted in a bitmap of one block, so there are at most eight
 * for each of its bytes. */
static bool superblock_sane(const uint8_t *block, uint32_t block_size, uint64_t blocks)
{
    bool first_revision = le32(block + 76) == 0;
    uint32_t inode_size = first_revision ? INODE_SIZE_LEAST : le16(block + 88);

    return le32(block) > 0 && blocks > le32(block + 20) && le32(block + 20) <= 1 &&
           le32(block + 32) > 0 && le32(block + 40) > 0 && le32(block + 40) <= UINT32_C(8) * block_size &&
           inode_size >= INODE_SIZE_LEAST && inode_size <= block_size && (inode_size & (inode_size - 1)) == 0;
}

enum verdict ext_recognise(int fd, uint64_t offset, uint64_t room, struct partition *partition, struct error *error)
{
    uint8_t block[SUPERBLOCK_SIZE];

    if (!bytes_read(fd, offset, room, SUPERBLOCK_AT, block, sizeof block) || le16(block + 56) != MAGIC)
        return VERDICT_OTHER;
    uint32_t block_log = le32(block + 24), incompatible = le32(block + 96);
    if (block_log > BLOCK_LOG_MOST) {
        error_set(error, 0, "damaged ext3 superblock (pull or build it again)");
        return VERDICT_BAD;
    }
    uint32_t block_size = UINT32_C(1024) << block_log;
    uint64_t blocks = le32(block + 4), end;
    if ((incompatible & INCOMPATIBLE_64BIT) != 0)
        blocks |= (uint64_t)le32(block + 336) << 32;

    /* The file may be longer: `expand` of 2.2 left a stray byte behind the last block. */
    if (__builtin_mul_overflow(blocks, (uint64_t)block_size, &end) || !superblock_sane(block, block_size, blocks))
        error_set(error, 0, "damaged ext3 superblock (pull or build it again)");
    else if (end > room)
        error_set(error, 0, "the ext3 file system lacks its last %llu bytes: incomplete download? (pull it again)",
                  (unsigned long long)(end - room));
    else if ((incompatible & INCOMPATIBLE_JOURNAL_DEVICE) != 0)
        error_set(error, 0, "an ext3 journal, not a file system");
    else {
        *partition = (struct partition){.filesystem = FILESYSTEM_EXT, .offset = offset, .size = room};
        return VERDICT_YES;
    }
    return VERDICT_BAD;
}
