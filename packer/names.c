/* Layers laid over each other. Who compares this with singularity/oci/names.py, which does the same for images that are not
 * packed here, finds the functions in its order; tests compare what both make of the same layers. */
#include "names.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define LINKS_LIMIT 40U /* on the way to one member, as the kernel's */
#define NAMES_LIMIT 20000000U
#define MARK ".wh."
#define OPAQUE ".wh..wh..opq"
#define OF_AUFS ".wh..wh." /* its own notes, which old layers brought along */

enum said { SAID_NOTHING, SAID_WHITEOUT, SAID_OPAQUE, SAID_NOTE };

void names_begin(struct names *names, struct layer *layers)
{
    *names = (struct names){.layers = layers, .count = 1, .content_count = 1, .room = 1024, .content_room = 1024,
                            .table_room = 1024, .way_node = NOWHERE};
    names->nodes = must_allocate(names->room * sizeof *names->nodes);
    names->contents = must_allocate(names->content_room * sizeof *names->contents);
    names->table = must_allocate(names->table_room * sizeof *names->table);
    names->nodes[ROOT] = (struct node){.name = {"", 0}, .first = NOWHERE, .next = NOWHERE, .kind = NODE_DIRECTORY};
    if (getrandom(&names->seed, sizeof names->seed, GRND_NONBLOCK) < 0)
        names->seed = 0x5bd1e9955bd1e995U;
}

void names_end(struct names *names)
{
    free(names->nodes);
    free(names->contents);
    free(names->table);
}

/* Nodes */

static uint32_t *bucket(const struct names *names, uint32_t above, struct text name)
{
    return &names->table[hash(name.at, name.size, names->seed + above * 0x9e3779b97f4a7c15U) & (names->table_room - 1)];
}

static uint32_t find(const struct names *names, uint32_t above, struct text name)
{
    uint32_t each = *bucket(names, above, name);
    while (each) {
        const struct node *node = &names->nodes[each - 1];
        if (node->above == above && node->kind != NODE_GONE && text_same(node->name, name))
            return each - 1;
        each = node->chained;
    }
    return NOWHERE;
}

static void grow_table(struct names *names)
{
    names->table_room *= 2;
    free(names->table);
    names->table = must_allocate(names->table_room * sizeof *names->table);
    for (uint32_t i = 1; i < names->count; i++) {
        if (names->nodes[i].kind == NODE_GONE)
            continue;
        uint32_t *first = bucket(names, names->nodes[i].above, names->nodes[i].name);
        names->nodes[i].chained = *first;
        *first = i + 1;
    }
}

static uint32_t new_content(struct names *names, const uint8_t *record)
{
    if (names->content_count == names->content_room) {
        names->content_room *= 2;
        names->contents = must_resize(names->contents, names->content_room * sizeof *names->contents);
    }
    names->contents[names->content_count] = (struct content){.record = record, .layer = (uint16_t)(names->layer - 1)};
    return names->content_count++;
}

static uint32_t new_node(struct names *names, uint32_t above, struct text name, enum node_kind kind, uint32_t content)
{
    if (names->count > NAMES_LIMIT)
        bad("more than %u names in all layers", NAMES_LIMIT);
    if (names->count == names->room) {
        names->room *= 2;
        names->nodes = must_resize(names->nodes, names->room * sizeof *names->nodes);
    }
    if (names->count >= names->table_room)
        grow_table(names);
    uint32_t made = names->count++, *first = bucket(names, above, name);
    names->nodes[made] = (struct node){.name = name, .above = above, .first = NOWHERE, .next = names->nodes[above].first,
                                       .chained = *first, .content = content, .maker = names->layer, .kind = (uint8_t)kind};
    *first = made + 1;
    names->nodes[above].first = made;
    return made;
}

