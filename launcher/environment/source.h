/* Script files. */
#ifndef SINGULARITY_ENVIRONMENT_SOURCE_H
#define SINGULARITY_ENVIRONMENT_SOURCE_H

#include <stddef.h>

#include "environment/arena.h"

/* The bytes of a regular file of at most SCRIPT_LIMIT bytes, with a NUL behind them, in the arena; `directory` is a
 * descriptor or AT_FDCWD. NULL with errno: EISDIR for another kind of file, EFBIG for a larger one. */
char *source_read(int directory, const char *path, struct arena *arena, size_t *size);

/* All bytes of an open file or pipe up to its end, which may grow meanwhile, ended by a NUL, in the arena; room for
 * `expected` is made at once. NULL with errno: EFBIG for more than `limit`. */
char *source_read_whole(int file, size_t expected, size_t limit, struct arena *arena, size_t *size);

/* A descriptor at the start of a file in memory that holds the text; the caller owns it. Negative with errno. */
int source_in_memory(const char *text, size_t size);

#endif
