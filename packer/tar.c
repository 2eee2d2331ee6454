/* Reads the members of a tar archive from a stream. Accepts and refuses what singularity/image/archive/tar.py does, which tests
 * compare: libarchive would not do, since it passes over global headers, converts names by the locale, and takes a hard link
 * that has a size for a file. Formats: POSIX pax, section "ustar Interchange Format"; GNU tar's manual, "Tar Internals". */
#include "tar.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 512
#define EXTENSION_LIMIT (1U << 20) /* these are those of singularity/image/limits.py */
#define MEMBERS_LIMIT 5000000U
#define SEGMENTS_LIMIT 1000000U
#define TOTAL_LIMIT (1ULL << 40)
#define FILE_LIMIT (1ULL << 44)
#define SECONDS_LIMIT (1LL << 40)
#define DRAINED (1U << 28) /* bytes behind an archive that are read over */
#define CHUNK (1U << 16)

struct tar {
    tar_read_function *read;
    void *from;
    uint64_t position, total, left, padding;
    uint32_t members;
    unsigned left_out;
    uint8_t header[BLOCK];
    struct arena global_room, extension_room, member_room;
    struct records globals, own, merged, pairs, attributes;
    struct text long_name, long_target;
    size_t extension;
    struct segment *segments;
    size_t segment_capacity;
};

/* What is being found out about one member. */
struct extent {
    uint64_t size, stored;
    size_t count; /* of numbers: offset and size of each part in turn */
    bool mapped;
};

struct tar *tar_open(tar_read_function *read, void *from)
{
    struct tar *tar = must_allocate(sizeof *tar);
    tar->read = read;
    tar->from = from;
    return tar;
}

void tar_close(struct tar *tar)
{
    arena_clear(&tar->global_room);
    arena_clear(&tar->extension_room);
    arena_clear(&tar->member_room);
    records_free(&tar->globals);
    records_free(&tar->own);
    records_free(&tar->merged);
    records_free(&tar->pairs);
    records_free(&tar->attributes);
    free(tar->segments);
    free(tar);
}

unsigned tar_left_out(const struct tar *tar) { return tar->left_out; }

static size_t some(struct tar *tar, void *data, size_t size)
{
    size_t count = tar->read(tar->from, data, size);
    tar->position += count;
    return count;
}

static _Noreturn void cut_off(const struct tar *tar)
{
    bad("ends in the middle, at byte %llu (incomplete? fetch it again)", (unsigned long long)tar->position);
}

static void exactly(struct tar *tar, void *data, size_t size)
{
    if (some(tar, data, size) < size)
        cut_off(tar);
}

static void skip(struct tar *tar, uint64_t size)
{
    uint8_t room[CHUNK];
    for (size_t count; size; size -= count) {
        count = size < sizeof room ? (size_t)size : sizeof room;
        exactly(tar, room, count);
    }
}

/* Padding may be missing at the end: whether the archive is whole is known by its digest. */
static void finish_data(struct tar *tar)
{
    uint8_t room[BLOCK];
    skip(tar, tar->left);
    if (tar->padding)
        some(tar, room, (size_t)tar->padding);
    tar->left = tar->padding = 0;
}

/* Numbers */

static struct text field_text(const void *field, size_t size)
{
    const char *end = memchr(field, 0, size);
    return (struct text){field, end ? (size_t)(end - (const char *)field) : size};
}

static bool is_digits(struct text text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
    return text.size > 0;
}

static int64_t octal(struct text digits, bool *valid)
{
    int64_t number = 0;
    for (size_t i = 0; i < digits.size; i++) {
        *valid &= digits.at[i] < '8';
        number = number << 3 | (digits.at[i] & 7);
    }
    return number;
}

static int64_t base256(struct text field)
{
    const uint8_t *bytes = (const uint8_t *)field.at;
    bool negative = bytes[0] == 0xFF;
    uint64_t number = negative ? UINT64_MAX : 0;
    for (size_t i = 1; i < field.size; i++) {
        uint8_t above = (uint8_t)(number >> 56);
        bool last_bit = number >> 55 & 1; /* what will be the sign must be it now */
        if (above != (negative ? 0xFF : 0) || last_bit != negative)
            return negative ? INT64_MIN : INT64_MAX;
        number = number << 8 | bytes[i];
    }
    return (int64_t)number;
}

