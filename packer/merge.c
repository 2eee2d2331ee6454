/* Layer files become a squashfs file system. Only what is left of a layer is copied; where the file system can, as a second
 * owner of the same extents, and else by the kernel. */
#include "merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYERS_LIMIT 4096U
#define PAGE 4096U
#define SHARED_SIZE (1U << 16) /* from so many bytes on, a part is placed so that its pages can be shared */
#define TOLD_SIZE (1U << 16)

enum wish { WISH_NOTHING, WISH_HOLD, WISH_SHOW, WISH_READ };

struct merging {
    const struct merge_options *options;
    struct layer *layers;
    struct names names;
    struct buffer told;
    struct buffer path;
    uint8_t *wishes;   /* of each node */
    bool link_held;    /* one of `hold_links` */
    uint32_t *held_by; /* of each content: the node that it was handed over by, plus 1 */
};

/* What is told */

static void tell(struct merging *merging, bool all)
{
    if (merging->told.size < TOLD_SIZE && !all)
        return;
    write_out(STDOUT_FILENO, merging->told.data, merging->told.size);
    merging->told.size = 0;
}

static void tell_content(void *to, const void *data, size_t size)
{
    struct merging *merging = to;
    buffer_put(&merging->told, data, size);
    tell(merging, false);
}

/* The path of a node, with a zero byte behind it; there until the next call. */
static struct text path_of(struct merging *merging, uint32_t node)
{
    const struct node *nodes = merging->names.nodes;
    size_t size = 0;
    for (uint32_t each = node; each != ROOT; each = nodes[each].above)
        size += nodes[each].name.size + 1;
    merging->path.size = 0;
    char *room = buffer_add(&merging->path, size + 1), *end = room + size;
    *end = 0;
    for (uint32_t each = node; each != ROOT; each = nodes[each].above) {
        *--end = each == node ? 0 : '/';
        end -= nodes[each].name.size;
        memcpy(end, nodes[each].name.at, nodes[each].name.size);
    }
    return (struct text){room, size ? size - 1 : 0};
}

static void tell_attributes(struct merging *merging, const struct layer *layer, uint32_t set)
{
    const uint8_t *start = set ? layer->sets[set - 1] : NULL, *end = start ? start + 4 : NULL;
    for (uint32_t i = layer_attribute_count(layer, set); i; i--) {
        struct attribute each;
        end = layer_attribute(end, &each);
    }
    if (start)
        buffer_put(&merging->told, start, (size_t)(end - start));
    else
        buffer_put32(&merging->told, 0);
}

/* One member: the size of its record, the record, its attributes, and its content where that is wanted. */
static void tell_node(struct merging *merging, uint32_t node, bool with_content)
{
    struct names *names = &merging->names;
    const struct content *content = &names->contents[names->nodes[node].content];
    const struct layer *layer = &merging->layers[content->layer];
    struct record record, told;
    struct buffer target = {0};
    names_record(names, node, &record);
    told = record;
    told.block_count = 0;
    uint32_t *first = &merging->held_by[names->nodes[node].content];
    if (with_content && names->nodes[node].kind != NODE_DIRECTORY && *first) {
        struct text text = path_of(merging, *first - 1);
        buffer_put(&target, text.at, text.size);
        told.kind = KIND_HARD_LINK;
        told.target = (struct text){(char *)target.data, target.size};
    } else if (merging->wishes[node] == WISH_HOLD) {
        *first = node + 1;
    }
    told.path = path_of(merging, node);
    bool content_follows = told.kind == KIND_FILE && with_content;
    told.size = content_follows ? record.size : 0;
    buffer_put32(&merging->told, (uint32_t)(76 + told.path.size + told.target.size));
    record_put(&merging->told, &told);
    tell_attributes(merging, layer, told.kind == KIND_HARD_LINK ? 0 : record.attributes);
    if (content_follows)
        layer_content(layer, &record, tell_content, merging);
    tell(merging, false);
    buffer_free(&target);
}

