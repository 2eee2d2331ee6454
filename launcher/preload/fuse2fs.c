/* Loaded into fuse2fs, for an image that is written; unprivileged, touches nothing but the kernel's first message to it.
 *
 * The kernel offers to leave it to a server to cut a file that is opened with O_TRUNC. libfuse 3 accepts for every server,
 * and fuse2fs of e2fsprogs 1.47.1 and 1.47.2 does not do it: what is overwritten keeps its old end. Here the offer is
 * taken out of the message, so that the kernel asks for the cut itself, as every version understands; one that was never
 * concerned loses nothing. A byte to the descriptor in FUSE2FS_TRUNCATES tells the launcher that it was so. */
#include <linux/fuse.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

struct greeting {
    struct fuse_in_header header;
    uint32_t major, minor, readahead, flags;
};

/* In the place of libc's read(). readv() is the same call under another name, and a point of cancellation as well. */
ssize_t read(int fd, void *bytes, size_t size)
{
    const struct iovec vector = {.iov_base = bytes, .iov_len = size};
    struct greeting *greeting = bytes;
    ssize_t got = readv(fd, &vector, 1);

    if (got < (ssize_t)sizeof *greeting || greeting->header.opcode != FUSE_INIT || greeting->header.len != (uint32_t)got)
        return got;
    const char *answer = getenv("FUSE2FS_TRUNCATES");
    greeting->flags &= ~(uint32_t)FUSE_ATOMIC_O_TRUNC;
    if (answer != NULL && write(atoi(answer), "", 1) != 1)
        return -1; /* nobody waits for this server any more */
    return got;
}