int64_t tar_number(struct text field, const char *what)
{
    struct text digits = field;
    while (digits.size && (digits.at[digits.size - 1] == 0 || digits.at[digits.size - 1] == ' '))
        digits.size--;
    if (!is_digits(digits)) {
        digits = field_text(field.at, field.size);
        while (digits.size && *digits.at == ' ')
            digits.at++, digits.size--;
        while (digits.size && digits.at[digits.size - 1] == ' ')
            digits.size--;
    }
    bool valid = true;
    if (is_digits(digits)) {
        int64_t number = octal(digits, &valid);
        if (valid)
            return number;
    } else if (!digits.size) {
        return 0;
    }
    if ((uint8_t)field.at[0] == 0x80 || (uint8_t)field.at[0] == 0xFF)
        return base256(field);
    bad("a header whose %s is no number: damaged", what);
}

uint64_t tar_decimal(struct text text, const char *what)
{
    if (!is_digits(text) || text.size > 20)
        bad("an extended header whose %s is no number: damaged", what);
    uint64_t number = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint64_t digit = (uint64_t)(text.at[i] - '0');
        number = number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : number * 10 + digit;
    }
    return number;
}

/* Decimal seconds of a pax record, rounded down. */
static int64_t pax_time(struct text text, bool *fine)
{
    const struct text whole = text;
    bool negative = text.size && *text.at == '-';
    text.at += negative;
    text.size -= negative;
    const char *point = text.size ? memchr(text.at, '.', text.size) : NULL;
    struct text seconds = {text.at, point ? (size_t)(point - text.at) : text.size};
    struct text fraction = {point ? point + 1 : "", point ? text.size - seconds.size - 1 : 0};
    if (!is_digits(seconds) || seconds.size > 20 || (fraction.size && !is_digits(fraction)))
        bad("an extended header whose time is no number: damaged (%s)", SHOWN(whole));
    uint64_t number = tar_decimal(seconds, "time");
    *fine = false;
    for (size_t i = 0; i < fraction.size && i < 9; i++)
        *fine |= fraction.at[i] != '0';
    if (number > (uint64_t)SECONDS_LIMIT * 2)
        number = (uint64_t)SECONDS_LIMIT * 2;
    return negative ? -(int64_t)number - *fine : (int64_t)number;
}

/* Names */

static struct text member_path(struct tar *tar, struct text name)
{
    if (!name.size)
        bad("a member without a name");
    if (memchr(name.at, 0, name.size))
        bad("%s: a name with a zero byte", SHOWN(name));
    char *made = arena_take(&tar->member_room, name.size + 1);
    size_t used = 0;
    for (size_t at = 0, end; at < name.size; at = end + 1) {
        for (end = at; end < name.size && name.at[end] != '/';)
            end++;
        struct text part = {name.at + at, end - at};
        if (!part.size || text_is(part, "."))
            continue;
        if (text_is(part, ".."))
            bad("%s: a name with \"..\" leads out of the archive", SHOWN(name));
        if (part.size > NAME_LIMIT)
            bad("%s: a name longer than %d bytes", SHOWN(name), NAME_LIMIT);
        if (used)
            made[used++] = '/';
        memcpy(made + used, part.at, part.size);
        used += part.size;
    }
    if (name.size > PATH_LIMIT)
        bad("%s: a path longer than %d bytes", SHOWN(name), PATH_LIMIT);
    return (struct text){made, used};
}

static uint32_t owner(int64_t number, struct text path, const char *what)
{
    if (number < 0 && number >= -(1LL << 31))
        number &= 0xFFFFFFFF;
    if (number < 0 || number >= ID_LIMIT)
        bad("%s: %s %lld is no id", SHOWN(path), what, (long long)number);
    return (uint32_t)number;
}

/* Headers */

static struct text field(const struct tar *tar, size_t at, size_t size)
{
    return (struct text){(const char *)tar->header + at, size};
}

static void check_sum(const struct tar *tar)
{
    int64_t expected = tar_number(field(tar, 148, 8), "checksum"), plain = 0, as_signed = 0;
    for (size_t i = 0; i < BLOCK; i++) {
        bool own = i >= 148 && i < 156;
        plain += own ? ' ' : tar->header[i];
        as_signed += own ? ' ' : (int8_t)tar->header[i];
    }
    if (plain != expected && as_signed != expected)
        bad("no header at byte %llu, where one is due: wrong checksum (damaged, or no tar archive)",
            (unsigned long long)(tar->position - BLOCK));
}

