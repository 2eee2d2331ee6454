/* Memory that is given back all at once: evaluating an environment makes many small texts and frees none of them. */
#ifndef SINGULARITY_ENVIRONMENT_ARENA_H
#define SINGULARITY_ENVIRONMENT_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunk;
    char *next;
    char *end;
    size_t total;
    size_t limit; /* bytes taken from the system, at most */
};

/* A script that multiplies its variables ends here and not in the machine's memory (R-I7). */
enum { ARENA_LIMIT = 96 << 20 };

/* Nothing is taken from the system before the first arena_take(). arena_end() gives all of it back, and the arena may
 * be used again. */
void arena_begin(struct arena *arena, size_t limit);
void arena_end(struct arena *arena);

/* Memory for any type, or NULL: the limit is reached or the system has none. */
void *arena_take(struct arena *arena, size_t size);

/* The same bytes with room for more, in place when nothing was taken since; NULL as above. */
void *arena_grow(struct arena *arena, void *bytes, size_t size, size_t new_size);

/* Gives back all that was taken since `mark`, which is a copy of the arena of that time. */
void arena_return(struct arena *arena, const struct arena *mark);

#endif
