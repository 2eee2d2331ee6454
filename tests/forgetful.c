/* Loaded into fuse2fs by tests: makes any version accept the kernel's offer to leave cutting to it, as libfuse 3 does for
 * versions 1.47.1 and 1.47.2, which then forget it. A version that can do it, 1.47.3 and newer, stays right. */
#include <dlfcn.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <sys/uio.h>
#include <unistd.h>

struct greeting {
    struct fuse_in_header header;
    uint32_t major, minor, readahead, flags;
};
static uint64_t greeted;

ssize_t read(int fd, void *bytes, size_t size)
{
    ssize_t (*next)(int, void *, size_t) = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    const struct greeting *greeting = bytes;
    ssize_t got = next(fd, bytes, size);

    if (got >= (ssize_t)sizeof *greeting && greeting->header.opcode == FUSE_INIT && (greeting->flags & FUSE_ATOMIC_O_TRUNC))
        greeted = greeting->header.unique;
    return got;
}

ssize_t writev(int fd, const struct iovec *vectors, int count)
{
    ssize_t (*next)(int, const struct iovec *, int) =
        (ssize_t (*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");

    if (greeted != 0 && count == 2 && vectors[0].iov_len == sizeof(struct fuse_out_header) &&
        ((const struct fuse_out_header *)vectors[0].iov_base)->unique == greeted)
        ((struct fuse_init_out *)vectors[1].iov_base)->flags |= FUSE_ATOMIC_O_TRUNC;
    return next(fd, vectors, count);
}
