/* Records of pax headers, `LENGTH KEY=VALUE\n`, and what they say of extended attributes and access control lists. Formats: POSIX
 * pax, section "pax Extended Header"; star(5); libarchive's tar(5); linux/posix_acl_xattr.h. singularity/image/archive/pax.py and
 * singularity/image/acl.py read the same. */
#include <stdlib.h>
#include <string.h>

#include "tar.h"

#define VALUE_LIMIT 65536
#define RECORDS_LIMIT 4096 /* in one header: each is compared with those before it */
#define STAR_XATTR "SCHILY.xattr."
#define ENCODED_XATTR "LIBARCHIVE.xattr."

struct arena_block {
    struct arena_block *next;
    max_align_t data[];
};

void *arena_take(struct arena *arena, size_t size)
{
    struct arena_block *block = must_allocate(sizeof *block + size);
    block->next = arena->first;
    arena->first = block;
    return block->data;
}

struct text arena_copy(struct arena *arena, struct text text)
{
    char *copy = arena_take(arena, text.size + 1);
    if (text.size)
        memcpy(copy, text.at, text.size);
    return (struct text){copy, text.size};
}

void arena_clear(struct arena *arena)
{
    for (struct arena_block *next; arena->first; arena->first = next) {
        next = arena->first->next;
        free(arena->first);
    }
}

static void append(struct records *records, struct text key, struct text value)
{
    if (records->count == records->capacity) {
        records->capacity = records->capacity * 2 + 8;
        records->all = must_resize(records->all, records->capacity * sizeof *records->all);
    }
    records->all[records->count++] = (struct attribute){key, value};
}

static struct attribute *lookup(const struct records *records, struct text key)
{
    for (size_t i = 0; i < records->count; i++)
        if (text_same(records->all[i].name, key))
            return &records->all[i];
    return NULL;
}

const struct text *records_find(const struct records *records, const char *key)
{
    const struct attribute *found = lookup(records, (struct text){key, strlen(key)});
    return found ? &found->value : NULL;
}

void records_set(struct records *records, struct text key, struct text value)
{
    struct attribute *found = lookup(records, key);
    if (found)
        found->value = value;
    else if (records->count < RECORDS_LIMIT)
        append(records, key, value);
    else
        bad("more than %d records in an extended header", RECORDS_LIMIT);
}

void records_free(struct records *records)
{
    free(records->all);
    *records = (struct records){0};
}

bool records_read(struct records *records, struct text data, struct records *pairs)
{
    size_t at = 0;
    while (at < data.size && data.at[at]) {
        size_t size = 0, digits = at;
        for (; digits < data.size && digits < at + 20 && data.at[digits] >= '0' && data.at[digits] <= '9'; digits++)
            size = size > data.size ? size : size * 10 + (size_t)(data.at[digits] - '0');
        if (digits == at || digits >= data.size || data.at[digits] != ' ' || size > data.size - at || size < digits - at + 3)
            return false;
        const char *key = data.at + digits + 1, *end = data.at + at + size;
        const char *equals = memchr(key, '=', (size_t)(end - key));
        if (!equals || end[-1] != '\n' || equals == end - 1)
            return false;
        struct text name = {key, (size_t)(equals - key)}, value = {equals + 1, (size_t)(end - equals - 2)};
        if (pairs && (text_is(name, "GNU.sparse.offset") || text_is(name, "GNU.sparse.numbytes")))
            append(pairs, name, value);
        else
            records_set(records, name, value);
        at += size;
    }
    return true;
}

static int hex_digit(char letter)
{
    return letter >= '0' && letter <= '9'   ? letter - '0'
           : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10
           : letter >= 'A' && letter <= 'F' ? letter - 'A' + 10
                                            : -1;
}

/* Escapes of one byte as %XX; of star's only those of `%` and `=`. */
static struct text unescaped(struct arena *room, struct text text, bool all)
{
    char *made = arena_take(room, text.size + 1);
    size_t used = 0;
    for (size_t i = 0; i < text.size; i++) {
        bool wanted = text.at[i] == '%' && i + 2 < text.size && hex_digit(text.at[i + 1]) >= 0 && hex_digit(text.at[i + 2]) >= 0;
        if (wanted && !all)
            wanted = !memcmp(text.at + i + 1, "25", 2) || !memcmp(text.at + i + 1, "3D", 2);
        if (!wanted) {
            made[used++] = text.at[i];
            continue;
        }
        made[used++] = (char)(hex_digit(text.at[i + 1]) << 4 | hex_digit(text.at[i + 2]));
        i += 2;
    }
    return (struct text){made, used};
}

static int base64_digit(char letter)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = letter ? strchr(digits, letter) : NULL;
    return found ? (int)(found - digits) : -1;
}

