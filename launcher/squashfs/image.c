/* A squashfs image opened: the superblock and the ids. Reads its source alone. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "../image/bytes.h"
#include "parts.h"

enum { SUPERBLOCK = 96, BLOCK_LOG_LEAST = 12, BLOCK_LOG_MOST = 20, XATTR_HEADER = 16 };

static int file_read(void *context, uint64_t at, void *bytes, size_t length)
{
    const struct squashfs_file *file = context;
    uint64_t begin;

    if (__builtin_add_overflow(file->offset, at, &begin) || begin > INT64_MAX - length)
        return -EIO;
    for (size_t done = 0; done < length;) {
        ssize_t got = pread(file->fd, (char *)bytes + done, length - done, (off_t)(begin + done));
        if (got == 0)
            return -EIO; /* cut off since it was opened */
        if (got < 0 && errno != EINTR)
            return -errno;
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

struct squashfs_source squashfs_file_source(struct squashfs_file *file, uint64_t size)
{
    return (struct squashfs_source){.context = file, .size = size, .read = file_read};
}

int squashfs_bytes(const struct squashfs *image, uint64_t at, void *bytes, size_t length)
{
    uint64_t end;

    if (__builtin_add_overflow(at, length, &end) || end > image->super.used)
        return -EIO;
    return image->source.read(image->source.context, at, bytes, length);
}

static void super_decode(const uint8_t *block, struct squashfs_super *super)
{
    *super = (struct squashfs_super){
        .inodes = le32(block + 4), .modified = le32(block + 8), .block_size = le32(block + 12), .fragments = le32(block + 16),
        .compression = le16(block + 20), .block_log = le16(block + 22), .flags = le16(block + 24), .ids = le16(block + 26),
        .root = le64(block + 32), .used = le64(block + 40), .id_table = le64(block + 48), .xattr_table = le64(block + 56),
        .inode_table = le64(block + 64), .directory_table = le64(block + 72), .fragment_table = le64(block + 80)};
    if (super->fragments == 0)
        super->fragment_table = UINT64_MAX;
}

/* NULL, or what is wrong. Tables lie in the order in which mksquashfs writes and the kernel expects them. */
static const char *super_check(const uint8_t *block, const struct squashfs_super *super, uint64_t size)
{
    if (memcmp(block, "hsqs", 4) != 0)
        return "no squashfs";
    if (le16(block + 28) != 4 || le16(block + 30) != 0)
        return "not squashfs 4.0";
    if (super->block_log < BLOCK_LOG_LEAST || super->block_log > BLOCK_LOG_MOST ||
        super->block_size != UINT32_C(1) << super->block_log || super->inodes == 0 || super->ids == 0 || super->used > INT64_MAX)
        return "damaged superblock";
    if (super->used > size)
        return "its end is missing: incomplete download?";
    if (super->inode_table < SUPERBLOCK || super->directory_table <= super->inode_table ||
        super->id_table < super->directory_table || super->used <= super->id_table ||
        (super->fragment_table != UINT64_MAX && super->fragment_table < super->directory_table) ||
        (super->xattr_table != UINT64_MAX && super->xattr_table < super->id_table) ||
        super->root >> 16 >= super->directory_table - super->inode_table || (super->root & 0xffff) >= SQUASHFS_METADATA)
        return "damaged superblock: its tables lie in no possible place";
    return NULL;
}

static int read_ids(struct squashfs *image, struct squashfs_reader *reader)
{
    struct squashfs_place place;
    uint8_t id[4];

    image->ids = calloc(image->super.ids, sizeof *image->ids);
    if (image->ids == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < image->super.ids; i++) {
        int failed = i % (SQUASHFS_METADATA / sizeof id) == 0
                         ? squashfs_table(reader, image->super.id_table, i, sizeof id, &place) : 0;
        if (failed == 0)
            failed = squashfs_metadata(reader, &place, id, sizeof id);
        if (failed != 0)
            return failed;
        image->ids[i] = le32(id);
    }
    return 0;
}

static int read_xattr_table(struct squashfs *image)
{
    uint8_t header[XATTR_HEADER];

    if (image->super.xattr_table == UINT64_MAX)
        return 0;
    int failed = squashfs_bytes(image, image->super.xattr_table, header, sizeof header);
    if (failed != 0)
        return failed;
    image->xattrs = le64(header);
    image->xattr_count = le32(header + 8);
    return image->xattrs < image->super.directory_table || image->xattrs > image->super.xattr_table ? -EIO : 0;
}

int squashfs_reader_new(const struct squashfs *image, struct squashfs_reader **reader, const char **why)
{
    *why = "no memory";
    *reader = calloc(1, sizeof **reader); /* large: pages that are not used are not there */
    if (*reader == NULL)
        return -ENOMEM;
    (*reader)->image = image;
    int failed = squashfs_decompressor_new(image->super.compression, &(*reader)->decompressor, why);
    if (failed != 0) {
        free(*reader);
        *reader = NULL;
    }
    return failed;
}

static int read_super(struct squashfs *image, const char **why)
{
    uint8_t block[SUPERBLOCK];

    *why = "it ends within its superblock: incomplete download?";
    if (image->source.size < sizeof block)
        return -EIO;
    int failed = image->source.read(image->source.context, 0, block, sizeof block);
    if (failed != 0)
        return failed;
    super_decode(block, &image->super);
    *why = super_check(block, &image->super, image->source.size);
    return *why != NULL ? -EIO : 0;
}

int squashfs_tables(struct squashfs *image, const char **why)
{
    struct squashfs_reader *reader;
    int failed = squashfs_reader_new(image, &reader, why);

    if (failed != 0)
        return failed;
    *why = "its tables cannot be read (damaged?)";
    failed = read_ids(image, reader);
    if (failed == 0)
        failed = read_xattr_table(image);
    squashfs_reader_free(reader);
    return failed;
}

int squashfs_look(const struct squashfs_source *source, struct squashfs **image, const char **why)
{
    *image = calloc(1, sizeof **image);
    if (*image == NULL) {
        *why = "no memory";
        return -ENOMEM;
    }
    (*image)->source = *source;
    int failed = read_super(*image, why);
    if (failed != 0) {
        squashfs_close(*image);
        *image = NULL;
    }
    return failed;
}

int squashfs_open(const struct squashfs_source *source, struct squashfs **image, const char **why)
{
    int failed = squashfs_look(source, image, why);

    if (failed == 0 && (failed = squashfs_tables(*image, why)) != 0) {
        squashfs_close(*image);
        *image = NULL;
    }
    return failed;
}

void squashfs_close(struct squashfs *image)
{
    if (image != NULL)
        free(image->ids);
    free(image);
}

const struct squashfs_super *squashfs_super(const struct squashfs *image)
{
    return &image->super;
}

bool squashfs_has_xattrs(const struct squashfs *image)
{
    return image->xattr_count > 0;
}

void squashfs_reader_request(struct squashfs_reader *reader)
{
    reader->work = 0;
}

void squashfs_reader_free(struct squashfs_reader *reader)
{
    if (reader == NULL)
        return;
    squashfs_decompressor_free(reader->decompressor);
    free(reader->stored);
    free(reader->block);
    free(reader);
}
