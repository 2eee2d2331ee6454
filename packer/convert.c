/* An archive becomes a layer file: one thread reads it, others compress, and the records are written when all blocks have their
 * places. Holes of files, and blocks of zeros, take no room. */
#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layer.h"
#include "layer_format.h"

#define HOLES_LIMIT (1U << 24) /* blocks of holes in all files: each takes four bytes */
#define SETS_LIMIT (1U << 20)
#define FIRST_BLOCK 1U /* in the list of blocks, until their sizes are known: not a hole */

struct conversion {
    struct tar *tar;
    struct blocks *blocks;
    const struct layer_options *options;
    uint64_t budget, holes;
    struct buffer records, sets, fragments, list;
    uint32_t record_count, set_count, fragment_count;
    uint8_t fragment[BLOCK_SIZE]; /* the one that is being filled */
    size_t fragment_size;
    size_t *set_table; /* by hash: where a set is in `sets`, plus 1, and its number */
    uint32_t *set_numbers;
    size_t set_room;
};

/* Attributes */

static size_t encode_set(struct buffer *buffer, const struct member *member)
{
    size_t start = buffer->size;
    buffer_put32(buffer, (uint32_t)member->attribute_count);
    for (size_t i = 0; i < member->attribute_count; i++) {
        const struct attribute *each = &member->attributes[i];
        buffer_put32(buffer, (uint32_t)each->name.size);
        buffer_put32(buffer, (uint32_t)each->value.size);
        buffer_put(buffer, each->name.at, each->name.size);
        buffer_put(buffer, each->value.at, each->value.size);
    }
    return start;
}

static uint64_t hash_set(const struct conversion *conversion, size_t start, size_t size)
{
    return hash(conversion->sets.data + start, size, 0);
}

/* How many bytes a set has. */
static size_t set_size(const struct conversion *conversion, size_t start)
{
    const uint8_t *at = conversion->sets.data + start;
    uint32_t count = load32(at);
    for (at += 4; count; count--)
        at += 8 + load32(at) + load32(at + 4);
    return (size_t)(at - conversion->sets.data) - start;
}

static void grow_sets(struct conversion *conversion)
{
    size_t room = conversion->set_room ? conversion->set_room * 2 : 256, *old = conversion->set_table;
    uint32_t *numbers = conversion->set_numbers;
    conversion->set_table = must_allocate(room * sizeof *old);
    conversion->set_numbers = must_allocate(room * sizeof *numbers);
    for (size_t i = 0; i < conversion->set_room; i++) {
        if (!old[i])
            continue;
        size_t slot = hash_set(conversion, old[i] - 1, set_size(conversion, old[i] - 1)) & (room - 1);
        while (conversion->set_table[slot])
            slot = (slot + 1) & (room - 1);
        conversion->set_table[slot] = old[i];
        conversion->set_numbers[slot] = numbers[i];
    }
    conversion->set_room = room;
    free(old);
    free(numbers);
}

/* The number of a member's set of attributes, the same for the same ones. */
static uint32_t set_of(struct conversion *conversion, const struct member *member)
{
    if (!member->attribute_count)
        return 0;
    if (conversion->set_count * 2 >= conversion->set_room)
        grow_sets(conversion);
    size_t start = encode_set(&conversion->sets, member), size = conversion->sets.size - start;
    size_t slot = hash_set(conversion, start, size) & (conversion->set_room - 1);
    for (; conversion->set_table[slot]; slot = (slot + 1) & (conversion->set_room - 1)) {
        size_t other = conversion->set_table[slot] - 1;
        if (set_size(conversion, other) == size &&
            !memcmp(conversion->sets.data + other, conversion->sets.data + start, size)) {
            conversion->sets.size = start;
            return conversion->set_numbers[slot];
        }
    }
    if (conversion->set_count == SETS_LIMIT)
        bad("more than %u kinds of extended attributes", SETS_LIMIT);
    conversion->set_table[slot] = start + 1;
    return conversion->set_numbers[slot] = ++conversion->set_count;
}

/* Data */

static void flush_fragment(struct conversion *conversion)
{
    if (!conversion->fragment_size)
        return;
    memcpy(blocks_room(conversion->blocks), conversion->fragment, conversion->fragment_size);
    buffer_put64(&conversion->fragments, blocks_give(conversion->blocks, conversion->fragment_size, false));
    buffer_put32(&conversion->fragments, 0);
    conversion->fragment_count++;
    conversion->fragment_size = 0;
}