static bool is_zero(const uint8_t *block)
{
    return !block[0] && !memcmp(block, block + 1, BLOCK - 1);
}

/* Reads over what is behind the end, so that the other side of a pipe is not cut off. */
static void drain(struct tar *tar)
{
    uint8_t room[CHUNK];
    for (uint64_t end = tar->position + DRAINED; tar->position < end && some(tar, room, sizeof room);)
        continue;
}

static bool next_header(struct tar *tar)
{
    size_t count = some(tar, tar->header, BLOCK);
    for (size_t i = 0; count < BLOCK && i < count; i++)
        if (tar->header[i])
            cut_off(tar);
    if (count == BLOCK && !is_zero(tar->header)) {
        check_sum(tar);
        return true;
    }
    if (count == BLOCK) {
        uint8_t second[BLOCK];
        count = some(tar, second, BLOCK);
        if (count && (count < BLOCK || !is_zero(second)))
            tar->left_out++;
    }
    drain(tar);
    return false;
}

static uint64_t header_size(const struct tar *tar)
{
    int64_t size = tar_number(field(tar, 124, 12), "size");
    if (size < 0)
        bad("%s: a negative size", SHOWN(field_text(tar->header, 100)));
    return (uint64_t)size;
}

/* Global records stay: as few bytes of them as there can be. */
static void keep_globals(struct tar *tar)
{
    struct arena room = {0};
    size_t size = 0;
    for (size_t i = 0; i < tar->globals.count; i++) {
        struct attribute *each = &tar->globals.all[i];
        size += each->name.size + each->value.size;
        *each = (struct attribute){arena_copy(&room, each->name), arena_copy(&room, each->value)};
    }
    arena_clear(&tar->global_room);
    tar->global_room = room;
    if (size > EXTENSION_LIMIT)
        bad("global headers of more than %u KiB", EXTENSION_LIMIT >> 10);
}

/* Takes in a header that speaks of what follows. */
static void extend(struct tar *tar, char type)
{
    uint64_t size = header_size(tar);
    if (size <= EXTENSION_LIMIT)
        tar->extension += size + BLOCK;
    if (size > EXTENSION_LIMIT || tar->extension > EXTENSION_LIMIT + 8 * BLOCK)
        bad("an extended header of more than %u KiB", EXTENSION_LIMIT >> 10);
    size_t padded = ((size_t)size + BLOCK - 1) / BLOCK * BLOCK;
    char *data = arena_take(&tar->extension_room, padded);
    exactly(tar, data, padded);
    struct text text = {data, (size_t)size};
    bool valid = true;
    if (type == 'L')
        tar->long_name = field_text(data, (size_t)size);
    else if (type == 'K')
        tar->long_target = field_text(data, (size_t)size);
    else if (type == 'g')
        valid = records_read(&tar->globals, text, NULL);
    else
        valid = records_read(&tar->own, text, &tar->pairs);
    if (!valid)
        bad("an extended header whose records make no sense: damaged");
    if (type == 'g') {
        keep_globals(tar);
        tar->extension = 0;
    }
}

static void merge_records(struct tar *tar)
{
    tar->merged.count = 0;
    for (size_t i = 0; i < tar->globals.count; i++)
        records_set(&tar->merged, tar->globals.all[i].name, tar->globals.all[i].value);
    for (size_t i = 0; i < tar->own.count; i++)
        records_set(&tar->merged, tar->own.all[i].name, tar->own.all[i].value);
    for (size_t i = 0; i < tar->pairs.count; i++) /* that there are such is all that the map below wants to know */
        records_set(&tar->merged, tar->pairs.all[i].name, tar->pairs.all[i].value);
    size_t kept = 0;
    for (size_t i = 0; i < tar->merged.count; i++)
        if (tar->merged.all[i].value.size)
            tar->merged.all[kept++] = tar->merged.all[i];
    tar->merged.count = kept;
}

