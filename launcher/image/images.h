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
 * second at most for each. */
bool images_lock(const struct request *request, const struct images *images, struct error *error);

#endif
