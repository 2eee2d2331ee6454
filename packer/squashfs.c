/* Writes the tables of a squashfs 4.0 file system. Format: Linux, fs/squashfs/squashfs_fs.h; that of the kernel's checks too: each
 * table ends where the next one begins. */
#include "squashfs.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC 0x73717368U
#define BLOCK_LOG 17U
#define FLAGS 0x0080U /* inodes can be found by number */
#define NOTHING UINT64_MAX
#define NO_ATTRIBUTES UINT32_MAX
#define IDS_LIMIT 65535U
#define HEADER_LIMIT 256U /* entries behind one header of a directory */
#define EMPTY_SIZE 3U     /* that of a directory without entries: for "." and ".." */
#define WHOLE_BLOCK (METADATA_SIZE + 2)

enum type { TYPE_DIRECTORY = 1, TYPE_FILE, TYPE_LINK, TYPE_BLOCK, TYPE_CHARACTER, TYPE_FIFO, TYPE_SOCKET, EXTENDED = 7 };

struct ids {
    uint32_t *table; /* by hash: id, and the number plus 1 */
    uint32_t room, count;
    struct buffer all;
};

/* A directory that is being written, and those above it. */
struct open_directory {
    uint32_t node, *below, count, done, directories;
};

struct writer {
    struct image *image;
    struct names *names;
    struct squeeze *squeeze;
    struct buffer inodes, lookup, attributes, attribute_ids; /* inodes: those that are not in the file yet */
    struct buffer directories, packed, starts; /* and their blocks, compressed, with where each begins, 8 bytes */
    uint64_t inodes_start;
    uint32_t inode_count, **sets; /* of each layer: the number of a set in the image, plus 1; 0: not there yet */
    struct ids ids;
    struct open_directory *open;
    size_t depth, open_room;
};

/* Metadata: blocks of 8192 bytes, each behind its size. */

static void write_next(struct image *image, const void *data, size_t size)
{
    write_at(image->fd, data, size, image->base + image->at);
    image->at += size;
}

/* One block; how many bytes it has. */
static size_t pack_block(uint8_t block[WHOLE_BLOCK], const uint8_t *data, size_t size, struct squeeze *squeeze)
{
    size_t packed = squeeze_to(squeeze, block + 2, METADATA_SIZE, data, size);
    if (!packed)
        memcpy(block + 2, data, size);
    store16(block, (uint32_t)(packed ? packed : size | STORED_METADATA));
    return (packed ? packed : size) + 2;
}

static void write_block(struct image *image, const uint8_t *data, size_t size, struct squeeze *squeeze)
{
    uint8_t block[WHOLE_BLOCK];
    write_next(image, block, pack_block(block, data, size, squeeze));
}

/* Writes metadata, and the places of its blocks to `pointers`. */
static void write_metadata(struct image *image, const struct buffer *data, struct squeeze *squeeze, struct buffer *pointers)
{
    for (size_t done = 0; done < data->size; done += METADATA_SIZE) {
        size_t size = data->size - done < METADATA_SIZE ? data->size - done : METADATA_SIZE;
        if (pointers)
            buffer_put64(pointers, image->at);
        write_block(image, data->data + done, size, squeeze);
    }
}

/* A table and, behind it, where its blocks are; where that is. */
static uint64_t write_table(struct image *image, const struct buffer *data, struct squeeze *squeeze)
{
    struct buffer pointers = {0};
    write_metadata(image, data, squeeze, &pointers);
    uint64_t start = image->at;
    write_next(image, pointers.data, pointers.size);
    buffer_free(&pointers);
    return start;
}

/* Owners */

static void grow_ids(struct ids *ids)
{
    free(ids->table);
    ids->room = ids->room ? ids->room * 2 : 256;
    ids->table = must_allocate(ids->room * 2 * sizeof *ids->table);
    for (uint32_t i = 0; i < ids->count; i++) {
        uint32_t id = load32(ids->all.data + 4ULL * i), slot = (uint32_t)hash(&id, sizeof id, 0) & (ids->room - 1);
        while (ids->table[2 * slot + 1])
            slot = (slot + 1) & (ids->room - 1);
        ids->table[2 * slot] = id;
        ids->table[2 * slot + 1] = i + 1;
    }
}

