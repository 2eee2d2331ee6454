/* The file of --trace, opened as the user. No privilege. */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"

/* Whoever may open the file may lock it, for ever if he likes. */
enum { PAUSE = 20, TRIES = 10000 / PAUSE }; /* milliseconds, for ten seconds */

bool trace_lock(int fd, long long byte)
{
    struct flock lock = {.l_type = byte == TRACE_RUNS ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int left = byte == TRACE_RUNS ? 1 : TRIES;

    while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno != EAGAIN && errno != EACCES)
            return true;
        if (--left == 0)
            return false;
        (void)poll(NULL, 0, PAUSE);
    }
    return true;
}

/* Not by O_CREAT alone, which makes the file that a link to nothing names, wherever that is. */
static int open_or_make(const char *path)
{
    const int flags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int fd = open(path, flags);

    if (fd < 0 && errno == ENOENT)
        fd = open(path, flags | O_CREAT | O_EXCL, 0666);
    if (fd < 0 && errno == EEXIST) /* another run has made it, or it is such a link */
        fd = open(path, flags);
    return fd;
}

/* Nothing is added to what is no trace. */
int trace_open(const char *path, const char **why)
{
    char head[sizeof TRACE_BEGIN - 1];
    struct stat status;
    OWNED_FD fd = open_or_make(path);

    *why = "cannot be written";
    if (fd < 0 || fstat(fd, &status) < 0)
        return -1;
    errno = 0;
    *why = "no regular file";
    if (!S_ISREG(status.st_mode))
        return -1;
    *why = "no trace (name another file, or remove it)";
    if (status.st_size > 0 && (pread(fd, head, sizeof head, 0) != (ssize_t)sizeof head || memcmp(head, TRACE_BEGIN, sizeof head) != 0))
        return -1;
    (void)trace_lock(fd, TRACE_RUNS);
    return fd_give(&fd);
}