static struct text header_name(struct tar *tar)
{
    struct text name = field_text(tar->header, 100);
    if (memcmp(tar->header + 257, "ustar", 6) || !tar->header[345])
        return name;
    bool star = !memcmp(tar->header + 508, "tar", 4);
    struct text prefix = field_text(tar->header + 345, star ? 131 : 155);
    char *made = arena_take(&tar->member_room, prefix.size + name.size + 2);
    memcpy(made, prefix.at, prefix.size);
    made[prefix.size] = '/';
    memcpy(made + prefix.size + 1, name.at, name.size);
    return (struct text){made, prefix.size + 1 + name.size};
}

static void count_member(struct tar *tar, struct text path, uint64_t size)
{
    if (++tar->members > MEMBERS_LIMIT)
        bad("more than %u members", MEMBERS_LIMIT);
    if (size > TOTAL_LIMIT || (tar->total += size) > TOTAL_LIMIT)
        bad("%s: the data is larger than %llu GiB", SHOWN(path), TOTAL_LIMIT >> 30);
}

/* Sparse files */

static void add_number(struct tar *tar, struct extent *extent, uint64_t number)
{
    if (extent->count / 2 > SEGMENTS_LIMIT)
        bad("a sparse file of too many parts");
    if (extent->count / 2 >= tar->segment_capacity) {
        tar->segment_capacity = tar->segment_capacity * 2 + 16;
        tar->segments = must_resize(tar->segments, tar->segment_capacity * sizeof *tar->segments);
    }
    struct segment *segment = &tar->segments[extent->count / 2];
    *(extent->count++ % 2 ? &segment->size : &segment->offset) = number;
}

static uint64_t map_number(struct text text)
{
    int64_t number = tar_number(text, "sparse map");
    return number < 0 ? UINT64_MAX : (uint64_t)number;
}

/* GNU's first form: four pairs in the header, and blocks of 21 more behind it. */
static void old_map(struct tar *tar, struct extent *extent)
{
    if (memcmp(tar->header + 257, "ustar  ", 8))
        bad("%s: a sparse file in a form that is not known", SHOWN(field_text(tar->header, 100)));
    char block[BLOCK];
    const char *from = (const char *)tar->header + 386;
    size_t fields = 8;
    bool more = tar->header[482];
    extent->size = map_number(field(tar, 483, 12));
    for (;;) {
        for (size_t i = 0; i < fields; i++) {
            if (!from[12 * i]) {
                more = false;
                break;
            }
            add_number(tar, extent, map_number((struct text){from + 12 * i, 12}));
        }
        if (!more)
            return;
        exactly(tar, block, BLOCK);
        from = block;
        fields = 42;
        more = block[504];
    }
}

/* GNU's form 1.0: decimal lines at the beginning of the data, padded to 512: how many pairs, then the pairs. */
static void map_before_data(struct tar *tar, struct extent *extent)
{
    char line[32];
    size_t used = 0;
    uint64_t wanted = 1, have = 0;
    while (have < wanted) {
        char block[BLOCK];
        if (extent->stored < BLOCK)
            bad("a sparse file whose map does not end");
        exactly(tar, block, BLOCK);
        extent->stored -= BLOCK;
        for (size_t i = 0; i < BLOCK && have < wanted; i++) {
            if (block[i] != '\n') {
                if (used == sizeof line)
                    bad("a sparse file whose map makes no sense");
                line[used++] = block[i];
                continue;
            }
            uint64_t number = tar_decimal((struct text){line, used}, "sparse map");
            used = 0;
            if (have++)
                add_number(tar, extent, number);
            else if (number > SEGMENTS_LIMIT)
                bad("a sparse file whose map makes no sense");
            else
                wanted = 1 + 2 * number;
        }
    }
}

static void listed_map(struct tar *tar, struct extent *extent)
{
    const struct text *list = records_find(&tar->merged, "GNU.sparse.map");
    if (!list) {
        for (size_t i = 0; i < tar->pairs.count; i++)
            add_number(tar, extent, tar_decimal(tar->pairs.all[i].value, "sparse map"));
        return;
    }
    for (const char *at = list->at, *end = list->at + list->size; at <= end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop_at = comma ? comma : end;
        add_number(tar, extent, tar_decimal((struct text){at, (size_t)(stop_at - at)}, "sparse map"));
        at = stop_at + 1;
    }
}

