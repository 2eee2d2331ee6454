/* Layer files, read: mapped, checked, and taken apart. */
#include "layer.h"

#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layer_format.h"

static _Noreturn void broken(const struct layer *layer)
{
    damaged("%s: damaged", layer->name);
}

static void map(struct layer *layer)
{
    struct stat status;
    if (fstat(layer->fd, &status) != 0)
        stop(errno, "%s", layer->name);
    if (status.st_size < LAYER_DATA)
        broken(layer);
    layer->mapped_size = (size_t)status.st_size;
    void *mapped = mmap(NULL, layer->mapped_size, PROT_READ, MAP_SHARED, layer->fd, 0);
    if (mapped == MAP_FAILED)
        stop(errno, "%s", layer->name);
    layer->mapped = mapped;
}

/* The parts of the file, as the head has them. */
static void find_parts(struct layer *layer)
{
    const uint8_t *head = layer->mapped;
    bool known = !memcmp(head, LAYER_MAGIC, sizeof LAYER_MAGIC - 1) &&
                 load32(head + HEAD_CRC) == libdeflate_crc32(0, head, HEAD_CRC);
    uint64_t sizes[4], end = LAYER_DATA;
    for (size_t i = 0; i < 4; i++) {
        sizes[i] = load64(head + HEAD_SIZES + 8 * i);
        known &= known && sizes[i] <= layer->mapped_size - end;
        end += known ? sizes[i] : 0;
    }
    if (!known || end != layer->mapped_size)
        broken(layer);
    const char *behind = (const char *)layer->mapped + LAYER_DATA + sizes[0];
    layer->data_size = sizes[0];
    layer->records = (struct text){behind, (size_t)sizes[1]};
    layer->attributes = (struct text){behind + sizes[1], (size_t)sizes[2]};
    layer->fragments = (struct text){behind + sizes[1] + sizes[2], (size_t)sizes[3]};
    layer->compressor = (enum compressor)load32(head + HEAD_COMPRESSOR);
    layer->record_count = load32(head + HEAD_RECORDS);
    layer->set_count = load32(head + HEAD_SETS);
    layer->fragment_count = load32(head + HEAD_FRAGMENTS);
    size_t rest = layer->records.size + layer->attributes.size + layer->fragments.size;
    if (load32(head + HEAD_REST_CRC) != libdeflate_crc32(0, behind, rest) || layer->fragments.size / 12 < layer->fragment_count)
        broken(layer);
}

/* Reads all data: in memory already, mostly, since it was just written or is about to be copied. */
static void check_data(const struct layer *layer)
{
    uint32_t crc = 0;
    madvise((void *)(uintptr_t)layer->mapped, layer->mapped_size, MADV_SEQUENTIAL);
    for (uint64_t done = 0, step; done < layer->data_size; done += step) {
        step = layer->data_size - done < CHECK_STEP ? layer->data_size - done : CHECK_STEP;
        const uint8_t *at = layer->mapped + LAYER_DATA + done;
        crc = libdeflate_crc32(crc, at, step);
        /* LAYER_DATA and CHECK_STEP are whole pages: what was read need not be counted as memory of ours. */
        madvise((void *)(uintptr_t)at, step / 4096 * 4096, MADV_DONTNEED);
    }
    if (crc != load32(layer->mapped + HEAD_DATA_CRC))
        broken(layer);
}

static void find_sets(struct layer *layer)
{
    const uint8_t *at = (const uint8_t *)layer->attributes.at, *end = at + layer->attributes.size;
    layer->sets = must_allocate(layer->set_count * sizeof *layer->sets);
    for (uint32_t i = 0; i < layer->set_count; i++) {
        layer->sets[i] = at;
        if (end - at < 4)
            broken(layer);
        uint32_t count = load32(at);
        at += 4;
        for (uint32_t j = 0; j < count; j++) {
            if (end - at < 8 || load32(at) > (size_t)(end - at - 8) || load32(at + 4) > (size_t)(end - at - 8) - load32(at))
                broken(layer);
            at += 8 + load32(at) + load32(at + 4);
        }
    }
}

void layer_open(struct layer *layer, int fd, const char *name)
{
    *layer = (struct layer){.name = name, .fd = fd};
    map(layer);
    find_parts(layer);
    check_data(layer);
    find_sets(layer);
}

void layer_close(struct layer *layer)
{
    munmap((void *)(uintptr_t)layer->mapped, layer->mapped_size);
    close(layer->fd);
    free(layer->sets);
}

void record_put(struct buffer *buffer, const struct record *record)
{
    uint8_t *at = buffer_add(buffer, RECORD_SIZE + record->path.size + record->target.size + 4ULL * record->block_count);
    at[RECORD_KIND] = (uint8_t)record->kind;
    at[RECORD_KIND + 1] = 0;
    store16(at + RECORD_MODE, record->mode);
    store32(at + RECORD_UID, record->uid);
    store32(at + RECORD_GID, record->gid);
    store64(at + RECORD_TIME, (uint64_t)record->mtime);
    store32(at + RECORD_MAJOR, record->major);
    store32(at + RECORD_MINOR, record->minor);
    store32(at + RECORD_ATTRIBUTES, record->attributes);
    store32(at + RECORD_PATH, (uint32_t)record->path.size);
    store32(at + RECORD_TARGET, (uint32_t)record->target.size);
    store64(at + RECORD_FILE_SIZE, record->size);
    store64(at + RECORD_START, record->start);
    store64(at + RECORD_SPARSE, record->sparse);
    store32(at + RECORD_FRAGMENT, record->fragment);
    store32(at + RECORD_FRAGMENT_OFFSET, record->fragment_offset);
    store32(at + RECORD_BLOCKS, record->block_count);
    at += RECORD_SIZE;
    if (record->path.size)
        memcpy(at, record->path.at, record->path.size);
    if (record->target.size)
        memcpy(at + record->path.size, record->target.at, record->target.size);
    if (record->block_count)
        memcpy(at + record->path.size + record->target.size, record->blocks, 4ULL * record->block_count);
}

