/* The texts of a request under construction: they live in the request's own store. */
#ifndef SINGULARITY_TEXT_STORE_H
#define SINGULARITY_TEXT_STORE_H

#include <stddef.h>

/* `next` is the first free byte, `left` the bytes from there to the end. */
struct text_store {
    char *next;
    size_t left;
};

/* A copy with a terminator; NULL when the store is full. */
char *text_copy(struct text_store *store, const char *text, size_t length);

/* The last copy ends earlier than thought: `end` is the first byte that is free again. */
void text_give_back(struct text_store *store, char *end);

/* An absolute path: relative ones start at `cwd`. Without empty and "." components and without a slash at the end;
 * ".." stays, since only the kernel knows where it leads past a symbolic link. NULL: the store is full, or there is
 * no `cwd` (NULL) and one is needed. */
char *text_path(struct text_store *store, const char *cwd, const char *path, size_t length);

/* The same with ".." taken away together with the name before it: for paths that the container does not have yet. */
char *text_target(struct text_store *store, const char *cwd, const char *path, size_t length);

#endif