/* What is gone is not to be passed on the way to others: a layer may bring and take away the same name millions of times. */
static void unchain(struct names *names, uint32_t node)
{
    uint32_t *each = bucket(names, names->nodes[node].above, names->nodes[node].name);
    while (*each != node + 1)
        each = &names->nodes[*each - 1].chained;
    *each = names->nodes[node].chained;
}

/* Removes a node and all below it. */
void names_take(struct names *names, uint32_t node)
{
    uint32_t here = node;
    if (names->nodes[node].kind != NODE_OTHER)
        names->way_node = NOWHERE;
    for (;;) { /* down to what has nothing below it, then up again */
        struct node *each = &names->nodes[here];
        uint32_t below = each->kind == NODE_DIRECTORY ? each->first : NOWHERE;
        if (below != NOWHERE) {
            each->first = names->nodes[below].next;
            if (names->nodes[below].kind != NODE_GONE)
                here = below;
            continue;
        }
        unchain(names, here);
        each->kind = NODE_GONE;
        if (here == node)
            return;
        here = each->above;
    }
}

/* Notes that a node, and so the directories it is in, are of this layer. */
static void note(struct names *names, uint32_t node)
{
    names->nodes[node].maker = names->layer;
    for (uint32_t above = names->nodes[node].above; names->nodes[above].maker != names->layer; above = names->nodes[above].above)
        names->nodes[above].maker = names->layer;
}

/* Paths */

struct split {
    struct text above, name;
};

static struct split split(struct text path)
{
    const char *slash = path.size ? memrchr(path.at, '/', path.size) : NULL;
    if (!slash)
        return (struct split){{"", 0}, path};
    size_t size = (size_t)(slash - path.at);
    return (struct split){{path.at, size}, {slash + 1, path.size - size - 1}};
}

/* What a directory has of this name, which may be that of itself or of the one above. */
static uint32_t step(const struct names *names, uint32_t here, struct text name)
{
    if (!name.size || text_is(name, "."))
        return here;
    if (text_is(name, ".."))
        return names->nodes[here].above;
    if (name.size > NAME_LIMIT)
        bad("%s: a name longer than %d bytes", SHOWN(name), NAME_LIMIT);
    return find(names, here, name);
}

static struct text first_name(struct text *path)
{
    const char *slash = memchr(path->at, '/', path->size);
    struct text name = {path->at, slash ? (size_t)(slash - path->at) : path->size};
    size_t used = name.size + (slash != NULL);
    path->at += used;
    path->size -= used;
    return name;
}

static struct text link_target(const struct names *names, uint32_t node)
{
    struct record record;
    names_record(names, node, &record);
    return record.target;
}

/* The directory of this path as a program in the container would find it; NOWHERE where there is none. Links without an end are
 * an error, unless those on the way are to be looked at one by one (`looped`). */
static uint32_t follow(const struct names *names, struct text path, bool looped)
{
    char *room = NULL; /* what is left of the way, behind a link: it may be long */
    struct text pending = path;
    uint32_t here = ROOT, links = 0;
    while (pending.size) {
        uint32_t node = step(names, here, first_name(&pending));
        if (node == NOWHERE || names->nodes[node].kind == NODE_OTHER) {
            here = NOWHERE;
            break;
        }
        if (names->nodes[node].kind == NODE_DIRECTORY) {
            here = node;
            continue;
        }
        if (++links > LINKS_LIMIT) {
            if (!looped)
                bad("%s: links in a circle, where another member needs a directory", SHOWN(path));
            here = NOWHERE;
            break;
        }
        struct text target = link_target(names, node);
        here = target.size && *target.at == '/' ? ROOT : here;
        char *joined = must_allocate(target.size + pending.size + 2);
        if (target.size)
            memcpy(joined, target.at, target.size);
        joined[target.size] = '/';
        if (pending.size)
            memcpy(joined + target.size + 1, pending.at, pending.size);
        pending = (struct text){joined, target.size + 1 + pending.size};
        free(room);
        room = joined;
    }
    free(room);
    return here;
}