static enum wish wish_of(struct merging *merging, uint32_t node)
{
    const struct merge_options *options = merging->options;
    const char *path = path_of(merging, node).at;
    uint8_t kind = merging->names.nodes[node].kind;
    struct record record = {.kind = KIND_DIRECTORY};
    if (kind == NODE_OTHER)
        names_record(&merging->names, node, &record);
    bool is_link = kind == NODE_LINK, is_directory = kind == NODE_DIRECTORY;
    bool is_held = is_link || is_directory || record.kind == KIND_FILE; /* what build/streaming.py can keep in a directory */
    if (is_link && matches(options->hold_links, path, false)) {
        merging->link_held = true;
        return WISH_HOLD;
    }
    if (is_held && ((!is_directory && matches(options->hold, path, false)) || matches(options->hold_trees, path, true)))
        return WISH_HOLD;
    if (matches(options->read, path, true))
        return WISH_READ;
    return matches(options->show, path, false) ? WISH_SHOW : WISH_NOTHING;
}

/* What is wanted of each node, and so of the directories it is in. A node's number is higher than that of its directory. */
static void find_wishes(struct merging *merging)
{
    struct names *names = &merging->names;
    for (uint32_t i = 1; i < names->count; i++)
        if (names->nodes[i].kind != NODE_GONE)
            merging->wishes[i] = (uint8_t)wish_of(merging, i);
    for (uint32_t i = 1; i < names->count && !merging->link_held; i++)
        if (merging->wishes[i] == WISH_READ)
            merging->wishes[i] = WISH_NOTHING;
    for (uint32_t i = names->count - 1; i; i--) {
        uint32_t above = names->nodes[i].above;
        if (merging->wishes[i] != WISH_NOTHING && merging->wishes[above] == WISH_NOTHING)
            merging->wishes[above] = WISH_SHOW;
    }
}

/* Hands over what is held, and takes it out of the tree: other names of the same files as well. */
static void hand_over(struct merging *merging)
{
    struct names *names = &merging->names;
    uint32_t count = names->count;
    merging->wishes = must_allocate(count);
    merging->held_by = must_allocate(names->content_count * sizeof *merging->held_by);
    find_wishes(merging);
    for (uint32_t i = 1; i < count; i++)
        if (merging->wishes[i] == WISH_HOLD || (names->nodes[i].kind == NODE_DIRECTORY && merging->wishes[i]))
            tell_node(merging, i, merging->wishes[i] == WISH_HOLD);
    for (uint32_t i = 1; i < count; i++) {
        bool other_name = names->nodes[i].kind != NODE_GONE && names->nodes[i].kind != NODE_DIRECTORY &&
                          merging->held_by[names->nodes[i].content];
        if (merging->wishes[i] == WISH_HOLD)
            continue;
        if (other_name) {
            tell_node(merging, i, true);
            merging->wishes[i] = WISH_HOLD;
        } else if (merging->wishes[i] && names->nodes[i].kind != NODE_DIRECTORY) {
            tell_node(merging, i, merging->wishes[i] == WISH_READ);
        }
    }
    for (uint32_t i = 1; i < count; i++)
        if (merging->wishes[i] == WISH_HOLD && names->nodes[i].kind != NODE_GONE && names->nodes[i].kind != NODE_DIRECTORY)
            names_take(names, i);
    buffer_put32(&merging->told, 0);
    tell(merging, true);
    free(merging->wishes);
    free(merging->held_by);
}

/* What comes above all layers */

static size_t read_input(void *from, void *data, size_t size)
{
    return fread(data, 1, size, from);
}

static void add_input(const struct merge_options *options, struct layer *layer)
{
    int fd = open(options->scratch, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        char path[4096];
        snprintf(path, sizeof path, "%s/layer-XXXXXX", options->scratch);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd < 0)
            stop(errno, "%s", path);
        unlink(path);
    }
    layer_convert(read_input, stdin, fd, &options->conversion);
    layer_open(layer, fd, "what the build adds");
}

/* Data */

static void want(struct carried *carried, uint64_t start, uint64_t size, bool first)
{
    if (!size)
        return;
    if (carried->count == carried->room) {
        carried->room = carried->room * 2 + 64;
        carried->runs = must_resize(carried->runs, carried->room * sizeof *carried->runs);
    }
    carried->runs[carried->count++] = (struct run){.start = start, .size = size, .first = first};
}