static void put_into_fragment(struct conversion *conversion, struct record *record, size_t size)
{
    if (conversion->fragment_size + size > BLOCK_SIZE)
        flush_fragment(conversion);
    tar_data(conversion->tar, conversion->fragment + conversion->fragment_size, size);
    record->fragment = conversion->fragment_count;
    record->fragment_offset = (uint32_t)conversion->fragment_size;
    conversion->fragment_size += size;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return !data[0] && !memcmp(data, data + 1, size - 1);
}

static void put_hole(struct conversion *conversion, struct record *record, size_t size)
{
    if (++conversion->holes > HOLES_LIMIT)
        bad("%s: too large a file, with too little in it", SHOWN(record->path));
    buffer_put32(&conversion->list, 0);
    record->sparse += size;
}

/* The bytes from `at` on, zeros where the segments leave some out. False: they are a hole. */
static bool fill(struct conversion *conversion, const struct member *member, size_t *segment, uint64_t at, uint8_t *to, size_t size)
{
    if (!member->sparse) {
        tar_data(conversion->tar, to, size);
        return !is_zero(to, size);
    }
    bool any = false;
    for (; *segment < member->segment_count && member->segments[*segment].offset < at + size; ++*segment) {
        struct segment each = member->segments[*segment];
        uint64_t start = each.offset > at ? each.offset : at, end = each.offset + each.size;
        uint64_t stop_at = end < at + size ? end : at + size;
        if (!any)
            memset(to, 0, size);
        any = true;
        if (stop_at > start)
            tar_data(conversion->tar, to + (start - at), stop_at - start);
        if (end > at + size)
            break;
    }
    return any && !is_zero(to, size);
}

static bool is_stored(struct conversion *conversion, const struct member *member, const char *path)
{
    if (matches(conversion->options->hot, path, false))
        return true;
    uint64_t cost = member->size / 8 * 5; /* what compressing programs and their modules saves */
    if (cost > conversion->budget || !matches(conversion->options->warm, path, false))
        return false;
    conversion->budget -= cost;
    return true;
}

static void put_file(struct conversion *conversion, const struct member *member, struct record *record)
{
    char path[PATH_LIMIT + 1];
    memcpy(path, member->path.at, member->path.size);
    path[member->path.size] = 0;
    bool stored = is_stored(conversion, member, path);
    bool alone = stored || conversion->options->all_alone || member->sparse || matches(conversion->options->alone, path, false);
    uint64_t first = UINT64_MAX, left = member->size;
    size_t segment = 0;
    while (left) {
        size_t size = left < BLOCK_SIZE ? (size_t)left : BLOCK_SIZE;
        if (member->size < BLOCK_SIZE && !alone) { /* the end of a larger file is read sooner where it stands */
            put_into_fragment(conversion, record, size);
            break;
        }
        if (member->sparse && segment == member->segment_count && size == BLOCK_SIZE) {
            put_hole(conversion, record, size);
        } else if (fill(conversion, member, &segment, member->size - left, blocks_room(conversion->blocks), size)) {
            uint64_t number = blocks_give(conversion->blocks, size, stored);
            first = first < number ? first : number;
            buffer_put32(&conversion->list, FIRST_BLOCK);
        } else {
            put_hole(conversion, record, size);
        }
        left -= size;
    }
    record->start = first;
    record->blocks = conversion->list.data;
    record->block_count = (uint32_t)(conversion->list.size / 4);
}

static void put_member(struct conversion *conversion, const struct member *member)
{
    struct record record = {
        .kind = member->kind, .mode = member->mode, .uid = member->uid, .gid = member->gid, .mtime = member->mtime,
        .major = member->major, .minor = member->minor, .attributes = set_of(conversion, member), .path = member->path,
        .target = member->target, .size = member->size, .fragment = NO_FRAGMENT};
    conversion->list.size = 0;
    if (member->kind == KIND_FILE)
        put_file(conversion, member, &record);
    record_put(&conversion->records, &record);
    conversion->record_count++;
}

/* Gives records and fragments the places that their blocks have got. */
static void place(struct conversion *conversion, const struct written *written)
{
    uint8_t *at = conversion->records.data;
    for (uint32_t i = 0; i < conversion->record_count; i++) {
        uint8_t *blocks = at + RECORD_SIZE + load32(at + RECORD_PATH) + load32(at + RECORD_TARGET);
        uint32_t count = load32(at + RECORD_BLOCKS);
        uint64_t number = load64(at + RECORD_START);
        store64(at + RECORD_START, count && number < written->count ? written->places[number] : 0);
        for (uint32_t j = 0; j < count; j++)
            if (load32(blocks + 4ULL * j))
                store32(blocks + 4ULL * j, written->sizes[number++]);
        at = blocks + 4ULL * count;
    }
    for (uint32_t i = 0; i < conversion->fragment_count; i++) {
        uint8_t *fragment = conversion->fragments.data + 12ULL * i;
        uint64_t number = load64(fragment);
        store64(fragment, written->places[number]);
        store32(fragment + 8, written->sizes[number]);
    }
}

