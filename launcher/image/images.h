/* The images of a launch: the one that it is about, and those laid over it. */
#ifndef SINGULARITY_IMAGE_IMAGES_H
#define SINGULARITY_IMAGE_IMAGES_H

#include "../request.h"
#include "image.h"

enum { IMAGES_OVERLAYS = 32 };

struct images {
    struct image image;
    struct image overlays[IMAGES_OVERLAYS]; /* in the order of request->overlay */
};

/* Opens them as the user; the host's root directory is none. */
bool images_open(const struct request *request, struct images *images, struct error *error);

/* Whether any of them is locked: those that the kernel could write. */
bool images_are_locked(const struct request *request, const struct images *images);

/* Writers alone, readers together; the open file carries the lock as long as the kernel or a server has it. Waits half a
 * second at most for each. `process` is who others are told has it. */
bool images_lock(const struct request *request, const struct images *images, pid_t process, struct error *error);

/* The same of one open file. `holder` is a byte from IMAGE_MARKS on, by place (32 bits, request->lock_place) and process. */
#define IMAGE_MARKS (UINT64_C(1) << 62)
#define IMAGE_PROCESSES (UINT64_C(1) << 22) /* PID_MAX_LIMIT of the kernel */
#define IMAGE_HOLDER(place, process) (IMAGE_MARKS + (uint32_t)(place) * IMAGE_PROCESSES + (uint64_t)(process) % IMAGE_PROCESSES)
bool image_lock(int fd, const char *path, bool writable, uint64_t holder, struct error *error);

#endif