static void want_file(struct merging *merging, struct carried *carried, uint32_t node, const struct record *record)
{
    const struct layer *layer = &merging->layers[merging->names.contents[merging->names.nodes[node].content].layer];
    uint64_t size = 0;
    for (uint32_t i = 0; i < record->block_count; i++)
        size += load32(record->blocks + 4ULL * i) & (STORED - 1);
    want(carried, record->start, size, size && matches(merging->options->first, path_of(merging, node).at, false));
    if (record->fragment == NO_FRAGMENT || carried->fragments[record->fragment])
        return;
    uint32_t packed;
    uint64_t place = layer_fragment(layer, record->fragment, &packed);
    want(carried, place, packed & (STORED - 1), false);
    carried->fragments[record->fragment] = 1;
}

static int by_start(const void *one, const void *other)
{
    const struct run *a = one, *b = other;
    return a->start < b->start ? -1 : a->start > b->start;
}

/* Puts parts that touch each other together, but for those that come first: these only with what is theirs as well. */
static void join_runs(struct carried *carried)
{
    size_t kept = 0;
    if (carried->count)
        qsort(carried->runs, carried->count, sizeof *carried->runs, by_start);
    for (size_t i = 0; i < carried->count; i++) {
        struct run *last = kept ? &carried->runs[kept - 1] : NULL;
        uint64_t last_end = last ? last->start + last->size : 0;
        bool same = last && carried->runs[i].first == last->first;
        if (last && (carried->runs[i].start < last_end || (same && carried->runs[i].start == last_end))) {
            uint64_t end = carried->runs[i].start + carried->runs[i].size;
            last->size = end > last_end ? end - last->start : last->size;
            last->first |= carried->runs[i].first;
        } else {
            carried->runs[kept++] = carried->runs[i];
        }
    }
    carried->count = kept;
}

static void copy_by_hand(int from, uint64_t start, int to, uint64_t place, uint64_t size)
{
    uint8_t *room = must_allocate(1 << 20);
    for (uint64_t done = 0; done < size;) {
        size_t wanted = size - done < 1 << 20 ? (size_t)(size - done) : 1 << 20;
        ssize_t count = pread(from, room, wanted, (off_t)(start + done));
        if (count < 0 && errno != EINTR)
            stop(errno, "read a layer");
        if (!count)
            damaged("a layer: damaged");
        if (count > 0)
            write_at(to, room, (size_t)count, place + done);
        done += count > 0 ? (size_t)count : 0;
    }
    free(room);
}