static uint32_t make_way(struct names *names, struct text path)
{
    uint32_t here = ROOT;
    for (struct text rest = path; rest.size;) {
        struct text name = first_name(&rest), done = {path.at, (size_t)(name.at + name.size - path.at)};
        uint32_t node = find(names, here, name);
        if (node != NOWHERE && names->nodes[node].kind == NODE_LINK) {
            uint32_t there = follow(names, done, false);
            if (there != NOWHERE) {
                here = there;
                continue;
            }
            names_take(names, node);
            node = NOWHERE;
        }
        if (node == NOWHERE) {
            node = new_node(names, here, name, NODE_DIRECTORY, new_content(names, NULL));
            note(names, node);
        } else if (names->nodes[node].kind != NODE_DIRECTORY) {
            bad("%s: no directory, though another member of the archive lies in it", SHOWN(done));
        }
        here = node;
    }
    return here;
}

/* The directory of this path, links followed inside the root, made where it is missing. */
static uint32_t way(struct names *names, struct text path)
{
    if (names->way_node != NOWHERE && text_same(names->way, path))
        return names->way_node;
    uint32_t node = follow(names, path, true);
    if (node == NOWHERE)
        node = make_way(names, path);
    names->way = path;
    names->way_node = node;
    return node;
}

/* Members */

static void put(struct names *names, const struct record *record, const uint8_t *at)
{
    struct split path = split(record->path);
    uint32_t above = way(names, path.above), before = find(names, above, path.name);
    if (before != NOWHERE)
        names_take(names, before);
    enum node_kind kind = record->kind == KIND_LINK ? NODE_LINK : NODE_OTHER;
    note(names, new_node(names, above, path.name, kind, new_content(names, at)));
}

static void put_directory(struct names *names, const struct record *record, const uint8_t *at)
{
    uint32_t node = ROOT;
    if (record->path.size) {
        struct split path = split(record->path);
        uint32_t above = way(names, path.above);
        node = find(names, above, path.name);
        if (node != NOWHERE && names->nodes[node].kind != NODE_DIRECTORY) {
            names_take(names, node);
            node = NOWHERE;
        }
        if (node == NOWHERE)
            node = new_node(names, above, path.name, NODE_DIRECTORY, new_content(names, at));
    }
    struct content *content = &names->contents[names->nodes[node].content];
    content->record = at;
    content->layer = (uint16_t)(names->layer - 1);
    names->nodes[node].maker = names->layer;
    if (node != ROOT)
        note(names, node);
}

static _Noreturn void missing(const struct record *record)
{
    bad("%s: a hard link to %s, which is not there", SHOWN(record->path), SHOWN(record->target));
}

static void put_hard_link(struct names *names, const struct record *record)
{
    struct split path = split(record->path), target = split(record->target);
    uint32_t above = way(names, path.above), place = follow(names, target.above, false);
    uint32_t node = place == NOWHERE ? NOWHERE : find(names, place, target.name);
    if (node == NOWHERE)
        missing(record);
    if (names->nodes[node].kind == NODE_DIRECTORY)
        bad("%s: a hard link to a directory, %s", SHOWN(record->path), SHOWN(record->target));
    uint32_t before = find(names, above, path.name);
    if (before == node)
        return;
    if (before != NOWHERE) {
        names_take(names, before);
        if (names->nodes[node].kind == NODE_GONE)
            missing(record);
    }
    struct node linked = names->nodes[node];
    note(names, new_node(names, above, path.name, linked.kind, linked.content));
}

/* Whiteouts (singularity/oci/whiteout.py) */

