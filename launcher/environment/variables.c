/* A table of variables, exported or not, with the order in which they were set. */
#include "environment/variables.h"

#include <string.h>

/* more variables than a usual environment has, so that the table is seldom made anew */
enum { FIRST_ROOM = 128 };

void variables_begin(struct variables *variables, struct arena *arena)
{
    *variables = (struct variables){.arena = arena};
}

/* POSIX, "Name"; letters by their codes, since isalpha(3) goes by the locale. */
bool variable_name_valid(const char *name, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        char letter = name[at];
        bool digit = letter >= '0' && letter <= '9';
        bool other = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || letter == '_';
        if (!other && !(digit && at > 0))
            return false;
    }
    return length > 0;
}

/* FNV-1a. A caller who makes names collide slows his own launch and nobody else's. */
static uint32_t name_hash(const char *name, size_t length)
{
    uint32_t hash = 2166136261u;
    for (size_t at = 0; at < length; at++)
        hash = (hash ^ (unsigned char)name[at]) * 16777619u;
    return hash;
}

/* The slot that holds the name, or the free one where it belongs. Needs room > 0. Open addressing in a table that is
 * half empty at least, hence always ends. Entries never leave: an unset variable keeps its place. */
static uint32_t *slot_of(const struct variables *variables, const char *name, size_t length, uint32_t hash)
{
    uint32_t mask = 2 * variables->room - 1;

    for (uint32_t at = hash & mask;; at = (at + 1) & mask) {
        uint32_t *slot = &variables->slots[at];
        const struct variable *entry;
        if (*slot == 0)
            return slot;
        entry = &variables->entries[*slot - 1];
        if (entry->hash == hash && entry->name_length == length && memcmp(entry->text, name, length) == 0)
            return slot;
    }
}

/* The old arrays stay in the arena, which frees nothing by itself: sizes double, so they are no more than the new
 * ones together. */
static bool room_make(struct variables *variables, uint32_t room)
{
    struct variables larger = {.arena = variables->arena, .count = variables->count, .room = room};

    larger.entries = arena_take(variables->arena, room * sizeof *larger.entries);
    larger.slots = arena_take(variables->arena, 2 * (size_t)room * sizeof *larger.slots);
    if (larger.entries == NULL || larger.slots == NULL)
        return false;
    memset(larger.slots, 0, 2 * (size_t)room * sizeof *larger.slots);
    for (uint32_t at = 0; variables->entries != NULL && at < variables->count; at++) {
        const struct variable *entry = &variables->entries[at];
        larger.entries[at] = *entry;
        *slot_of(&larger, entry->text, entry->name_length, entry->hash) = at + 1;
    }
    *variables = larger;
    return true;
}

/* The texts are shared and never changed in place; entries and slots are what evaluation writes to. */
bool variables_copy(struct variables *copy, const struct variables *variables)
{
    size_t slots_size = 2 * (size_t)variables->room * sizeof *variables->slots;

    *copy = *variables;
    if (variables->room == 0)
        return true;
    copy->entries = arena_take(variables->arena, variables->room * sizeof *variables->entries);
    copy->slots = arena_take(variables->arena, slots_size);
    if (copy->entries == NULL || copy->slots == NULL)
        return false;
    memcpy(copy->entries, variables->entries, variables->count * sizeof *variables->entries);
    memcpy(copy->slots, variables->slots, slots_size);
    return true;
}

static struct variable *entry_find(const struct variables *variables, const char *name, size_t length)
{
    uint32_t slot;

    if (variables->room == 0)
        return NULL;
    slot = *slot_of(variables, name, length, name_hash(name, length));
    return slot == 0 ? NULL : &variables->entries[slot - 1];
}

/* The entry of the name that `text` begins with, made if it is not there; NULL: no memory. The caller's text is kept
 * and not copied: it must live as long as the table, as that of variables_adopt() does. */
static struct variable *entry_make(struct variables *variables, const char *text, size_t length)
{
    struct variable *entry = entry_find(variables, text, length);
    uint32_t hash = name_hash(text, length);

    if (entry != NULL || length > UINT32_MAX)
        return entry;
    if (variables->count == variables->room &&
        (variables->room > UINT32_MAX / 4 || !room_make(variables, variables->room == 0 ? FIRST_ROOM : 2 * variables->room)))
        return NULL;
    if (variables->entries == NULL)
        return NULL;
    *slot_of(variables, text, length, hash) = variables->count + 1;
    entry = &variables->entries[variables->count++];
    *entry = (struct variable){.text = text, .name_length = (uint32_t)length, .hash = hash};
    return entry;
}

/* An entry without a value is no variable for a reader: it only remembers that it is to be exported. */
const struct variable *variables_find(const struct variables *variables, const char *name, size_t length)
{
    const struct variable *entry = entry_find(variables, name, length);
    return entry != NULL && entry->set ? entry : NULL;
}

const char *variables_get(const struct variables *variables, const char *name)
{
    const struct variable *entry = variables_find(variables, name, strlen(name));
    return entry == NULL ? NULL : variable_value(entry);
}

bool variables_adopt(struct variables *variables, const char *text, size_t name_length, size_t value_length)
{
    struct variable *entry = value_length > UINT32_MAX ? NULL : entry_make(variables, text, name_length);

    if (entry == NULL)
        return false;
    entry->text = text;
    entry->value_length = (uint32_t)value_length;
    entry->set = true;
    return true;
}

bool variables_set(struct variables *variables, const char *name, const char *value)
{
    size_t name_length = strlen(name);
    size_t value_length = strlen(value);
    char *text = arena_take(variables->arena, name_length + value_length + 2);

    if (text == NULL)
        return false;
    memcpy(text, name, name_length);
    text[name_length] = '=';
    memcpy(text + name_length + 1, value, value_length + 1);
    return variables_adopt(variables, text, name_length, value_length);
}

/* Before a value is there, as `export NAME` in a script: it enters the environment once one is set. */
bool variables_export(struct variables *variables, const char *name, size_t length)
{
    struct variable *entry = entry_find(variables, name, length);

    if (entry == NULL) {
        char *text = arena_take(variables->arena, length + 2);
        if (text == NULL)
            return false;
        memcpy(text, name, length);
        memcpy(text + length, "=", 2);
        entry = entry_make(variables, text, length);
    }
    if (entry == NULL)
        return false;
    entry->exported = true;
    return true;
}

bool variables_put(struct variables *variables, const char *name, const char *value)
{
    return variables_set(variables, name, value) && variables_export(variables, name, strlen(name));
}

/* The export mark goes too, as for `unset` (POSIX). */
void variables_unset(struct variables *variables, const char *name, size_t length)
{
    struct variable *entry = entry_find(variables, name, length);
    if (entry != NULL)
        entry->set = entry->exported = false;
}

/* In the order in which the names first came, so that the same launch gives the same environment. */
char **variables_environment(const struct variables *variables)
{
    char **environment = arena_take(variables->arena, (variables->count + (size_t)1) * sizeof *environment);
    size_t used = 0;

    if (environment == NULL)
        return NULL;
    for (uint32_t at = 0; at < variables->count; at++)
        if (variables->entries[at].set && variables->entries[at].exported)
            environment[used++] = (char *)(uintptr_t)variables->entries[at].text;
    environment[used] = NULL;
    return environment;
}