static void copy(int from, uint64_t start, int to, uint64_t place, uint64_t size)
{
    while (size) {
        off_t in = (off_t)start, out = (off_t)place;
        ssize_t count = copy_file_range(from, &in, to, &out, size < 1 << 30 ? (size_t)size : 1 << 30, 0);
        if (count < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
            stop(errno, "write");
        if (count <= 0) { /* between file systems, on old kernels, under filters */
            copy_by_hand(from, start, to, place, size);
            return;
        }
        start += (uint64_t)count;
        place += (uint64_t)count;
        size -= (uint64_t)count;
    }
}

/* In three parts where pages can be shared: file systems share whole blocks only. */
static void copy_run(struct image *image, int from, const struct run *run)
{
    uint64_t start = LAYER_DATA + run->start, place = image->base + run->place;
    uint64_t head = (PAGE - start % PAGE) % PAGE;
    if (run->size < SHARED_SIZE || start % PAGE != place % PAGE) {
        copy(from, start, image->fd, place, run->size);
        return;
    }
    uint64_t pages = (run->size - head) / PAGE * PAGE;
    copy(from, start, image->fd, place, head);
    copy(from, start + head, image->fd, place + head, pages);
    copy(from, start + head + pages, image->fd, place + head + pages, run->size - head - pages);
}

static void copy_layer(struct image *image, const struct layer *layer, struct carried *carried, bool first)
{
    for (size_t i = 0; i < carried->count; i++) {
        struct run *run = &carried->runs[i];
        if (run->first != first)
            continue;
        if (run->size >= SHARED_SIZE)
            image->at += (LAYER_DATA + run->start - image->base - image->at) % PAGE;
        run->place = image->at;
        copy_run(image, layer->fd, run);
        image->at += run->size;
    }
}

/* Numbers the fragments that are wanted. */
static void number_fragments(struct image *image, const struct layer *layer, struct carried *carried)
{
    for (uint32_t i = 0; i < layer->fragment_count; i++) {
        if (!carried->fragments[i])
            continue;
        uint32_t size;
        uint64_t start = layer_fragment(layer, i, &size);
        buffer_put64(&image->fragments, carried_place(carried, start));
        buffer_put32(&image->fragments, size);
        buffer_put32(&image->fragments, 0);
        carried->fragments[i] = (uint32_t)(image->fragments.size / 16);
    }
}

/* What is left of all layers, copied; and how many names each file has. */
static void copy_data(struct merging *merging, struct image *image, uint32_t count)
{
    struct names *names = &merging->names;
    image->carried = must_allocate(count * sizeof *image->carried);
    for (uint32_t i = 0; i < count; i++)
        image->carried[i].fragments = must_allocate(merging->layers[i].fragment_count * sizeof(uint32_t));
    for (uint32_t i = 0; i < names->count; i++) {
        struct content *content = &names->contents[names->nodes[i].content];
        struct record record;
        if (names->nodes[i].kind == NODE_GONE || content->names++ || names->nodes[i].kind != NODE_OTHER)
            continue;
        names_record(names, i, &record);
        if (record.kind == KIND_FILE)
            want_file(merging, &image->carried[content->layer], i, &record);
    }
    for (uint32_t i = 0; i < count; i++) {
        join_runs(&image->carried[i]);
        copy_layer(image, &merging->layers[i], &image->carried[i], true);
    }
    for (uint32_t i = 0; i < count; i++) {
        copy_layer(image, &merging->layers[i], &image->carried[i], false);
        number_fragments(image, &merging->layers[i], &image->carried[i]);
    }
}

/* Up to a whole page, as mksquashfs does: loop devices are of whole blocks. */
static void fill_page(const struct image *image)
{
    uint64_t end = image->base + image->at, rest = (PAGE - image->at % PAGE) % PAGE;
    uint8_t zeros[PAGE] = {0};
    write_at(image->fd, zeros, (size_t)rest, end);
}

static uint32_t open_layers(struct merging *merging)
{
    uint32_t count = 0;
    while (merging->options->layers[count])
        count++;
    if (count >= LAYERS_LIMIT)
        bad("more than %u layers", LAYERS_LIMIT);
    merging->layers = must_allocate((count + 1) * sizeof *merging->layers);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = merging->options->layers[i];
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            damaged("%s: %s", name, strerror(errno));
        layer_open(&merging->layers[i], fd, name);
        if (merging->layers[i].compressor != merging->options->conversion.compressor)
            damaged("%s: another compression than the image's", name);
    }
    return count;
}

static void free_merging(struct merging *merging, struct image *image, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        layer_close(&merging->layers[i]);
        free(image->carried[i].runs);
        free(image->carried[i].fragments);
    }
    free(image->carried);
    free(merging->layers);
    names_end(&merging->names);
    buffer_free(&image->fragments);
    buffer_free(&merging->told);
    buffer_free(&merging->path);
}

void merge(const struct merge_options *options)
{
    struct merging merging = {.options = options};
    struct image image = {.fd = options->fd, .base = options->offset, .at = SUPERBLOCK_SIZE,
                          .compressor = options->conversion.compressor, .level = options->conversion.level,
                          .epoch = options->epoch, .made = options->made};
    uint32_t count = open_layers(&merging);
    names_begin(&merging.names, merging.layers);
    merging.names.literal = options->literal;
    for (uint32_t i = 0; i < count; i++)
        names_lay(&merging.names, (uint16_t)i);
    hand_over(&merging);
    add_input(options, &merging.layers[count]);
    names_lay(&merging.names, (uint16_t)count++);
    copy_data(&merging, &image, count);
    squashfs_write(&image, &merging.names);
    fill_page(&image);
    merging.told.size = 0;
    buffer_put32(&merging.told, image.losses_of_times);
    buffer_put32(&merging.told, image.losses_of_attributes);
    tell(&merging, true);
    free_merging(&merging, &image, count);
}
