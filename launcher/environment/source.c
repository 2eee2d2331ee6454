/* The bytes of a script. */
#include "environment/source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "descriptor.h"
#include "environment/script.h"

/* Reads to the end: a file may grow meanwhile, and some file systems return less than is there. */
static char *read_whole(int file, size_t expected, struct arena *arena, size_t *size)
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
        if (*size > SCRIPT_LIMIT) {
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
    return read_whole(file, (size_t)status.st_size, arena, size);
}
