/* The loader's cache (/etc/ld.so.cache). Pure: bytes in, names out. */
#include "libraries.h"

#include <stdbool.h>
#include <string.h>

/* glibc's format since 2.2, alone or after the older one (sysdeps/generic/dl-cache.h). Older: "ld.so-1.7.0", a NUL,
 * the number of entries; entries of 12 bytes. Newer, at the next multiple of 8: "glibc-ld.so.cache1.1", 20 the number
 * of entries; from 48 on entries of 24 bytes: 0 flags, 4 name, 8 path (offsets from the start of the newer part), 16
 * hardware capabilities. Flags: 3 for glibc 2, and a bit of the machine. */
enum { OLD_HEADER = 16, OLD_ENTRY = 12, NEW_HEADER = 48, NEW_ENTRY = 24, LIBC6 = 0x0003 };
#if defined(__x86_64__)
enum { THIS_MACHINE = 0x0300 | LIBC6 };
#elif defined(__aarch64__)
enum { THIS_MACHINE = 0x0a00 | LIBC6 };
#elif defined(__powerpc64__)
enum { THIS_MACHINE = 0x0500 | LIBC6 };
#else
enum { THIS_MACHINE = LIBC6 };
#endif

/* The cache is written by this machine for itself: its own byte order. */
static uint64_t number_at(const uint8_t *bytes, size_t width)
{
    uint32_t narrow = 0;
    uint64_t wide = 0;

    if (width == sizeof wide)
        memcpy(&wide, bytes, sizeof wide);
    else
        memcpy(&narrow, bytes, sizeof narrow);
    return width == sizeof wide ? wide : narrow;
}

/* A text that ends inside the bytes, or NULL. */
static const char *text_at(const uint8_t *bytes, size_t size, uint64_t offset)
{
    if (offset >= size || memchr(bytes + offset, '\0', size - (size_t)offset) == NULL)
        return NULL;
    return (const char *)bytes + offset;
}

/* Steps over the older format that may come first. */
static size_t new_format_start(const uint8_t *bytes, size_t size)
{
    if (size < OLD_HEADER || memcmp(bytes, "ld.so-1.7.0", 12) != 0)
        return 0;
    uint64_t end = OLD_HEADER + number_at(bytes + 12, 4) * OLD_ENTRY;
    return (size_t)((end + 7) & ~UINT64_C(7));
}

/* The image's cache is read with this too, so each offset is checked (R-P1). Entries for a better processor
 * (glibc-hwcaps) are passed over: a plain one stands beside them as a rule. */
void library_cache_read(const uint8_t *bytes, size_t size, library_found *found, void *context)
{
    size_t start = new_format_start(bytes, size);

    if (start > size || size - start < NEW_HEADER || memcmp(bytes + start, "glibc-ld.so.cache1.1", 20) != 0)
        return;
    bytes += start;
    size -= start;
    uint64_t count = number_at(bytes + 20, 4);
    if (count > (size - NEW_HEADER) / NEW_ENTRY)
        return;
    for (const uint8_t *entry = bytes + NEW_HEADER; count > 0; count--, entry += NEW_ENTRY) {
        const char *name = text_at(bytes, size, number_at(entry + 4, 4));
        const char *path = text_at(bytes, size, number_at(entry + 8, 4));
        bool plain = number_at(entry + 16, 8) == 0; /* not one for a better processor only */
        if (number_at(entry, 4) == THIS_MACHINE && plain && name != NULL && path != NULL)
            found(context, name, path);
    }
}
