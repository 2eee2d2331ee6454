/* A table of names, each a directory and a word in it. Bounded; the image is a stranger's, and so are its names. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "parts.h"

enum { NAMES_MOST = 1 << 20, TEXT_MOST = 32 << 20, NAMES_FIRST = 1 << 10, TEXT_FIRST = 16 << 10 };

/* FNV-1a. */
static uint64_t hash_of(const struct names *names, uint64_t directory, const char *text, size_t length)
{
    uint64_t hash = 14695981039346656037U, prime = 1099511628211U;

    hash = (hash ^ names->seed ^ directory) * prime;
    hash ^= hash >> 29;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)text[i]) * prime;
    return hash ^ hash >> 32;
}

void names_begin(struct names *names)
{
    (void)!getrandom(&names->seed, sizeof names->seed, GRND_NONBLOCK);
}

/* Twice the room in list and table, which is never more than half full. */
static bool grow(struct names *names)
{
    uint32_t room = names->room == 0 ? NAMES_FIRST : names->room * 2;
    struct name *list = room <= NAMES_MOST ? realloc(names->list, room * sizeof *list) : NULL;
    uint32_t *table = list != NULL ? calloc((size_t)room * 2, sizeof *table) : NULL;

    names->list = list != NULL ? list : names->list;
    if (table == NULL)
        return false;
    free(names->table);
    names->table = table;
    names->room = room;
    for (uint32_t i = 0; i < names->count; i++) {
        uint64_t slot = list[i].hash;
        while (table[slot & (room * 2 - 1)] != 0)
            slot++;
        table[slot & (room * 2 - 1)] = i + 1;
    }
    return true;
}

static bool text_add(struct names *names, const char *text, size_t length)
{
    if (length + 1 > names->text_room - names->text_used) {
        size_t room = names->text_room == 0 ? TEXT_FIRST : names->text_room * 2;
        char *more = room <= TEXT_MOST ? realloc(names->text, room) : NULL;
        if (more == NULL)
            return false;
        names->text = more;
        names->text_room = room;
    }
    memcpy(names->text + names->text_used, text, length);
    names->text_used += length;
    names->text[names->text_used++] = '\0';
    return true;
}

struct name *names_find(struct names *names, uint64_t directory, const char *text, size_t length)
{
    uint64_t hash = hash_of(names, directory, text, length);

    for (uint64_t slot = (uint32_t)hash; names->room > 0; slot++) {
        uint32_t number = names->table[slot & (names->room * 2 - 1)];
        struct name *name = number > 0 ? &names->list[number - 1] : NULL;
        if (name == NULL)
            break;
        if (name->hash == (uint32_t)hash && name->directory == directory && strlen(names->text + name->text) == length &&
            memcmp(names->text + name->text, text, length) == 0)
            return name;
    }
    return NULL;
}

struct name *names_add(struct names *names, uint64_t directory, const char *text, size_t length)
{
    struct name *found = names_find(names, directory, text, length);
    uint64_t hash = hash_of(names, directory, text, length);
    uint32_t at = (uint32_t)names->text_used;

    if (found != NULL)
        return found;
    if (length > SQUASHFS_NAME || (names->count == names->room && !grow(names)) || !text_add(names, text, length)) {
        names->full = true;
        return NULL;
    }
    names->list[names->count] = (struct name){.directory = directory, .hash = (uint32_t)hash, .text = at};
    uint64_t slot = (uint32_t)hash;
    while (names->table[slot & (names->room * 2 - 1)] != 0)
        slot++;
    names->table[slot & (names->room * 2 - 1)] = ++names->count;
    return &names->list[names->count - 1];
}
