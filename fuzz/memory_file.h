/* Bytes as a file, for what reads by descriptor. */
#ifndef FUZZ_MEMORY_FILE_H
#define FUZZ_MEMORY_FILE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* The same descriptor each time, filled anew: `data` at `offset`, NULs before it, nothing behind it. */
static inline int memory_file(size_t offset, const uint8_t *data, size_t size)
{
    static int fd = -1;

    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    assert(fd >= 0 && ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)(offset + size)) == 0);
    assert(pwrite(fd, data, size, (off_t)offset) == (ssize_t)size);
    return fd;
}

#endif
