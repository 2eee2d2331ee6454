/* Script files. */
#ifndef SINGULARITY_ENVIRONMENT_SOURCE_H
#define SINGULARITY_ENVIRONMENT_SOURCE_H

#include <stddef.h>

#include "environment/arena.h"

/* The bytes of a regular file of at most SCRIPT_LIMIT bytes, with a NUL behind them, in the arena; `directory` is a
 * descriptor or AT_FDCWD. NULL with errno: EISDIR for another kind of file, EFBIG for a larger one. */
char *source_read(int directory, const char *path, struct arena *arena, size_t *size);

#endif
