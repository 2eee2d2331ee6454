#include "environment/script.h"

#include <string.h>

static bool text_add(struct arena *arena, char **text, size_t *size, size_t *room, const char *bytes, size_t length)
{
    if (length > *room - *size) {
        size_t larger = 2 * *room > *size + length ? 2 * *room : *size + length;
        *text = arena_grow(arena, *text, *size, larger);
        if (*text == NULL)
            return false;
        *room = larger;
    }
    memcpy(*text + *size, bytes, length);
    *size += length;
    return true;
}

char *script_write_dump(const struct variables *variables, size_t *size)
{
    struct arena *arena = variables->arena;
    size_t room = 4096;
    char *text = arena_take(arena, room);
    bool added = text != NULL;

    *size = 0;
    for (uint32_t at = 0; added && at < variables->count; at++) {
        const struct variable *entry = &variables->entries[at];
        const char *value = variable_value(entry);
        if (!entry->set && !entry->exported)
            continue;
        added = (!entry->exported || text_add(arena, &text, size, &room, "export ", 7)) &&
                text_add(arena, &text, size, &room, entry->text, entry->name_length);
        if (entry->set) {
            added = added && text_add(arena, &text, size, &room, "='", 2);
            for (const char *quote = strchr(value, '\''); added && quote != NULL; quote = strchr(value, '\'')) {
                added = text_add(arena, &text, size, &room, value, (size_t)(quote - value)) &&
                        text_add(arena, &text, size, &room, "'\"'\"'", 5);
                value = quote + 1;
            }
            added = added && text_add(arena, &text, size, &room, value, strlen(value)) &&
                    text_add(arena, &text, size, &room, "'", 1);
        }
        added = added && text_add(arena, &text, size, &room, "\n", 1);
    }
    return added ? text : NULL;
}
