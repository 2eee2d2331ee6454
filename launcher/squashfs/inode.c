/* Inodes of squashfs: seven kinds, each in a short and a long form. */
#include <errno.h>
#include <sys/stat.h>

#include "../image/bytes.h"
#include "parts.h"

enum {
    DIRECTORY = 1, FILE_SHORT, LINK, BLOCK_DEVICE, CHARACTER_DEVICE, FIFO, SOCKET,
    DIRECTORY_LONG, FILE_LONG, LINK_LONG, BLOCK_DEVICE_LONG, CHARACTER_DEVICE_LONG, FIFO_LONG, SOCKET_LONG, KINDS,
    COMMON = 16, LARGEST = 56,
};

/* Bytes of each, up to what varies; and the kind in st_mode. */
static const struct {
    uint8_t size;
    uint16_t mode;
} kinds[KINDS] = {
    [DIRECTORY] = {32, S_IFDIR}, [FILE_SHORT] = {32, S_IFREG}, [LINK] = {24, S_IFLNK},
    [BLOCK_DEVICE] = {24, S_IFBLK}, [CHARACTER_DEVICE] = {24, S_IFCHR}, [FIFO] = {20, S_IFIFO},
    [SOCKET] = {20, S_IFSOCK}, [DIRECTORY_LONG] = {40, S_IFDIR}, [FILE_LONG] = {56, S_IFREG},
    [LINK_LONG] = {24, S_IFLNK}, [BLOCK_DEVICE_LONG] = {28, S_IFBLK}, [CHARACTER_DEVICE_LONG] = {28, S_IFCHR},
    [FIFO_LONG] = {24, S_IFIFO}, [SOCKET_LONG] = {24, S_IFSOCK},
};

static void directory_short(const uint8_t *raw, const struct squashfs_super *super, struct squashfs_inode *inode)
{
    inode->links = le32(raw + 20);
    inode->size = le16(raw + 24);
    inode->listing = (struct squashfs_place){super->directory_table + le32(raw + 16), le16(raw + 26)};
    inode->parent = le32(raw + 28);
}

static void directory_long(const uint8_t *raw, const struct squashfs_super *super, struct squashfs_inode *inode)
{
    inode->links = le32(raw + 16);
    inode->size = le32(raw + 20);
    inode->listing = (struct squashfs_place){super->directory_table + le32(raw + 24), le16(raw + 34)};
    inode->parent = le32(raw + 28);
    inode->index_count = le16(raw + 32);
    inode->xattr = le32(raw + 36);
}

static void file_short(const uint8_t *raw, struct squashfs_inode *inode)
{
    inode->links = 1;
    inode->start = le32(raw + 16);
    inode->fragment = le32(raw + 20);
    inode->fragment_offset = le32(raw + 24);
    inode->size = le32(raw + 28);
}

static void file_long(const uint8_t *raw, struct squashfs_inode *inode)
{
    inode->start = le64(raw + 16);
    inode->size = le64(raw + 24);
    inode->sparse = le64(raw + 32);
    inode->links = le32(raw + 40);
    inode->fragment = le32(raw + 44);
    inode->fragment_offset = le32(raw + 48);
    inode->xattr = le32(raw + 52);
}

/* A file has a block for each part of it, and the tail in a fragment or in a block of its own. */
static int file_finish(const struct squashfs_super *super, struct squashfs_inode *inode)
{
    uint64_t tail = inode->size & (super->block_size - 1);

    if (inode->size > INT64_MAX || inode->sparse > inode->size)
        return -EIO;
    inode->blocks = inode->size >> super->block_log;
    if (inode->fragment == SQUASHFS_NONE)
        inode->blocks += tail != 0;
    else if (inode->fragment >= super->fragments || inode->fragment_offset > super->block_size - tail)
        return -EIO;
    return 0;
}

/* The attributes of a link stand behind its target. */
static int link_finish(struct squashfs_reader *reader, bool has_xattr, struct squashfs_inode *inode)
{
    struct squashfs_place behind = inode->more;
    uint8_t xattr[4];

    if (inode->size > SQUASHFS_LINK)
        return -EIO;
    if (!has_xattr)
        return 0;
    int failed = squashfs_metadata(reader, &behind, NULL, inode->size);
    if (failed == 0)
        failed = squashfs_metadata(reader, &behind, xattr, sizeof xattr);
    if (failed == 0)
        inode->xattr = le32(xattr);
    return failed;
}

static int inode_finish(struct squashfs_reader *reader, int kind, const uint8_t *raw, struct squashfs_inode *inode)
{
    const struct squashfs_super *super = &reader->image->super;

    switch (kind) {
    case DIRECTORY:
        directory_short(raw, super, inode);
        return 0;
    case DIRECTORY_LONG:
        directory_long(raw, super, inode);
        return 0;
    case FILE_SHORT:
        file_short(raw, inode);
        return file_finish(super, inode);
    case FILE_LONG:
        file_long(raw, inode);
        return file_finish(super, inode);
    default:
        inode->links = le32(raw + 16);
    }
    if (kind == LINK || kind == LINK_LONG) {
        inode->size = le32(raw + 20);
        return link_finish(reader, kind == LINK_LONG, inode);
    }
    if (S_ISBLK(inode->mode) || S_ISCHR(inode->mode))
        inode->device = le32(raw + 20);
    if (kind >= BLOCK_DEVICE_LONG)
        inode->xattr = le32(raw + (kind <= CHARACTER_DEVICE_LONG ? 24 : 20));
    return 0;
}

int squashfs_inode_read(struct squashfs_reader *reader, uint64_t reference, struct squashfs_inode *inode)
{
    const struct squashfs_super *super = &reader->image->super;
    struct squashfs_place place = {super->inode_table + (reference >> 16), (uint32_t)(reference & 0xffff)};
    uint8_t raw[LARGEST];

    if (reference >> 48 != 0 || place.block >= super->directory_table)
        return -EIO;
    int failed = squashfs_metadata(reader, &place, raw, COMMON);
    if (failed != 0)
        return failed;
    unsigned kind = le16(raw), uid = le16(raw + 4), gid = le16(raw + 6);
    if (kind == 0 || kind >= KINDS || uid >= super->ids || gid >= super->ids)
        return -EIO;
    failed = squashfs_metadata(reader, &place, raw + COMMON, (size_t)kinds[kind].size - COMMON);
    if (failed != 0)
        return failed;
    *inode = (struct squashfs_inode){.reference = reference, .number = le32(raw + 12),
                                     .mode = (uint32_t)(kinds[kind].mode | (le16(raw + 2) & 07777)),
                                     .uid = reader->image->ids[uid], .gid = reader->image->ids[gid], .mtime = le32(raw + 8),
                                     .xattr = SQUASHFS_NONE, .fragment = SQUASHFS_NONE, .more = place};
    return inode_finish(reader, (int)kind, raw, inode);
}

int squashfs_link_read(struct squashfs_reader *reader, const struct squashfs_inode *inode, char *target, size_t size)
{
    struct squashfs_place place = inode->more;

    if (!S_ISLNK(inode->mode))
        return -EINVAL;
    if (inode->size >= size)
        return -ENAMETOOLONG;
    int failed = squashfs_metadata(reader, &place, target, inode->size);
    target[inode->size] = '\0';
    return failed != 0 ? failed : (int)inode->size;
}