static uint64_t record_size(const struct records *records, const char *first, const char *second)
{
    const struct text *found = records_find(records, first);
    if (!found && second)
        found = records_find(records, second);
    return tar_decimal(found ? *found : TEXT(""), "size");
}

static void check_map(struct tar *tar, struct extent *extent, struct text path)
{
    uint64_t end = 0, sum = 0;
    size_t kept = 0;
    bool sensible = extent->count % 2 == 0 && extent->count / 2 <= SEGMENTS_LIMIT;
    for (size_t i = 0; sensible && i < extent->count / 2; i++) {
        struct segment each = tar->segments[i];
        sensible = each.offset >= end && each.size <= extent->size && each.offset <= extent->size - each.size;
        end = each.offset + each.size;
        sum += sensible ? each.size : 0;
        if (each.size)
            tar->segments[kept++] = each;
    }
    if (!sensible)
        bad("%s: a sparse file whose map makes no sense", SHOWN(path));
    if (sum != extent->stored || extent->size > FILE_LIMIT)
        bad("%s: a sparse file whose size makes no sense", SHOWN(path));
    extent->count = kept;
    extent->mapped = extent->stored < extent->size;
}

/* Size with holes, parts and the bytes of data that still follow, of a file that may be sparse. */
static struct extent find_extent(struct tar *tar, struct text path, uint64_t stored)
{
    struct extent extent = {stored, stored, 0, false};
    bool spoken_of = false;
    for (size_t i = 0; i < tar->merged.count; i++)
        spoken_of |= text_begins(tar->merged.all[i].name, "GNU.sparse.");
    if (tar->header[156] == 'S') {
        old_map(tar, &extent);
    } else if (spoken_of) {
        const struct text *major = records_find(&tar->merged, "GNU.sparse.major");
        if (major && text_is(*major, "1")) {
            extent.size = record_size(&tar->merged, "GNU.sparse.realsize", NULL);
            map_before_data(tar, &extent);
        } else {
            extent.size = record_size(&tar->merged, "GNU.sparse.size", "GNU.sparse.realsize");
            listed_map(tar, &extent);
        }
    } else {
        return extent;
    }
    check_map(tar, &extent, path);
    return extent;
}

/* Members */

static enum kind kind_of(char type)
{
    switch (type) {
    case 0: case '0': case '7': case 'S': return KIND_FILE;
    case '1': return KIND_HARD_LINK;
    case '2': return KIND_LINK;
    case '3': return KIND_CHARACTER;
    case '4': return KIND_BLOCK;
    case '5': case 'D': return KIND_DIRECTORY;
    case '6': return KIND_FIFO;
    default: return (enum kind)0;
    }
}

static void set_owner_and_time(struct tar *tar, struct member *member)
{
    const struct text *uid = records_find(&tar->merged, "uid"), *gid = records_find(&tar->merged, "gid");
    const struct text *time = records_find(&tar->merged, "mtime");
    bool fine = false;
    int64_t user = tar_number(field(tar, 108, 8), "owner"), group = tar_number(field(tar, 116, 8), "group");
    member->mtime = tar_number(field(tar, 136, 12), "time");
    if (uid)
        user = (int64_t)(tar_decimal(*uid, "uid") & INT64_MAX);
    if (gid)
        group = (int64_t)(tar_decimal(*gid, "gid") & INT64_MAX);
    if (time)
        member->mtime = pax_time(*time, &fine);
    if (member->mtime > SECONDS_LIMIT || member->mtime < -SECONDS_LIMIT || (member->mtime == SECONDS_LIMIT && fine))
        bad("%s: a time %lld seconds from 1970", SHOWN(member->path), (long long)member->mtime);
    member->uid = owner(user, member->path, "user");
    member->gid = owner(group, member->path, "group");
}

static void set_device(struct tar *tar, struct member *member)
{
    int64_t major = tar_number(field(tar, 329, 8), "device number"), minor = tar_number(field(tar, 337, 8), "device number");
    if (major < 0 || major >= 1 << 12 || minor < 0 || minor >= 1 << 20)
        bad("%s: no device has the number %lld:%lld", SHOWN(member->path), (long long)major, (long long)minor);
    member->major = (uint32_t)major;
    member->minor = (uint32_t)minor;
}

