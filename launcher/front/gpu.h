/* The driver libraries, programs and files of the host that --nv and --rocm bring in. */
#ifndef SINGULARITY_FRONT_GPU_H
#define SINGULARITY_FRONT_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../request.h"
#include "text_store.h"

/* Where things are looked for; the host's, or a test's. */
struct gpu_sources {
    const char *list;      /* nvliblist.conf or rocmliblist.conf */
    const char *cache;     /* /etc/ld.so.cache */
    const char *inherited; /* libraries that an outer container was given: /.singularity.d/libs */
    const char *path;      /* PATH for programs, or NULL */
};

/* Adds to the request's libraries what `list` names and the host has. False: nothing of it was found. */
bool gpu_take(const struct gpu_sources *sources, struct request *request, struct text_store *store);

/* Adds the device nodes of the kind ("nv", "rocm"), for containers with a /dev of their own. */
void gpu_devices(const char *kind, struct request *request, struct text_store *store);

/* Calls `found` with name and path of each library of this machine's kind in the bytes of an ld.so.cache. Anything that
 * points outside the bytes is passed over. */
typedef void library_found(void *context, const char *name, const char *path);
void library_cache_read(const uint8_t *bytes, size_t size, library_found *found, void *context);

#endif