static uint32_t number_of_id(struct ids *ids, uint32_t id)
{
    if (ids->count * 2 >= ids->room)
        grow_ids(ids);
    uint32_t slot = (uint32_t)hash(&id, sizeof id, 0) & (ids->room - 1);
    for (; ids->table[2 * slot + 1]; slot = (slot + 1) & (ids->room - 1))
        if (ids->table[2 * slot] == id)
            return ids->table[2 * slot + 1] - 1;
    if (ids->count == IDS_LIMIT)
        bad("more than %u owners: squashfs has no room for them", IDS_LIMIT);
    ids->table[2 * slot] = id;
    ids->table[2 * slot + 1] = ++ids->count;
    buffer_put32(&ids->all, id);
    return ids->count - 1;
}

/* Extended attributes */

static const char *const prefixes[] = {"user.", "trusted.", "security."};

/* Adds a set of attributes; its number. */
static uint32_t add_set(struct writer *writer, const struct layer *layer, uint32_t set)
{
    const uint8_t *at = layer->sets[set - 1] + 4;
    uint64_t start = writer->attributes.size;
    uint32_t count = 0, size = 0;
    for (uint32_t i = layer_attribute_count(layer, set); i; i--) {
        struct attribute each;
        uint32_t type = 0;
        at = layer_attribute(at, &each);
        while (type < 3 && !text_begins(each.name, prefixes[type]))
            type++;
        if (type == 3)
            continue;
        size_t prefix = strlen(prefixes[type]);
        buffer_put16(&writer->attributes, type);
        buffer_put16(&writer->attributes, (uint32_t)(each.name.size - prefix));
        buffer_put(&writer->attributes, each.name.at + prefix, each.name.size - prefix);
        buffer_put32(&writer->attributes, (uint32_t)each.value.size);
        buffer_put(&writer->attributes, each.value.at, each.value.size);
        size += (uint32_t)(each.name.size + 1);
        count++;
    }
    if (!count)
        return NO_ATTRIBUTES;
    buffer_put64(&writer->attribute_ids, start); /* a reference, when the blocks are written */
    buffer_put32(&writer->attribute_ids, count);
    buffer_put32(&writer->attribute_ids, size);
    return (uint32_t)(writer->attribute_ids.size / 16 - 1);
}

/* The number of a record's set of attributes in the image. What squashfs has no name for is counted. */
static uint32_t set_of(struct writer *writer, const struct content *content, const struct record *record)
{
    if (!record->attributes)
        return NO_ATTRIBUTES;
    const struct layer *layer = &writer->names->layers[content->layer];
    uint32_t **sets = &writer->sets[content->layer];
    if (!*sets)
        *sets = must_allocate(layer->set_count * sizeof **sets);
    const uint8_t *at = layer->sets[record->attributes - 1] + 4;
    bool lost = false;
    for (uint32_t i = layer_attribute_count(layer, record->attributes); i; i--) {
        struct attribute each;
        at = layer_attribute(at, &each);
        lost |= !text_begins(each.name, prefixes[0]) && !text_begins(each.name, prefixes[1]) && !text_begins(each.name, prefixes[2]);
    }
    writer->image->losses_of_attributes += lost;
    uint32_t *known = &(*sets)[record->attributes - 1];
    if (!*known)
        *known = add_set(writer, layer, record->attributes) + 1; /* 0 again for one of which nothing is kept */
    return *known ? *known - 1 : NO_ATTRIBUTES;
}

/* Inodes */

static uint32_t time_of(struct writer *writer, const struct record *record)
{
    struct image *image = writer->image;
    int64_t time = record->mtime;
    if (time < 0 || time > UINT32_MAX) {
        image->losses_of_times++;
        time = time < 0 ? 0 : UINT32_MAX;
    }
    return (uint32_t)(image->epoch >= 0 && time > image->epoch ? image->epoch : time);
}

