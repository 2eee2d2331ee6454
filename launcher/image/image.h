/* What an image is: opened once, as the user, and described by descriptor, kind, offset and size in bytes. */
#ifndef SINGULARITY_IMAGE_H
#define SINGULARITY_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../message.h"

enum image_format { FORMAT_DIRECTORY, FORMAT_SQUASHFS, FORMAT_EXT, FORMAT_SIF, FORMAT_EROFS };
enum filesystem { FILESYSTEM_DIRECTORY, FILESYSTEM_SQUASHFS, FILESYSTEM_EXT, FILESYSTEM_EROFS };
enum { IMAGE_OVERLAYS = 16 };

/* A file system inside the image file. */
struct partition {
    enum filesystem filesystem;
    uint64_t offset;       /* bytes from the start of the file */
    uint64_t size;         /* bytes; 0 for a directory */
    const char *no_kernel; /* why the kernel cannot mount it and FUSE can, in a few words; NULL: nothing known */
};

/* Never written, by nobody: what lies over it is. */
static inline bool filesystem_read_only(enum filesystem filesystem)
{
    return filesystem == FILESYSTEM_SQUASHFS || filesystem == FILESYSTEM_EROFS;
}

struct image {
    int fd; /* directory: O_PATH | O_DIRECTORY; file: O_RDONLY, or O_RDWR when writable. Close-on-exec. The owner closes it. */
    enum image_format format;
    dev_t device;
    ino_t inode;
    uid_t owner;
    gid_t group;
    struct partition root;
    struct partition overlays[IMAGE_OVERLAYS]; /* overlay partitions of a SIF, in file order */
    uint32_t overlay_count;
    char architecture[16]; /* of the root partition of a SIF ("amd64"), "" when unknown */
};

/* Opens as the current effective user and recognises by content. Files that are neither regular nor directories are
 * refused without blocking. On failure `fd` is -1. `writable` opens for writing. The architecture is reported here and
 * judged by the plan. */
bool image_open(const char *path, bool writable, struct image *image, struct error *error);

/* Recognises an open regular file of `size` bytes; fills everything but fd, device, inode, owner and group.
 * `name` stands in messages. Reads only what it must, never past `size`. */
bool image_recognise(int fd, uint64_t size, const char *name, struct image *image, struct error *error);

/* Sets the error for a file that is no image, by its first bytes and its name; false. The setuid program leaves that to the plain
 * starter, with the whole launch. */
bool image_explain(const uint8_t *head, size_t size, const char *name, struct error *error);

/* Each looks at one format in the `room` bytes of the file from `offset` on; a SIF is always the whole file.
 * Other: not this format, no error set. Bad: this format, damaged or of a kind that cannot be launched; the error says
 * what, without the name of the file. */
enum verdict { VERDICT_OTHER, VERDICT_YES, VERDICT_BAD };
enum verdict squashfs_recognise(int fd, uint64_t offset, uint64_t room, struct partition *partition, struct error *error);
enum verdict ext_recognise(int fd, uint64_t offset, uint64_t room, struct partition *partition, struct error *error);
enum verdict erofs_recognise(int fd, uint64_t offset, uint64_t room, struct partition *partition, struct error *error);
enum verdict sif_recognise(int fd, uint64_t size, struct image *image, struct error *error);

#endif
