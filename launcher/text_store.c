/* Texts of the request, in one store of a fixed size; paths made absolute in it. */
#include "text_store.h"

#include <stdbool.h>
#include <string.h>

/* Taken from the front, never moved: pointers to what was copied before stay valid. */
char *text_copy(struct text_store *store, const char *text, size_t length)
{
    char *copy = store->next;

    if (length >= store->left)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    store->next += length + 1;
    store->left -= length + 1;
    return copy;
}

void text_give_back(struct text_store *store, char *end)
{
    store->left += (size_t)(store->next - end);
    store->next = end;
}

/* Adds the components of `path` to the absolute path in `start[0..used)`; the room is there. */
static size_t append_components(char *start, size_t used, const char *path, size_t length, bool fold)
{
    const char *end = path + length;

    while (path < end) {
        const char *slash = memchr(path, '/', (size_t)(end - path));
        size_t size = (size_t)((slash != NULL ? slash : end) - path);
        if (fold && size == 2 && memcmp(path, "..", 2) == 0) {
            while (used > 0 && start[--used] != '/')
                continue;
        } else if (size > 0 && !(size == 1 && *path == '.')) {
            start[used++] = '/';
            memcpy(start + used, path, size);
            used += size;
        }
        path += size + (slash != NULL);
    }
    return used;
}

/* Room for a slash, the NUL and the root's own slash is asked for in advance, so that nothing below can run over. */
static char *absolute(struct text_store *store, const char *cwd, const char *path, size_t length, bool fold)
{
    char *start = store->next;
    bool relative = length == 0 || path[0] != '/';
    size_t used = 0;

    if (relative && cwd == NULL)
        return NULL;
    size_t base = relative ? strlen(cwd) : 0;
    if (base + length + 3 > store->left)
        return NULL;
    if (relative)
        used = append_components(start, used, cwd, base, fold);
    used = append_components(start, used, path, length, fold);
    if (used == 0)
        start[used++] = '/';
    start[used++] = '\0';
    store->next += used;
    store->left -= used;
    return start;
}

char *text_path(struct text_store *store, const char *cwd, const char *path, size_t length)
{
    return absolute(store, cwd, path, length, false);
}

char *text_target(struct text_store *store, const char *cwd, const char *path, size_t length)
{
    return absolute(store, cwd, path, length, true);
}
