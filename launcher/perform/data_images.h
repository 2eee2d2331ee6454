/* Images whose directories are bound into a container (image-src=, --data): opened as the user, served through FUSE, read-only. Not in
 * the setuid program, which hands such launches to the plain starter. */
#ifndef SINGULARITY_PERFORM_DATA_IMAGES_H
#define SINGULARITY_PERFORM_DATA_IMAGES_H

#include "perform.h"

enum { DATA_IMAGES = 32 };

struct data_images {
    struct part parts[DATA_IMAGES];
    struct fuse servers[DATA_IMAGES];
    const char *inside[DATA_IMAGES], *target[DATA_IMAGES]; /* what of it is shown, and where */
    uint32_t count;
};

/* Opens what the request names, and adds the steps; sets plan->data where there is any. Stops the process on failure. */
void data_images_open(struct data_images *data, struct plan *plan, const struct plan_inputs *inputs);

/* Of a part that is served by a program: the server. Of fuse.c, where fuse_prepare() has the parts of the root. */
void fuse_prepare_part(const struct part *part, const struct plan *watched, struct fuse *fuse);

/* Starts the servers: inside the user namespace, before the mount namespace is made. */
void data_images_prepare(const struct plan *plan);

/* Inside the container's mount namespace: mounts them and finds the sources of their steps. */
void data_images_find(struct plan *plan, const struct stage *stage);

#endif
