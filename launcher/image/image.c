/* What an image is, by its bytes: opened once, as the user, and known by descriptor from then on. */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "bytes.h"

enum { LINE_LIMIT = 128, HEAD_SIZE = 512 };

/* Where the file system begins: behind a first line `#!...`, as in images that run as programs, else at 0. The line
 * is short, as the kernel itself reads only the first bytes of a script (execve(2)); without a newline in them it is
 * no such image. */
static uint64_t interpreter_line(const uint8_t *head, size_t size)
{
    const uint8_t *newline = memchr(head, '\n', size < LINE_LIMIT ? size : LINE_LIMIT);

    return size >= 2 && memcmp(head, "#!", 2) == 0 && newline != NULL ? (uint64_t)(newline - head) + 1 : 0;
}

/* What people hand over instead of an image. */
static bool explain_other(const uint8_t *head, size_t size, struct error *error)
{
    static const struct {
        size_t at, length;
        const char *magic, *what;
    /* Magic numbers: RFC 1952 (gzip), RFC 8878 (zstd, and its skippable frames, whose first byte varies), the xz file
     * format, POSIX ustar at byte 257. */
    } others[] = {
        {0, 2, "\x1f\x8b", "a gzip archive"},          {0, 3, "BZh", "a bzip2 archive"},
        {0, 6, "\xfd" "7zXZ\0", "an xz archive"},      {0, 4, "\x28\xb5\x2f\xfd", "a zstd archive"},
        {1, 3, "\x2a\x4d\x18", "a zstd archive"},      {257, 5, "ustar", "a tar archive"}, /* 1: a skippable frame */
        {0, 5, "07070", "a cpio archive"},
    };

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].at + others[i].length <= size &&
            memcmp(head + others[i].at, others[i].magic, others[i].length) == 0)
            return error_set(error, 0, "%s, not an image (singularity build IMAGE ARCHIVE makes an image of it)",
                             others[i].what);
    if (size > 0 && head[0] == '<')
        return error_set(error, 0, "a web page, not an image (the download went wrong: remove the file, pull again)");
    return error_set(error, 0, "unknown format (known are directories, SIF, squashfs, ext3, EROFS and archive files)");
}

static bool line_begins(const uint8_t *head, size_t size, const char *words)
{
    size_t length = strlen(words);

    for (size_t at = 0; at + length <= size; at++)
        if ((at == 0 || head[at - 1] == '\n') && memcmp(head + at, words, length) == 0)
            return true;
    return false;
}

/* What an image is built from, told by its text or its name; true: it is none of that. */
static bool explain_recipe(const uint8_t *head, size_t size, const char *name, struct error *error)
{
    const char *slash = strrchr(name, '/'), *last = slash != NULL ? slash + 1 : name, *dot = strrchr(last, '.');

    if (line_begins(head, size, "Bootstrap:") || line_begins(head, size, "BootStrap:") || line_begins(head, size, "bootstrap:") ||
        (dot != NULL && strcmp(dot, ".def") == 0))
        return error_set(error, 0, "a definition file, not an image (build it first: singularity build IMAGE.sif %.200s)", last);
    if (strncmp(last, "Dockerfile", strlen("Dockerfile")) == 0 || line_begins(head, size, "FROM "))
        return error_set(error, 0, "a Dockerfile, not an image (build it first: singularity build IMAGE.sif %.200s)", last);
    return true;
}

/* By content, never by name: a name is what a user says (R-I1). SIF first, since its first bytes may be an
 * interpreter line as well. */
static bool recognise(int fd, uint64_t size, const char *name, struct image *image, struct error *error)
{
    uint8_t head[HEAD_SIZE];
    size_t length = size < sizeof head ? (size_t)size : sizeof head;

    if (size == 0)
        return error_set(error, 0, "an empty file, not an image (incomplete download? remove it, pull again)");
    if (!bytes_read(fd, 0, size, 0, head, length))
        return error_set(error, 0, "cannot be read to the end of its first block");
    enum verdict verdict = sif_recognise(fd, size, image, error);
    if (verdict != VERDICT_OTHER)
        return verdict == VERDICT_YES;
    uint64_t offset = interpreter_line(head, length);
    image->format = FORMAT_SQUASHFS;
    verdict = squashfs_recognise(fd, offset, size - offset, &image->root, error);
    if (verdict != VERDICT_OTHER)
        return verdict == VERDICT_YES;
    image->format = FORMAT_EXT;
    verdict = ext_recognise(fd, offset, size - offset, &image->root, error);
    if (verdict != VERDICT_OTHER)
        return verdict == VERDICT_YES;
    image->format = FORMAT_EROFS;
    verdict = erofs_recognise(fd, offset, size - offset, &image->root, error);
    if (verdict == VERDICT_OTHER)
        return explain_recipe(head, length, name, error) && explain_other(head, length, error);
    return verdict == VERDICT_YES;
}