/* Files with the same blocks */

struct twin {
    uint64_t hash, start, size; /* of the blocks' sizes; where they are, and how many bytes they have */
    uint8_t *record;
};

static int by_hash(const void *one, const void *other)
{
    const struct twin *a = one, *b = other;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return a->start < b->start ? -1 : a->start > b->start;
}

static bool same_bytes(int fd, uint64_t one, uint64_t other, uint64_t size)
{
    uint8_t a[16384], b[16384];
    for (uint64_t done = 0; done < size;) {
        size_t step = size - done < sizeof a ? (size_t)(size - done) : sizeof a;
        if (pread(fd, a, step, (off_t)(LAYER_DATA + one + done)) != (ssize_t)step ||
            pread(fd, b, step, (off_t)(LAYER_DATA + other + done)) != (ssize_t)step || memcmp(a, b, step))
            return false;
        done += step;
    }
    return true;
}

/* Blocks that are there twice are written already, but whoever merges copies only what a record speaks of. */
static void find_twins(struct conversion *conversion, int fd)
{
    struct twin *twins = must_allocate(conversion->record_count * sizeof *twins);
    uint8_t *at = conversion->records.data;
    size_t count = 0;
    for (uint32_t i = 0; i < conversion->record_count; i++) {
        uint8_t *blocks = at + RECORD_SIZE + load32(at + RECORD_PATH) + load32(at + RECORD_TARGET);
        uint32_t number = load32(at + RECORD_BLOCKS);
        struct twin twin = {hash(blocks, 4ULL * number, 0), load64(at + RECORD_START), 0, at};
        for (uint32_t j = 0; j < number; j++)
            twin.size += load32(blocks + 4ULL * j) & (STORED - 1);
        if (twin.size)
            twins[count++] = twin;
        at = blocks + 4ULL * number;
    }
    if (count)
        qsort(twins, count, sizeof *twins, by_hash);
    for (size_t i = 1; i < count; i++) {
        struct twin *first = &twins[i - 1], *second = &twins[i];
        if (first->hash != second->hash || first->size != second->size || !same_bytes(fd, first->start, second->start, first->size))
            continue;
        store64(second->record + RECORD_START, first->start);
        second->start = first->start;
    }
    free(twins);
}

static void write_rest(const struct conversion *conversion, int fd, const struct written *written)
{
    const struct buffer *parts[] = {&conversion->records, &conversion->sets, &conversion->fragments};
    uint8_t head[LAYER_DATA] = LAYER_MAGIC;
    uint64_t offset = LAYER_DATA + written->size;
    uint32_t crc = 0;
    store64(head + HEAD_SIZES, written->size);
    for (size_t i = 0; i < 3; i++) {
        write_at(fd, parts[i]->data, parts[i]->size, offset);
        crc = parts[i]->size ? libdeflate_crc32(crc, parts[i]->data, parts[i]->size) : crc;
        store64(head + HEAD_SIZES + 8 + 8 * i, parts[i]->size);
        offset += parts[i]->size;
    }
    store32(head + HEAD_COMPRESSOR, conversion->options->compressor);
    store32(head + HEAD_RECORDS, conversion->record_count);
    store32(head + HEAD_SETS, conversion->set_count);
    store32(head + HEAD_FRAGMENTS, conversion->fragment_count);
    store32(head + HEAD_DATA_CRC, written->crc);
    store32(head + HEAD_REST_CRC, crc);
    store32(head + HEAD_CRC, libdeflate_crc32(0, head, HEAD_CRC));
    write_at(fd, head, sizeof head, 0);
}

void layer_convert(tar_read_function *read, void *from, int fd, const struct layer_options *options)
{
    struct conversion *conversion = must_allocate(sizeof *conversion);
    struct member member;
    struct written written;
    conversion->options = options;
    conversion->budget = options->budget;
    conversion->tar = tar_open(read, from);
    conversion->blocks = blocks_start(fd, LAYER_DATA, options->compressor, options->level, options->threads);
    while (tar_next(conversion->tar, &member))
        put_member(conversion, &member);
    flush_fragment(conversion);
    blocks_finish(conversion->blocks, &written);
    place(conversion, &written);
    find_twins(conversion, fd);
    write_rest(conversion, fd, &written);
    tar_close(conversion->tar);
    free(written.sizes);
    free(written.places);
    buffer_free(&conversion->records);
    buffer_free(&conversion->sets);
    buffer_free(&conversion->fragments);
    buffer_free(&conversion->list);
    free(conversion->set_table);
    free(conversion->set_numbers);
    free(conversion);
}