/* Writes the blocks that are full: so it is known where the next inode will be. */
static void write_inodes(struct writer *writer, bool all)
{
    size_t done = 0;
    for (; writer->inodes.size - done >= METADATA_SIZE; done += METADATA_SIZE)
        write_block(writer->image, writer->inodes.data + done, METADATA_SIZE, writer->squeeze);
    writer->inodes.size -= done;
    if (writer->inodes.size)
        memmove(writer->inodes.data, writer->inodes.data + done, writer->inodes.size);
    if (all && writer->inodes.size)
        write_block(writer->image, writer->inodes.data, writer->inodes.size, writer->squeeze);
}

/* What all inodes begin with. */
static void begin_inode(struct writer *writer, struct content *content, const struct record *record, uint32_t type)
{
    struct buffer *inodes = &writer->inodes;
    if (inodes->size >= METADATA_SIZE)
        write_inodes(writer, false);
    content->place = (writer->image->at - writer->inodes_start) << 16 | inodes->size;
    buffer_put16(inodes, type);
    buffer_put16(inodes, record->mode);
    buffer_put16(inodes, number_of_id(&writer->ids, record->uid));
    buffer_put16(inodes, number_of_id(&writer->ids, record->gid));
    buffer_put32(inodes, time_of(writer, record));
    buffer_put32(inodes, content->number);
}

uint64_t carried_place(const struct carried *carried, uint64_t start)
{
    size_t low = 0, high = carried->count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (carried->runs[middle].start <= start)
            low = middle;
        else
            high = middle;
    }
    return carried->runs[low].place + (start - carried->runs[low].start);
}

static void put_file(struct writer *writer, struct content *content, const struct record *record, uint32_t set)
{
    struct buffer *inodes = &writer->inodes;
    const struct carried *carried = &writer->image->carried[content->layer];
    bool any = false;
    for (uint32_t i = 0; i < record->block_count; i++)
        any |= load32(record->blocks + 4ULL * i) != 0;
    uint64_t start = any ? carried_place(carried, record->start) : 0;
    uint32_t fragment = record->fragment == NO_FRAGMENT ? NO_FRAGMENT : carried->fragments[record->fragment] - 1;
    bool extended = start > UINT32_MAX || record->size > UINT32_MAX || record->sparse || content->names > 1 || set != NO_ATTRIBUTES;
    begin_inode(writer, content, record, TYPE_FILE + (extended ? EXTENDED : 0));
    if (extended) {
        buffer_put64(inodes, start);
        buffer_put64(inodes, record->size);
        buffer_put64(inodes, record->sparse);
        buffer_put32(inodes, content->names);
    } else {
        buffer_put32(inodes, (uint32_t)start);
    }
    buffer_put32(inodes, fragment);
    buffer_put32(inodes, record->fragment_offset);
    buffer_put32(inodes, extended ? set : (uint32_t)record->size);
    buffer_put(inodes, record->blocks, 4ULL * record->block_count);
}

static uint32_t type_of(enum kind kind)
{
    switch (kind) {
    case KIND_DIRECTORY: return TYPE_DIRECTORY;
    case KIND_LINK: return TYPE_LINK;
    case KIND_BLOCK: return TYPE_BLOCK;
    case KIND_CHARACTER: return TYPE_CHARACTER;
    case KIND_FIFO: return TYPE_FIFO;
    case KIND_SOCKET: return TYPE_SOCKET;
    default: return TYPE_FILE;
    }
}

