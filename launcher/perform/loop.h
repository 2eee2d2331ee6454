/* Loop devices: a part of an image file as a block device. */
#ifndef SINGULARITY_LOOP_H
#define SINGULARITY_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/* A loop device that shows `size` bytes of the file from `offset`; freed by the kernel when its last user is gone.
 * Launches of one image that overlap share the device, and with it the superblock and its page cache. */
struct loop {
    int fd; /* of the device; the caller closes it once the file system is mounted */
    char path[32];
};
struct loop_request {
    int file;
    uint64_t offset;
    uint64_t size;
    bool writable;
    bool shared;
    uint32_t devices; /* at most this many devices are looked at */
};
bool loop_attach(const struct loop_request *request, struct loop *loop);

#endif
