/* File descriptors with an owner. */
#ifndef SINGULARITY_DESCRIPTOR_H
#define SINGULARITY_DESCRIPTOR_H

#include <errno.h>
#include <unistd.h>

/* Closes at the end of the scope; keeps errno. */
#define OWNED_FD __attribute__((cleanup(fd_close))) int

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

#endif
