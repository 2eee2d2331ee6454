/* Extended attributes of squashfs: lists of names and values, a long value stored once for all that have it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../image/bytes.h"
#include "parts.h"

enum { TABLE_ENTRY = 16, TABLE_HEADER = 16, OUT_OF_LINE = 0x100, VALUE_MOST = 65536 };

static const char *const prefixes[] = {"user.", "trusted.", "security."};

static struct squashfs_place place_of(const struct squashfs *image, uint64_t reference)
{
    uint64_t block;

    if (__builtin_add_overflow(image->xattrs, reference >> 16, &block))
        block = UINT64_MAX; /* behind the end: cannot be read */
    return (struct squashfs_place){block, (uint32_t)(reference & 0xffff)};
}

int squashfs_xattr_begin(struct squashfs_reader *reader, const struct squashfs_inode *inode, struct squashfs_xattrs *list)
{
    const struct squashfs *image = reader->image;
    struct squashfs_place place;
    uint8_t entry[TABLE_ENTRY];

    *list = (struct squashfs_xattrs){.left = 0};
    if (inode->xattr == SQUASHFS_NONE)
        return 0;
    if (inode->xattr >= image->xattr_count)
        return -EIO;
    int failed = squashfs_table(reader, image->super.xattr_table + TABLE_HEADER, inode->xattr, sizeof entry, &place);
    if (failed == 0)
        failed = squashfs_metadata(reader, &place, entry, sizeof entry);
    if (failed == 0)
        *list = (struct squashfs_xattrs){place_of(image, le64(entry)), le32(entry + 8), le32(entry + 12)};
    return failed;
}

/* Moves to where the value is, and learns its size. */
static int find_value(struct squashfs_reader *reader, struct squashfs_place *place, bool elsewhere, struct squashfs_xattr *xattr)
{
    uint8_t number[8];
    int failed = squashfs_metadata(reader, place, number, 4);

    if (failed != 0)
        return failed;
    xattr->size = le32(number);
    xattr->value = *place;
    if (!elsewhere)
        return squashfs_metadata(reader, place, NULL, xattr->size <= VALUE_MOST ? xattr->size : 0);
    if (xattr->size != sizeof number)
        return -EIO;
    failed = squashfs_metadata(reader, place, number, sizeof number);
    if (failed != 0)
        return failed;
    xattr->value = place_of(reader->image, le64(number));
    failed = squashfs_metadata(reader, &xattr->value, number, 4);
    xattr->size = le32(number);
    return failed;
}

int squashfs_xattr_next(struct squashfs_reader *reader, struct squashfs_xattrs *list, struct squashfs_xattr *xattr)
{
    uint8_t head[4];

    if (list->left == 0)
        return 0;
    int failed = squashfs_metadata(reader, &list->place, head, sizeof head);
    if (failed != 0)
        return failed;
    unsigned kind = le16(head), length = le16(head + 2), prefix = kind & 0xff;
    if (prefix >= sizeof prefixes / sizeof prefixes[0] || length == 0 || length >= SQUASHFS_NAME)
        return -EIO;
    size_t used = strlen(prefixes[prefix]);
    memcpy(xattr->name, prefixes[prefix], used);
    failed = squashfs_metadata(reader, &list->place, xattr->name + used, length);
    xattr->name[used + length] = '\0';
    if (failed == 0)
        failed = find_value(reader, &list->place, (kind & OUT_OF_LINE) != 0, xattr);
    if (failed != 0)
        return failed;
    if (xattr->size > VALUE_MOST || memchr(xattr->name, '\0', used + length) != NULL)
        return -EIO;
    list->left--;
    return 1;
}

int squashfs_xattr_value(struct squashfs_reader *reader, const struct squashfs_xattr *xattr, void *value)
{
    struct squashfs_place place = xattr->value;

    return squashfs_metadata(reader, &place, value, xattr->size);
}