static struct text from_base64(struct arena *room, struct text text)
{
    size_t size = text.size, padding = (4 - size % 4) % 4;
    for (; size && text.at[size - 1] == '='; size--)
        padding++;
    uint8_t *made = arena_take(room, size + 1);
    size_t used = 0;
    uint32_t bits = 0, count = 0;
    bool valid = padding <= 2;
    for (size_t i = 0; valid && i < size; i++) {
        int digit = base64_digit(text.at[i]);
        valid = digit >= 0;
        bits = bits << 6 | (uint32_t)(valid ? digit : 0);
        count += 6;
        if (count >= 8) {
            count -= 8;
            made[used++] = (uint8_t)(bits >> count);
        }
    }
    if (!valid)
        bad("an extended attribute that is no base64: damaged");
    return (struct text){(char *)made, used};
}

/* Access control lists. */

struct acl_entry {
    uint32_t tag, permissions, id;
};

static struct text stripped(struct text text)
{
    const char blanks[] = " \t\n\r\f\v";
    while (text.size && memchr(blanks, *text.at, sizeof blanks - 1))
        text.at++, text.size--;
    while (text.size && memchr(blanks, text.at[text.size - 1], sizeof blanks - 1))
        text.size--;
    return text;
}

/* What stands before the first `mark`; `text` becomes what stands behind it. */
static struct text cut(struct text *text, const char *marks)
{
    struct text before = {text->at, 0};
    while (before.size < text->size && !strchr(marks, text->at[before.size]))
        before.size++;
    size_t used = before.size < text->size ? before.size + 1 : before.size;
    text->at += used;
    text->size -= used;
    return before;
}

/* `user:NAME:rwx:NUMBER`, of which the last part may be missing. False: a name without its number. */
static bool acl_entry(struct text text, struct acl_entry *entry)
{
    static const struct { const char *word; uint32_t unnamed, named; } tags[] = {
        {"user", 0x01, 0x02}, {"group", 0x04, 0x08}, {"mask", 0x10, 0x10}, {"other", 0x20, 0x20}};
    struct text whole = text, word, fields[4];
    size_t count = 0, tag = 0;
    bool more = memchr(text.at, ':', text.size) != NULL;
    word = cut(&text, ":");
    while (more && count < 4) {
        more = memchr(text.at, ':', text.size) != NULL;
        fields[count++] = cut(&text, ":");
    }
    while (tag < 4 && !text_is(word, tags[tag].word))
        tag++;
    if (tag == 4 || count < 1 || count > 3)
        bad("an access control list with the entry %s", SHOWN(whole));
    struct text name = count == 1 ? TEXT("") : fields[0], letters = count == 1 ? fields[0] : fields[1];
    struct text number = count == 3 ? fields[2] : name;
    uint32_t permissions = 0;
    for (size_t i = 0; i < letters.size; i++)
        permissions |= letters.at[i] == 'r' ? 4U : letters.at[i] == 'w' ? 2U : letters.at[i] == 'x' ? 1U : 0U;
    for (struct text rest = letters; rest.size; rest.size--)
        if (!memchr("rwx-", rest.at[rest.size - 1], 4))
            bad("an access control list with the permissions %s", SHOWN(letters));
    *entry = (struct acl_entry){tags[tag].unnamed, permissions, ID_LIMIT};
    if (!name.size || tags[tag].named == tags[tag].unnamed)
        return true;
    uint64_t id = 0;
    for (size_t i = 0; i < number.size && i < 11; i++)
        id = number.at[i] >= '0' && number.at[i] <= '9' ? id * 10 + (uint64_t)(number.at[i] - '0') : ID_LIMIT * 100ULL;
    if (!number.size || number.size > 10 || id >= ID_LIMIT)
        return false;
    *entry = (struct acl_entry){tags[tag].named, permissions, (uint32_t)id};
    return true;
}