static void set_target(struct tar *tar, struct member *member)
{
    const struct text *said = records_find(&tar->merged, "linkpath");
    struct text target = tar->long_target.size ? tar->long_target : said ? *said : field_text(tar->header + 157, 100);
    if (member->kind == KIND_HARD_LINK) {
        member->target = member_path(tar, target);
        if (!member->target.size)
            bad("%s: a hard link to the root", SHOWN(member->path));
        return;
    }
    bool zero = target.size && memchr(target.at, 0, target.size);
    if (!target.size || zero || target.size >= PATH_LIMIT)
        bad("%s: a symbolic link whose target is %s", SHOWN(member->path),
            target.size >= PATH_LIMIT ? "too long" : zero ? "with a zero byte" : "empty");
    member->target = arena_copy(&tar->member_room, target);
}

/* All of a member but its extent. */
static void describe(struct tar *tar, struct member *member)
{
    member->mode = (uint32_t)tar_number(field(tar, 100, 8), "mode") & 07777;
    tar->attributes.count = 0;
    set_owner_and_time(tar, member);
    if (records_attributes(&tar->merged, &tar->attributes, &tar->member_room, &member->mode))
        tar->left_out++;
    member->attributes = tar->attributes.all;
    member->attribute_count = tar->attributes.count;
    if (member->kind == KIND_CHARACTER || member->kind == KIND_BLOCK)
        set_device(tar, member);
    if (member->kind == KIND_LINK || member->kind == KIND_HARD_LINK)
        set_target(tar, member);
}

/* What this header is of; false: it is left out. The texts of what is found lie in the rooms of `tar`. */
static bool read_member(struct tar *tar, struct member *member)
{
    char type = (char)tar->header[156];
    *member = (struct member){.kind = kind_of(type)};
    merge_records(tar);
    const struct text *size = records_find(&tar->merged, "size"), *name = records_find(&tar->merged, "GNU.sparse.name");
    uint64_t stored = header_size(tar);
    if (size)
        stored = tar_decimal(*size, "size");
    if (!member->kind) {
        if (type == 'M')
            bad("the second part of an archive in several volumes (join them before)");
        tar->left_out += type != 'V';
        count_member(tar, field_text(tar->header, 100), stored);
        tar->left = stored;
        tar->padding = (BLOCK - stored % BLOCK) % BLOCK;
        return false;
    }
    if (!name)
        name = records_find(&tar->merged, "path");
    struct text said = tar->long_name.size ? tar->long_name : name ? *name : header_name(tar);
    if (member->kind != KIND_FILE && type != 'D')
        stored = 0;
    member->path = member_path(tar, said);
    if (member->kind == KIND_FILE && said.at[said.size - 1] == '/')
        member->kind = KIND_DIRECTORY;
    if (!member->path.size && member->kind != KIND_DIRECTORY)
        bad("%s: the root of an archive can only be a directory", SHOWN(said));
    count_member(tar, member->path, stored);
    struct extent extent = find_extent(tar, member->path, stored);
    describe(tar, member);
    if (member->kind == KIND_FILE) {
        member->size = extent.size;
        member->sparse = extent.mapped;
        member->segments = tar->segments;
        member->segment_count = extent.count;
    }
    tar->left = extent.stored;
    tar->padding = (BLOCK - extent.stored % BLOCK) % BLOCK;
    return true;
}

static void forget_extension(struct tar *tar)
{
    arena_clear(&tar->extension_room);
    tar->own.count = tar->pairs.count = tar->extension = 0;
    tar->long_name = tar->long_target = (struct text){"", 0};
}

bool tar_next(struct tar *tar, struct member *member)
{
    bool extended = false;
    finish_data(tar);
    forget_extension(tar);
    arena_clear(&tar->member_room);
    while (next_header(tar)) {
        char type = (char)tar->header[156];
        if (type && strchr("xXgLK", type)) {
            extend(tar, type);
            extended |= type != 'g';
            continue;
        }
        if (read_member(tar, member))
            return true;
        finish_data(tar);
        arena_clear(&tar->member_room);
        forget_extension(tar);
        extended = false;
    }
    if (extended)
        bad("an extended header without the member it belongs to");
    return false;
}

void tar_data(struct tar *tar, void *data, size_t size)
{
    if (size > tar->left)
        cut_off(tar);
    exactly(tar, data, size);
    tar->left -= size;
}
