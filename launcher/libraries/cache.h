/* ld.so.cache: where a loader of glibc finds its libraries. */
#ifndef SINGULARITY_LIBRARIES_CACHE_H
#define SINGULARITY_LIBRARIES_CACHE_H

#include <stddef.h>
#include <stdint.h>

/* Calls `found` with name and path of each library of this machine's kind in the bytes of an ld.so.cache. Anything that
 * points outside the bytes is passed over. */
typedef void library_found(void *context, const char *name, const char *path);
void library_cache_read(const uint8_t *bytes, size_t size, library_found *found, void *context);

#endif
