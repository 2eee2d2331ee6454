/* ecl.toml: lines of TOML, of which this reads what the family's file has. A key, a value or a table that is not known refuses every
 * image: a limit in it would be lost. */
#include "signature.h"

#include <string.h>

enum mode { MODE_WHITELIST, MODE_WHITESTRICT, MODE_BLACKLIST, MODE_NONE };
enum { KEYS = 256 };

struct group {
    bool begun;
    enum mode mode;
    const char *directory; /* "": everywhere */
    const char *keys[KEYS];
    uint32_t key_count;
};

struct list {
    const char *name;
    struct error *error;
    char *at; /* what is left of the text */
    unsigned line;
    bool activated;
    const char *directory;
    struct group here, everywhere, next; /* that for this very directory, and the one without any */
};

static bool complain(const struct list *list, const char *what)
{
    return error_set(list->error, 0, "%.200s:%u: %s", list->name, list->line, what);
}

/* Blanks, ends of lines and comments. */
static void skip(struct list *list, bool lines)
{
    for (; *list->at != '\0'; list->at++) {
        if (*list->at == '#')
            while (list->at[1] != '\0' && list->at[1] != '\n')
                list->at++;
        else if (*list->at == '\n' && lines)
            list->line++;
        else if (*list->at != ' ' && *list->at != '\t' && *list->at != '\r')
            return;
    }
}

static bool take(struct list *list, const char *text)
{
    if (strncmp(list->at, text, strlen(text)) != 0)
        return false;
    list->at += strlen(text);
    return true;
}

/* Cut out of the text; one with a backslash would have another value. */
static bool take_string(struct list *list, const char **found)
{
    char quote = *list->at;
    char *end = quote == '"' || quote == '\'' ? strchr(list->at + 1, quote) : NULL;

    if (end == NULL || memchr(list->at, '\n', (size_t)(end - list->at)) != NULL ||
        (quote == '"' && memchr(list->at, '\\', (size_t)(end - list->at)) != NULL))
        return complain(list, "a text without an end, or with a backslash");
    *found = list->at + 1;
    *end = '\0';
    list->at = end + 1;
    return true;
}

static bool read_flag(struct list *list, bool *flag)
{
    *flag = take(list, "true");
    return *flag || take(list, "false") || complain(list, "neither true nor false");
}

static bool read_mode(struct list *list)
{
    static const char *const names[] = {"whitelist", "whitestrict", "blacklist"};
    const char *word = "";

    if (!take_string(list, &word))
        return false;
    list->next.mode = MODE_WHITELIST;
    while (list->next.mode < MODE_NONE && strcmp(word, names[list->next.mode]) != 0)
        list->next.mode++;
    return list->next.mode < MODE_NONE || complain(list, "a mode that is none of whitelist, whitestrict and blacklist");
}

static bool read_keys(struct list *list)
{
    if (!take(list, "["))
        return complain(list, "keyfp is no list");
    for (skip(list, true); !take(list, "]"); skip(list, true)) {
        const char *key = "";
        if (list->next.key_count == KEYS)
            return complain(list, "too many keys");
        if (!take_string(list, &key))
            return false;
        if (!(strlen(key) == 40 && strspn(key, "0123456789abcdefABCDEF") == 40) && strncmp(key, "SHA256:", 7) != 0)
            return complain(list, "a fingerprint that is neither 40 hexadecimal digits nor SHA256:...");
        list->next.keys[list->next.key_count++] = key;
        skip(list, true);
        if (!take(list, ",") && *list->at != ']')
            return complain(list, "a list without an end");
    }
    return true;
}

/* A group is complete: is it the one for this image? */
static bool group_end(struct list *list)
{
    struct group *group = &list->next, *place = NULL;

    if (!group->begun)
        return true;
    if (group->mode == MODE_NONE)
        return complain(list, "a group without a mode");
    size_t length = strlen(group->directory);
    while (length > 1 && group->directory[length - 1] == '/')
        length--;
    if (length == 0)
        place = &list->everywhere;
    else if (group->directory[0] != '/')
        return complain(list, "dirpath is no absolute path");
    else if (strlen(list->directory) == length && memcmp(list->directory, group->directory, length) == 0)
        place = &list->here;
    if (place != NULL && place->begun)
        return complain(list, "a second group for one dirpath");
    if (place != NULL)
        *place = *group;
    return true;
}

static bool entry_read(struct list *list)
{
    static const char *const names[] = {"activated", "legacyinsecure", "tagname", "mode", "dirpath", "keyfp"};
    size_t which = 0;
    const char *ignored;
    bool legacy = false, good;

    while (which < 6 && !take(list, names[which]))
        which++;
    skip(list, false);
    if (which == 6 || (which < 2) == list->next.begun || !take(list, "="))
        return complain(list, "not a line of an execution control list");
    skip(list, false);
    good = which == 0   ? read_flag(list, &list->activated)
           : which == 1 ? read_flag(list, &legacy)
           : which == 2 ? take_string(list, &ignored)
           : which == 3 ? read_mode(list)
           : which == 4 ? take_string(list, &list->next.directory)
                        : read_keys(list);
    if (legacy)
        return complain(list, "legacyinsecure: signatures of before 2020 start nothing here");
    return good;
}

static bool list_read(struct list *list)
{
    for (skip(list, true); *list->at != '\0'; skip(list, true)) {
        if (take(list, "[[execgroup]]")) {
            if (!group_end(list))
                return false;
            list->next = (struct group){.begun = true, .mode = MODE_NONE, .directory = ""};
        } else if (!entry_read(list))
            return false;
        skip(list, false);
        if (*list->at != '\n' && *list->at != '\0')
            return complain(list, "more on the line than belongs there");
    }
    return group_end(list);
}

static bool same_key(const char *one, const char *other)
{
    for (; *one != '\0' && (*one == *other || (strlen(one) <= 40 && (*one | 32) == (*other | 32))); one++)
        other++;
    return *one == *other;
}

bool list_allows(const char *name, char *text, size_t size, const char *directory, const struct signer *const *by, uint32_t count,
                 struct error *error)
{
    static struct list list;

    list = (struct list){.name = name, .error = error, .at = text, .line = 1, .directory = directory};
    if (memchr(text, '\0', size) != NULL)
        return complain(&list, "a NUL byte (not a text file?)");
    if (!list_read(&list))
        return false;
    if (!list.activated)
        return true;
    const struct group *group = list.here.begun ? &list.here : &list.everywhere;
    if (!group->begun)
        return error_set(error, 0, "image prohibited by ECL: no group of %.200s is for images in %.200s", name, directory);
    uint32_t met = 0;
    for (uint32_t i = 0; i < group->key_count; i++) {
        bool has = false;
        for (uint32_t j = 0; j < count; j++)
            has |= same_key(group->keys[i], by[j]->fingerprint);
        met += has;
    }
    if (group->mode == MODE_BLACKLIST ? met == 0 : group->mode == MODE_WHITELIST ? met > 0 : met == group->key_count && met > 0)
        return true;
    return error_set(error, 0, group->mode == MODE_BLACKLIST ? "image prohibited by ECL: signed by a key that %.200s forbids"
                                                             : "image prohibited by ECL: not signed as %.200s wants it", name);
}