bool image_recognise(int fd, uint64_t size, const char *name, struct image *image, struct error *error)
{
    struct error reason = {0};

    image->architecture[0] = '\0';
    image->overlay_count = 0;
    if (recognise(fd, size, name, image, &reason))
        return true;
    return error_set(error, 0, "%.500s: %s", name, reason.text);
}

static bool refuse_kind(mode_t mode, const char *path, struct error *error)
{
    const char *what = S_ISFIFO(mode) ? "a named pipe" : S_ISSOCK(mode) ? "a socket" : S_ISBLK(mode) ? "a block device" :
                       S_ISCHR(mode) ? "a character device" : "neither file nor directory";

    return error_set(error, 0, "%.500s: %s, not an image", path, what);
}

/* As host_open(); but what is started with --lazy is shown in the mount namespace of its server, a process of the user's own,
 * and there an image may be looked up where no privilege is at stake. */
static int open_path(const char *path, int flags)
{
    uid_t real, effective, saved;
    char other[32];
    int length = 0;

    if (getresuid(&real, &effective, &saved) < 0 || real != saved || sscanf(path, "/proc/%*u/root%n", &length) != 0 ||
        path[length] != '/' || length == 0 || (size_t)length >= sizeof other)
        return host_open(path, flags);
    snprintf(other, sizeof other, "%.*s", length, path);
    OWNED_FD root = open(other, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? -1 : inside_open(root, path + length, flags);
}

/* `refused` says what a missing permission means here. */
static bool explain_open(int number, const char *path, const char *refused, struct error *error)
{
    if (number == ENOENT) {
        error_set(error, 0, "%.500s: no such image", path);
        error->number = number;
        return false;
    }
    if (number == EACCES || number == EPERM || number == EROFS)
        return error_set(error, number, "%.500s: %s", path, refused);
    bool of_proc = strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/", 5) == 0;
    return error_set(error, number, number == ELOOP && of_proc ? "%.500s (a link of /proc to an open file is not followed: name "
                                                                 "the file itself)" : "%.500s", path);
}

/* "." below the open descriptor and not the path again: it is the directory that was looked at, whatever has its name
 * by now. */
static bool open_directory(int checked, const char *path, struct image *image, struct error *error)
{
    OWNED_FD fd = openat(checked, ".", O_PATH | O_DIRECTORY | O_CLOEXEC); /* asks for the right to enter it */

    if (fd < 0)
        return explain_open(errno, path, "you may not enter this directory", error);
    image->format = FORMAT_DIRECTORY;
    image->root = (struct partition){.filesystem = FILESYSTEM_DIRECTORY};
    image->fd = fd_give(&fd);
    return true;
}

/* The second open of a name, now with the right to read: device and inode say whether it is still the file that was
 * judged (R-I1). O_NONBLOCK and O_NOCTTY are for what might have taken its place meanwhile: no FIFO waits, and no
 * terminal becomes ours. */
static bool open_file(const char *path, bool writable, const struct stat *checked, struct image *image,
                      struct error *error)
{
    OWNED_FD fd = open_path(path, (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0)
        return explain_open(errno, path, writable ? "you may not write to it (--writable-tmpfs in place of --writable lets the "
                            "program write into memory, --overlay into a directory or what \"singularity overlay create "
                            "FILE\" makes)" : "you may not read it", error);
    if (status.st_dev != checked->st_dev || status.st_ino != checked->st_ino || !S_ISREG(status.st_mode))
        return error_set(error, 0, "%.500s: replaced by another file while it was opened (try again)", path);
    if (!image_recognise(fd, (uint64_t)status.st_size, path, image, error))
        return false;
    image->fd = fd_give(&fd);
    return true;
}

bool image_open(const char *path, bool writable, struct image *image, struct error *error)
{
    struct stat status;

    *image = (struct image){.fd = -1};
    /* Without reading rights, so that no pipe waits and no device notices. */
    OWNED_FD checked = open_path(path, O_PATH);
    if (checked < 0 || fstat(checked, &status) < 0)
        return explain_open(errno, path, "a directory above it is closed to you", error);
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
        return refuse_kind(status.st_mode, path, error);
    image->device = status.st_dev;
    image->inode = status.st_ino;
    image->owner = status.st_uid;
    image->group = status.st_gid;
    return S_ISDIR(status.st_mode) ? open_directory(checked, path, image, error)
                                   : open_file(path, writable, &status, image, error);
}