static int acl_order(const void *one, const void *other)
{
    const struct acl_entry *a = one, *b = other;
    if (a->tag != b->tag)
        return a->tag < b->tag ? -1 : 1;
    if (a->permissions != b->permissions)
        return a->permissions < b->permissions ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* The kernel's form of a list, empty for one without entries, and the mode that goes with it. False: a name without number. */
static bool acl_read(struct text text, struct arena *room, struct text *value, uint32_t *mode)
{
    struct acl_entry *entries = arena_take(room, (text.size / 2 + 2) * sizeof *entries);
    size_t count = 0;
    while (text.size) {
        struct text line = cut(&text, ",\n"), entry = stripped(cut(&line, "#"));
        if (entry.size && !acl_entry(entry, &entries[count++]))
            return false;
    }
    *value = TEXT("");
    if (!count)
        return true;
    qsort(entries, count, sizeof *entries, acl_order);
    uint8_t *made = arena_take(room, 4 + 8 * count);
    uint32_t owner = *mode >> 6 & 7, group = *mode >> 3 & 7, other = *mode & 7;
    bool masked = false;
    store32(made, 2);
    for (size_t i = 0; i < count; i++) {
        store16(made + 4 + 8 * i, entries[i].tag);
        store16(made + 6 + 8 * i, entries[i].permissions);
        store32(made + 8 + 8 * i, entries[i].id);
        owner = entries[i].tag == 0x01 ? entries[i].permissions : owner;
        other = entries[i].tag == 0x20 ? entries[i].permissions : other;
        if (entries[i].tag == 0x10 || (entries[i].tag == 0x04 && !masked))
            group = entries[i].permissions;
        masked |= entries[i].tag == 0x10;
    }
    *value = (struct text){(char *)made, 4 + 8 * count};
    *mode = (*mode & ~0777U) | owner << 6 | group << 3 | other;
    return true;
}

/* The mode of a file whose access list is left out: the group has its own permissions, not the mask's. */
static uint32_t mode_without(struct text text, uint32_t mode)
{
    while (text.size) {
        struct text line = stripped(cut(&text, ",\n"));
        if (!text_begins(line, "group::"))
            continue;
        uint32_t own = 0;
        for (size_t i = 7; i < line.size && i < 10; i++)
            own |= line.at[i] == 'r' ? 4U : line.at[i] == 'w' ? 2U : line.at[i] == 'x' ? 1U : 0U;
        return (mode & ~070U) | (mode & own << 3);
    }
    return mode & ~070U;
}

/* Whether an attribute belongs to the file, not to the machine it was on (singularity/image/xattrs.py). */
static bool is_carried(struct text name)
{
    if (text_begins(name, "user.") || text_begins(name, "trusted."))
        return !text_begins(name, "trusted.overlay.") && !text_begins(name, "user.overlay.") &&
               !text_begins(name, "user.fuseoverlayfs.") && !text_is(name, "user.singularity.owner");
    return text_is(name, "security.capability") || text_is(name, ACL_ACCESS) || text_is(name, ACL_DEFAULT);
}

static int by_name(const void *one, const void *other)
{
    const struct attribute *a = one, *b = other;
    size_t size = a->name.size < b->name.size ? a->name.size : b->name.size;
    int order = memcmp(a->name.at, b->name.at, size);
    return order ? order : a->name.size < b->name.size ? -1 : a->name.size > b->name.size;
}

static struct text after(struct text text, const char *start)
{
    return (struct text){text.at + strlen(start), text.size - strlen(start)};
}

bool records_attributes(const struct records *records, struct records *found, struct arena *room, uint32_t *mode)
{
    bool left_out = false;
    for (size_t i = 0; i < records->count; i++) {
        struct text key = records->all[i].name, value = records->all[i].value;
        if (text_begins(key, STAR_XATTR)) {
            records_set(found, unescaped(room, after(key, STAR_XATTR), false), value);
        } else if (text_begins(key, ENCODED_XATTR)) {
            struct text name = unescaped(room, after(key, ENCODED_XATTR), true), plain = from_base64(room, value);
            if (!lookup(found, name))
                records_set(found, name, plain);
        } else {
            left_out |= text_is(key, "SCHILY.acl.ace");
        }
    }
    const struct { const char *key; struct text name; } lists[] = {{"SCHILY.acl.access", TEXT(ACL_ACCESS)},
                                                                 {"SCHILY.acl.default", TEXT(ACL_DEFAULT)}};
    for (size_t i = 0; i < 2; i++) {
        const struct text *text = records_find(records, lists[i].key);
        uint32_t shown_mode = *mode;
        struct text value;
        if (!text || lookup(found, lists[i].name))
            continue;
        if (!acl_read(*text, room, &value, &shown_mode)) {
            left_out = true;
            shown_mode = mode_without(*text, *mode);
        } else if (value.size) {
            records_set(found, lists[i].name, value);
        }
        *mode = i == 0 ? shown_mode : *mode;
    }
    size_t kept = 0;
    for (size_t i = 0; i < found->count; i++) {
        struct attribute each = found->all[i];
        if (!each.name.size || memchr(each.name.at, 0, each.name.size) || each.name.size > 255 || each.value.size > VALUE_LIMIT)
            bad("an extended attribute with an impossible name or size");
        if (is_carried(each.name))
            found->all[kept++] = each;
    }
    found->count = kept;
    if (kept)
        qsort(found->all, kept, sizeof *found->all, by_name);
    return left_out;
}
