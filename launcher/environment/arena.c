/* Memory that is given back at once, with a limit: whoever evaluates an image's scripts has no other. */
#include "environment/arena.h"

#include <stdalign.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

/* what a usual image's environment takes is a small part of one chunk; pages that nobody touches cost nothing
 * (mmap(2)) */
enum { CHUNK = 256 << 10, UNIT = alignof(max_align_t) };

struct arena_chunk {
    struct arena_chunk *previous;
    size_t size;
};

static size_t whole_units(size_t size)
{
    return (size + (UNIT - 1)) & ~(size_t)(UNIT - 1);
}

void arena_begin(struct arena *arena, size_t limit)
{
    *arena = (struct arena){.limit = limit};
}

static void chunk_drop(struct arena *arena)
{
    struct arena_chunk *chunk = arena->chunk;
    arena->total -= chunk->size;
    arena->chunk = chunk->previous;
    munmap(chunk, chunk->size);
}

void arena_end(struct arena *arena)
{
    while (arena->chunk != NULL)
        chunk_drop(arena);
    arena_begin(arena, arena->limit);
}

/* mmap(2) and not malloc(3): limits are exact, nothing of the C library's heap can be damaged by what an image says,
 * and all is given back in one call for each chunk. */
static bool chunk_add(struct arena *arena, size_t size)
{
    size_t whole = whole_units(sizeof(struct arena_chunk)) + size;
    struct arena_chunk *chunk;

    if (whole < CHUNK)
        whole = CHUNK;
    if (whole > arena->limit - arena->total)
        return false;
    chunk = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED)
        return false;
    chunk->previous = arena->chunk;
    chunk->size = whole;
    arena->chunk = chunk;
    arena->total += whole;
    arena->next = (char *)chunk + whole_units(sizeof *chunk);
    arena->end = (char *)chunk + whole;
    return true;
}

/* `size` is compared with the limit before it is rounded up, so that rounding cannot wrap around. */
void *arena_take(struct arena *arena, size_t size)
{
    char *bytes;

    if (size > arena->limit)
        return NULL;
    size = whole_units(size);
    if (size > (size_t)(arena->end - arena->next) && !chunk_add(arena, size))
        return NULL;
    bytes = arena->next;
    arena->next += size;
    return bytes;
}

/* In place for the text made last, which is the usual case: appending costs no copy. */
void *arena_grow(struct arena *arena, void *bytes, size_t size, size_t new_size)
{
    char *start = bytes;
    void *moved;

    if (new_size > arena->limit)
        return NULL;
    if (start != NULL && start + whole_units(size) == arena->next &&
        whole_units(new_size) <= (size_t)(arena->end - start)) {
        arena->next = start + whole_units(new_size);
        return start;
    }
    moved = arena_take(arena, new_size);
    if (moved != NULL && start != NULL)
        memcpy(moved, start, size);
    return moved;
}

/* As a stack: only what was taken last can go, which is what a failed evaluation needs. */
void arena_return(struct arena *arena, const struct arena *mark)
{
    while (arena->chunk != mark->chunk)
        chunk_drop(arena);
    arena->next = mark->next;
    arena->end = mark->end;
}