static void put_inode(struct writer *writer, uint32_t node)
{
    struct content *content = &writer->names->contents[writer->names->nodes[node].content];
    struct buffer *inodes = &writer->inodes;
    struct record record;
    if (content->number)
        return;
    content->number = ++writer->inode_count;
    names_record(writer->names, node, &record);
    uint32_t set = set_of(writer, content, &record), type = type_of(record.kind);
    if (type == TYPE_FILE) {
        put_file(writer, content, &record, set);
        return;
    }
    begin_inode(writer, content, &record, type + (set != NO_ATTRIBUTES ? EXTENDED : 0));
    buffer_put32(inodes, content->names);
    if (type == TYPE_LINK) {
        buffer_put32(inodes, (uint32_t)record.target.size);
        buffer_put(inodes, record.target.at, record.target.size);
    } else if (type == TYPE_BLOCK || type == TYPE_CHARACTER) {
        buffer_put32(inodes, record.major << 8 | (record.minor & 0xFF) | (record.minor & ~0xFFU) << 12);
    }
    if (set != NO_ATTRIBUTES)
        buffer_put32(inodes, set);
}

/* Directories */

/* The entries of a directory while they are written. */
struct listing {
    uint64_t start, header; /* in all directories */
    uint32_t count;         /* behind the header */
    uint64_t inodes;        /* the block of inodes that the header is for */
    uint32_t first;         /* inode number that the others are told from */
    struct buffer index;
    uint32_t index_count;
};

/* Compresses the blocks that are full, and at the end the last one. Nobody changes what is in them any more: a header counts the
 * entries behind it in its own block, and the next one has begun. */
static void pack_directories(struct writer *writer, bool all)
{
    for (;;) {
        size_t done = writer->starts.size / 8 * METADATA_SIZE, left = writer->directories.size - done;
        if (left < METADATA_SIZE && !(all && left))
            return;
        uint8_t block[WHOLE_BLOCK];
        size_t size = pack_block(block, writer->directories.data + done, left < METADATA_SIZE ? left : METADATA_SIZE, writer->squeeze);
        buffer_put64(&writer->starts, writer->packed.size);
        buffer_put(&writer->packed, block, size);
        if (left <= METADATA_SIZE)
            return;
    }
}

/* Where the block begins that has this byte of all directories; those before the last one are packed. */
static uint32_t directory_block(const struct writer *writer, uint64_t position)
{
    uint64_t number = position / METADATA_SIZE;
    uint64_t start = number < writer->starts.size / 8 ? load64(writer->starts.data + 8 * number) : writer->packed.size;
    if (start > UINT32_MAX)
        bad("more than 4 GiB of names");
    return (uint32_t)start;
}

static void put_header(struct writer *writer, struct listing *listing, const struct content *content, struct text name)
{
    struct buffer *all = &writer->directories;
    uint64_t last = listing->header, here = all->size;
    pack_directories(writer, false);
    if (here / METADATA_SIZE != last / METADATA_SIZE && here != listing->start) {
        buffer_put32(&listing->index, (uint32_t)(here - listing->start));
        buffer_put32(&listing->index, directory_block(writer, here));
        buffer_put32(&listing->index, (uint32_t)name.size - 1);
        buffer_put(&listing->index, name.at, name.size);
        listing->index_count++;
    }
    listing->header = here;
    listing->count = 0;
    listing->inodes = content->place >> 16;
    listing->first = content->number;
    buffer_put32(all, 0);
    buffer_put32(all, (uint32_t)listing->inodes);
    buffer_put32(all, content->number);
}

static void put_entry(struct writer *writer, struct listing *listing, uint32_t node)
{
    const struct node *each = &writer->names->nodes[node];
    const struct content *content = &writer->names->contents[each->content];
    struct buffer *all = &writer->directories;
    struct record record;
    int64_t distance = (int64_t)content->number - listing->first;
    bool fits = all->size != listing->start && listing->count < HEADER_LIMIT && listing->inodes == content->place >> 16 &&
                distance >= -32768 && distance <= 32767 && all->size / METADATA_SIZE == listing->header / METADATA_SIZE;
    if (!fits) {
        put_header(writer, listing, content, each->name);
        distance = 0;
    }
    names_record(writer->names, node, &record);
    store32(all->data + listing->header, listing->count++);
    buffer_put16(all, (uint32_t)(content->place & 0xFFFF));
    buffer_put16(all, (uint32_t)distance & 0xFFFF);
    buffer_put16(all, type_of(record.kind));
    buffer_put16(all, (uint32_t)each->name.size - 1);
    buffer_put(all, each->name.at, each->name.size);
}

