/* File descriptors with an owner. */
#ifndef SINGULARITY_DESCRIPTOR_H
#define SINGULARITY_DESCRIPTOR_H

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

/* Closes at the end of the scope; keeps errno. */
#define OWNED_FD __attribute__((cleanup(fd_close))) int

/* No retry on EINTR: on Linux the descriptor is closed even then, and a second close(2) could hit another's
 * (close(2)). */
static inline void fd_close(int *fd)
{
    if (*fd >= 0) {
        int number = errno;
        close(*fd);
        errno = number;
        *fd = -1;
    }
}

/* Hands the descriptor to the caller of the scope. */
static inline int fd_give(int *fd)
{
    int given = *fd;
    *fd = -1;
    return given;
}

/* Writes all of it; false: errno says why not. write(2) may write less than asked; 0 for a size above 0 would repeat
 * for ever. */
static inline bool fd_write(int fd, const void *bytes, size_t size)
{
    ssize_t written = 0;

    for (const char *next = bytes; size > 0; next += written, size -= (size_t)written)
        while ((written = write(fd, next, size)) <= 0)
            if (written == 0 || errno != EINTR)
                return false;
    return true;
}

#endif
