/* What people hand over instead of an image. Not in the setuid program. */
#include <string.h>

#include "image.h"

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

bool image_explain(const uint8_t *head, size_t size, const char *name, struct error *error)
{
    return explain_recipe(head, size, name, error) && explain_other(head, size, error);
}
