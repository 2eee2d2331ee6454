/* Reading foreign bytes: little-endian numbers, and reads that never leave the room they are given. */
#ifndef SINGULARITY_IMAGE_BYTES_H
#define SINGULARITY_IMAGE_BYTES_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* All formats read here are little-endian, whatever the machine is. Byte by byte, because an offset in a file gives
 * no alignment. */
static inline uint16_t le16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static inline uint32_t le32(const uint8_t *bytes)
{
    return (uint32_t)le16(bytes) | (uint32_t)le16(bytes + 2) << 16;
}

static inline uint64_t le64(const uint8_t *bytes)
{
    return (uint64_t)le32(bytes) | (uint64_t)le32(bytes + 4) << 32;
}

/* The `length` bytes at `offset` + `at` of the file; false when they are not all inside the `room` bytes from
 * `offset` on, or not all there. Sums are checked for overflow: an offset near 2^64 would otherwise wrap around to a
 * small one that passes (R-P1). pread(2) leaves the position alone, for the descriptor is shared with whoever mounts
 * the image. */
static inline bool bytes_read(int fd, uint64_t offset, uint64_t room, uint64_t at, uint8_t *bytes, size_t length)
{
    uint64_t begin, end;

    if (__builtin_add_overflow(at, length, &end) || end > room || __builtin_add_overflow(offset, at, &begin) ||
        begin > INT64_MAX - length)
        return false;
    for (size_t done = 0; done < length;) {
        ssize_t got = pread(fd, bytes + done, length - done, (off_t)(begin + done));
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        done += got > 0 ? (size_t)got : 0;
    }
    return true;
}

#endif
