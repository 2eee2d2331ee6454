/* The bytes of a script, from a file and in memory for a shell. */
#include "environment/script.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "descriptor.h"

/* One byte more than expected, so that a file of exactly the expected size ends without a second, larger buffer. */
char *source_read_whole(int file, size_t expected, size_t limit, struct arena *arena, size_t *size)
{
    size_t room = expected + 1;
    char *text = arena_take(arena, room);

    *size = 0;
    while (text != NULL) {
        ssize_t got = read(file, text + *size, room - *size);
        if (got < 0 && errno != EINTR)
            return NULL;
        if (got == 0)
            break;
        if (got > 0)
            *size += (size_t)got;
        if (*size > limit) {
            errno = EFBIG;
            return NULL;
        }
        if (*size == room) {
            text = arena_grow(arena, text, room, 2 * room);
            room *= 2;
        }
    }
    if (text == NULL)
        errno = ENOMEM;
    else
        text[*size] = '\0';
    return text;
}

/* memfd_create(2): no name, no place on a disk, gone with its descriptor. */
int source_in_memory(const char *text, size_t size)
{
    OWNED_FD file = memfd_create("script", MFD_CLOEXEC);

    return file >= 0 && fd_write(file, text, size) && lseek(file, 0, SEEK_SET) == 0 ? fd_give(&file) : -1;
}

/* O_NONBLOCK: a FIFO in the image would wait for a writer for ever; what is no regular file is refused once it is
 * open (R-I1). */
char *source_read(int directory, const char *path, struct arena *arena, size_t *size)
{
    OWNED_FD file = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;

    if (file < 0 || fstat(file, &status) < 0)
        return NULL;
    if (!S_ISREG(status.st_mode)) {
        errno = EISDIR;
        return NULL;
    }
    if (status.st_size > SCRIPT_LIMIT) {
        errno = EFBIG;
        return NULL;
    }
    return source_read_whole(file, (size_t)status.st_size, SCRIPT_LIMIT, arena, size);
}