static void put_directory_inode(struct writer *writer, const struct open_directory *open, const struct listing *listing)
{
    struct names *names = writer->names;
    struct content *content = &names->contents[names->nodes[open->node].content];
    struct buffer *inodes = &writer->inodes;
    struct record record;
    names_record(names, open->node, &record);
    uint32_t set = set_of(writer, content, &record);
    uint64_t size = writer->directories.size - listing->start + EMPTY_SIZE;
    pack_directories(writer, false);
    uint32_t block = directory_block(writer, listing->start), offset = (uint32_t)(listing->start % METADATA_SIZE);
    uint32_t above = open->node == ROOT ? writer->inode_count + 1
                                        : names->contents[names->nodes[names->nodes[open->node].above].content].number;
    if (size > UINT32_MAX)
        bad("a directory with more than 4 GiB of names");
    bool extended = size > 0xFFFF || set != NO_ATTRIBUTES || listing->index_count;
    begin_inode(writer, content, &record, TYPE_DIRECTORY + (extended ? EXTENDED : 0));
    if (!extended) {
        buffer_put32(inodes, block);
        buffer_put32(inodes, open->directories + 2);
        buffer_put16(inodes, (uint32_t)size);
        buffer_put16(inodes, offset);
        buffer_put32(inodes, above);
        return;
    }
    buffer_put32(inodes, open->directories + 2);
    buffer_put32(inodes, (uint32_t)size);
    buffer_put32(inodes, block);
    buffer_put32(inodes, above);
    buffer_put16(inodes, listing->index_count);
    buffer_put16(inodes, offset);
    buffer_put32(inodes, set);
    buffer_put(inodes, listing->index.data, listing->index.size);
}

static int by_name(const void *one, const void *other, void *about)
{
    const struct node *nodes = about;
    struct text a = nodes[*(const uint32_t *)one].name, b = nodes[*(const uint32_t *)other].name;
    int order = memcmp(a.at, b.at, a.size < b.size ? a.size : b.size);
    return order ? order : a.size < b.size ? -1 : a.size > b.size;
}

static void open_directory(struct writer *writer, uint32_t node)
{
    struct names *names = writer->names;
    struct open_directory open = {.node = node};
    for (uint32_t each = names->nodes[node].first; each != NOWHERE; each = names->nodes[each].next)
        open.count += names->nodes[each].kind != NODE_GONE;
    open.below = must_allocate(open.count * sizeof *open.below);
    open.count = 0;
    for (uint32_t each = names->nodes[node].first; each != NOWHERE; each = names->nodes[each].next)
        if (names->nodes[each].kind != NODE_GONE)
            open.below[open.count++] = each;
    qsort_r(open.below, open.count, sizeof *open.below, by_name, names->nodes);
    names->contents[names->nodes[node].content].number = ++writer->inode_count;
    if (writer->depth == writer->open_room) {
        writer->open_room = writer->open_room * 2 + 16;
        writer->open = must_resize(writer->open, writer->open_room * sizeof *writer->open);
    }
    writer->open[writer->depth++] = open;
}

static void close_directory(struct writer *writer)
{
    struct open_directory *open = &writer->open[--writer->depth];
    struct listing listing = {.start = writer->directories.size, .header = writer->directories.size};
    for (uint32_t i = 0; i < open->count; i++)
        put_entry(writer, &listing, open->below[i]);
    put_directory_inode(writer, open, &listing);
    buffer_free(&listing.index);
    free(open->below);
}

/* All inodes and directories: what is in a directory before the directory itself. */
static void put_tree(struct writer *writer)
{
    open_directory(writer, ROOT);
    while (writer->depth) {
        struct open_directory *open = &writer->open[writer->depth - 1];
        if (open->done == open->count) {
            close_directory(writer);
            continue;
        }
        uint32_t node = open->below[open->done++];
        if (writer->names->nodes[node].kind == NODE_DIRECTORY) {
            open->directories++;
            open_directory(writer, node);
        } else {
            put_inode(writer, node);
        }
    }
}