static enum said said_by(const struct record *record)
{
    if (!memmem(record->path.at, record->path.size, MARK, sizeof MARK - 1))
        return SAID_NOTHING;
    struct split path = split(record->path);
    bool of_aufs = text_begins(path.name, OF_AUFS) && !text_is(path.name, OPAQUE), below = false;
    for (struct text rest = path.above; rest.size;) {
        struct text name = first_name(&rest);
        of_aufs |= text_begins(name, OF_AUFS);
        below |= text_begins(name, MARK);
    }
    if (of_aufs)
        return SAID_NOTE;
    if (below)
        bad("%s: a file below a whiteout", SHOWN(record->path));
    if (!text_begins(path.name, MARK))
        return SAID_NOTHING;
    if (text_is(path.name, OPAQUE) && record->kind != KIND_DIRECTORY)
        return SAID_OPAQUE;
    struct text name = {path.name.at + sizeof MARK - 1, path.name.size - (sizeof MARK - 1)};
    if (!name.size || text_is(name, ".") || text_is(name, "..") || record->kind == KIND_DIRECTORY)
        bad("%s: no whiteout that can be", SHOWN(record->path));
    return SAID_WHITEOUT;
}

/* Removes what is of lower layers in a directory, and in those of this layer below it. */
static void clear(struct names *names, uint32_t directory)
{
    uint32_t here = directory, each = names->nodes[directory].first;
    if (names->nodes[directory].cleared == names->layer)
        return; /* a layer may say it millions of times */
    names->nodes[directory].cleared = names->layer;
    for (;;) {
        while (each == NOWHERE) {
            if (here == directory)
                return;
            each = names->nodes[here].next;
            here = names->nodes[here].above;
        }
        struct node *node = &names->nodes[each];
        uint32_t next = node->next;
        if (node->kind != NODE_GONE && node->maker != names->layer) {
            names_take(names, each);
        } else if (node->kind == NODE_DIRECTORY && node->cleared != names->layer) {
            node->cleared = names->layer;
            here = each;
            next = node->first;
        }
        each = next;
    }
}

static void remove_as(struct names *names, enum said said, struct text whole)
{
    struct split path = split(whole);
    uint32_t place = follow(names, path.above, false);
    if (place == NOWHERE || said == SAID_NOTE)
        return;
    if (said == SAID_OPAQUE) {
        clear(names, place);
        return;
    }
    struct text name = {path.name.at + sizeof MARK - 1, path.name.size - (sizeof MARK - 1)};
    uint32_t node = find(names, place, name);
    if (node == NOWHERE)
        return;
    if (names->nodes[node].maker != names->layer)
        names_take(names, node);
    else if (names->nodes[node].kind == NODE_DIRECTORY)
        clear(names, node);
}

void names_lay(struct names *names, uint16_t number)
{
    const struct layer *layer = &names->layers[number];
    size_t at = 0;
    names->layer = (uint16_t)(number + 1);
    names->way_node = NOWHERE;
    for (uint32_t i = 0; i < layer->record_count; i++) {
        const uint8_t *from = (const uint8_t *)layer->records.at + at;
        struct record record;
        at = layer_record(layer, at, &record);
        enum said said = names->literal ? SAID_NOTHING : said_by(&record);
        if (said != SAID_NOTHING)
            remove_as(names, said, record.path);
        else if (record.kind == KIND_DIRECTORY)
            put_directory(names, &record, from);
        else if (record.kind == KIND_HARD_LINK)
            put_hard_link(names, &record);
        else
            put(names, &record, from);
    }
}

bool names_record(const struct names *names, uint32_t node, struct record *record)
{
    const struct content *content = &names->contents[names->nodes[node].content];
    if (!content->record) {
        *record = (struct record){.kind = KIND_DIRECTORY, .mode = 0755, .fragment = NO_FRAGMENT};
        return false;
    }
    const struct layer *layer = &names->layers[content->layer];
    layer_record(layer, (size_t)(content->record - (const uint8_t *)layer->records.at), record);
    if (record->kind == KIND_LINK)
        record->mode = 0777; /* which no file system lets choose */
    return true;
}
