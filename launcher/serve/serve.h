/* The image server: shows a squashfs through the kernel's FUSE protocol. Unprivileged; takes an image and a mounted device by
 * descriptor, opens nothing but more queues of that device, and confines itself before it answers the first request.
 *
 * One process, several threads. Answers are the kernel's own view of squashfs (fs/squashfs), owners those of the image: which of
 * them a user namespace maps is for the kernel to say. What was found stays valid for ever, for no image changes while it is shown. */
#ifndef SINGULARITY_SERVE_H
#define SINGULARITY_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "../signature/seal.h"

/* Memory for data, all threads together. The rest (buffers, metadata) stays below as much again. */
enum { SERVE_MEMORY = 32 << 20 };

struct server;

/* An image in `size` bytes of the file from `offset` on: the superblock read and judged, so that what is wrong is said before anything
 * is mounted. NULL: `why` says what, in a few words without the image's name. The file stays the caller's. With a `seal` that has a hash
 * tree each block is checked when it is read, and one that is not what was signed is an error for who reads, and a message that
 * names the image. */
struct server *serve_open(int image, uint64_t offset, uint64_t size, const struct seal *seal, const char *name, const char **why);

/* Names that are found are written to `fd`, open for it, when the mount is gone; `file` and `image` are what it and the image are called. */
bool trace_begin(struct server *server, int fd, const char *file, const char *image);

/* Whoever looks for a name that "build --only" has removed is told, as below. */
bool removed_begin(struct server *server);

/* Serves what is mounted behind `device`, with the image open as `image` (a launch moves its descriptors in between). What is wrong with a
 * sealed image, and what one that has been made smaller lacks, is said on standard error for as long as the process of `launch` lives, a pidfd: whoever reads that to its end waits for
 * nobody else. The process ends when the mount is gone; or at once, with words written to `tell`, or a message where that is -1, when the image's tables
 * cannot be read: they are, like all that has to be decompressed, in the confined process alone. No thread but the caller's may be
 * there. */
_Noreturn void serve_run(struct server *server, int device, int image, int tell, int launch);

#endif