static uint64_t write_attributes(struct writer *writer, struct squeeze *squeeze)
{
    struct image *image = writer->image;
    struct buffer places = {0}, pointers = {0};
    uint8_t head[16] = {0};
    if (!writer->attribute_ids.size)
        return NOTHING;
    uint64_t start = image->at;
    write_metadata(image, &writer->attributes, squeeze, &places);
    for (uint8_t *each = writer->attribute_ids.data; each < writer->attribute_ids.data + writer->attribute_ids.size; each += 16) {
        uint64_t position = load64(each), block = load64(places.data + position / METADATA_SIZE * 8) - start;
        store64(each, block << 16 | position % METADATA_SIZE);
    }
    write_metadata(image, &writer->attribute_ids, squeeze, &pointers);
    uint64_t table = image->at;
    store64(head, start);
    store32(head + 8, (uint32_t)(writer->attribute_ids.size / 16));
    write_next(image, head, sizeof head);
    write_next(image, pointers.data, pointers.size);
    buffer_free(&places);
    buffer_free(&pointers);
    return table;
}

static void put_lookup(struct writer *writer)
{
    struct names *names = writer->names;
    memset(buffer_add(&writer->lookup, 8ULL * writer->inode_count), 0, 8ULL * writer->inode_count);
    for (uint32_t i = 0; i < names->count; i++) {
        const struct content *content = &names->contents[names->nodes[i].content];
        if (names->nodes[i].kind != NODE_GONE)
            store64(writer->lookup.data + 8ULL * (content->number - 1), content->place);
    }
}

static void free_writer(struct writer *writer, uint32_t layers)
{
    for (uint32_t i = 0; i < layers; i++)
        free(writer->sets[i]);
    free(writer->sets);
    free(writer->open);
    free(writer->ids.table);
    struct buffer *buffers[] = {&writer->inodes, &writer->directories, &writer->packed, &writer->starts, &writer->lookup,
                                &writer->attributes, &writer->attribute_ids, &writer->ids.all};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_free(buffers[i]);
}

void squashfs_write(struct image *image, struct names *names)
{
    struct squeeze *squeeze = squeeze_make(image->compressor, image->level);
    struct writer writer = {.image = image, .names = names, .squeeze = squeeze, .inodes_start = image->at};
    uint8_t superblock[SUPERBLOCK_SIZE] = {0};
    writer.sets = must_allocate(names->layer * sizeof *writer.sets);
    put_tree(&writer);
    write_inodes(&writer, true);
    uint64_t directories = image->at;
    pack_directories(&writer, true);
    write_next(image, writer.packed.data, writer.packed.size);
    uint64_t fragments = write_table(image, &image->fragments, squeeze);
    put_lookup(&writer);
    uint64_t lookup = write_table(image, &writer.lookup, squeeze), ids = write_table(image, &writer.ids.all, squeeze);
    uint64_t attributes = write_attributes(&writer, squeeze);
    store32(superblock, MAGIC);
    store32(superblock + 4, writer.inode_count);
    store32(superblock + 8, image->made);
    store32(superblock + 12, BLOCK_SIZE);
    store32(superblock + 16, (uint32_t)(image->fragments.size / 16));
    store16(superblock + 20, image->compressor);
    store16(superblock + 22, BLOCK_LOG);
    store16(superblock + 24, FLAGS);
    store16(superblock + 26, writer.ids.count);
    store16(superblock + 28, 4);
    store64(superblock + 32, names->contents[names->nodes[ROOT].content].place);
    const uint64_t places[] = {image->at, ids, attributes, writer.inodes_start, directories, fragments, lookup};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        store64(superblock + 40 + 8 * i, places[i]);
    write_at(image->fd, superblock, sizeof superblock, image->base);
    squeeze_free(squeeze);
    free_writer(&writer, names->layer);
}