/* Whether what a record says of its data is in the file. */
static bool has_its_data(const struct layer *layer, const struct record *record)
{
    uint64_t in_blocks = 0, whole = record->size / BLOCK_SIZE, tail = record->size % BLOCK_SIZE;
    if (record->kind != KIND_FILE)
        return !record->block_count;
    for (uint32_t i = 0; i < record->block_count; i++)
        in_blocks += load32(record->blocks + 4ULL * i) & (STORED - 1);
    bool in_fragment = record->fragment != NO_FRAGMENT;
    if (record->block_count != whole + (tail && !in_fragment) || (in_fragment && !tail))
        return false;
    if (in_fragment && (record->fragment >= layer->fragment_count || record->fragment_offset > BLOCK_SIZE - tail))
        return false;
    return in_blocks <= layer->data_size && record->start <= layer->data_size - in_blocks;
}

size_t layer_record(const struct layer *layer, size_t at, struct record *record)
{
    const uint8_t *from = (const uint8_t *)layer->records.at + at;
    size_t left = layer->records.size - at;
    if (left < RECORD_SIZE)
        broken(layer);
    *record = (struct record){
        .kind = from[RECORD_KIND], .mode = load16(from + RECORD_MODE), .uid = load32(from + RECORD_UID),
        .gid = load32(from + RECORD_GID), .mtime = (int64_t)load64(from + RECORD_TIME), .major = load32(from + RECORD_MAJOR),
        .minor = load32(from + RECORD_MINOR), .attributes = load32(from + RECORD_ATTRIBUTES),
        .path = {(const char *)from + RECORD_SIZE, load32(from + RECORD_PATH)}, .size = load64(from + RECORD_FILE_SIZE),
        .start = load64(from + RECORD_START), .sparse = load64(from + RECORD_SPARSE),
        .fragment = load32(from + RECORD_FRAGMENT), .fragment_offset = load32(from + RECORD_FRAGMENT_OFFSET),
        .block_count = load32(from + RECORD_BLOCKS)};
    size_t target = load32(from + RECORD_TARGET), size = RECORD_SIZE + record->path.size + target + 4ULL * record->block_count;
    record->target = (struct text){record->path.at + record->path.size, target};
    record->blocks = (const uint8_t *)record->target.at + target;
    if (size > left || record->attributes > layer->set_count || !has_its_data(layer, record))
        broken(layer);
    return at + size;
}

uint32_t layer_attribute_count(const struct layer *layer, uint32_t set)
{
    return set ? load32(layer->sets[set - 1]) : 0;
}

const uint8_t *layer_attribute(const uint8_t *at, struct attribute *attribute)
{
    attribute->name = (struct text){(const char *)at + 8, load32(at)};
    attribute->value = (struct text){attribute->name.at + attribute->name.size, load32(at + 4)};
    return at + 8 + attribute->name.size + attribute->value.size;
}

uint64_t layer_fragment(const struct layer *layer, uint32_t number, uint32_t *size)
{
    const uint8_t *at = (const uint8_t *)layer->fragments.at + 12ULL * number;
    uint64_t place = load64(at);
    *size = load32(at + 8);
    if ((*size & (STORED - 1)) > layer->data_size || place > layer->data_size - (*size & (STORED - 1)))
        broken(layer);
    return place;
}

/* A block of a file or a fragment; how many bytes there are. */
static size_t read_block(const struct layer *layer, uint64_t place, uint32_t size, uint8_t *to)
{
    const uint8_t *from = layer->mapped + LAYER_DATA + place;
    size_t packed = size & (STORED - 1), used = packed;
    if (!(size & STORED)) {
        if (!expand(layer->compressor, to, BLOCK_SIZE, &used, from, packed))
            broken(layer);
    } else if (packed <= BLOCK_SIZE) {
        memcpy(to, from, packed);
    } else {
        broken(layer);
    }
    return used;
}

void layer_content(const struct layer *layer, const struct record *record, void (*give)(void *to, const void *data, size_t size),
                   void *to)
{
    uint8_t *room = must_allocate(BLOCK_SIZE);
    uint64_t place = record->start, left = record->size;
    for (uint32_t i = 0; i < record->block_count; i++) {
        uint32_t size = load32(record->blocks + 4ULL * i);
        size_t wanted = left < BLOCK_SIZE ? (size_t)left : BLOCK_SIZE;
        if (!size)
            memset(room, 0, wanted);
        else if (read_block(layer, place, size, room) != wanted)
            broken(layer);
        give(to, room, wanted);
        left -= wanted;
        place += size & (STORED - 1);
    }
    if (left) {
        uint32_t size;
        place = layer_fragment(layer, record->fragment, &size);
        if (read_block(layer, place, size, room) < record->fragment_offset + left)
            broken(layer);
        give(to, room + record->fragment_offset, (size_t)left);
    }
    free(room);
}
