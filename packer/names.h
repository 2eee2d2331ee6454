/* The names of a root file system while layers are laid over each other, as singularity/oci/names.py has them: links on the way
 * to a member are followed inside the root, and whiteouts take away what lower layers have. */
#pragma once

#include "layer.h"

#define NOWHERE UINT32_MAX
#define ROOT 0U

enum node_kind { NODE_GONE, NODE_DIRECTORY, NODE_LINK, NODE_OTHER };

/* What a name leads to; names that are hard links of each other have the same. */
struct content {
    const uint8_t *record; /* NULL: a directory of which no member has spoken */
    uint32_t names;        /* how many there are, set by who counts them */
    uint32_t number;       /* of the inode, from 1; 0: not written yet */
    uint64_t place;        /* of the inode, as directories have it */
    uint16_t layer;
};

struct node {
    struct text name;
    uint32_t above, first, next, chained; /* nodes; `first` of a directory's */
    uint32_t content;
    uint16_t maker; /* the number of the layer, from 1, that has made it, or what is below it */
    uint16_t cleared; /* the last layer that has left nothing of lower ones below it */
    uint8_t kind;
};

struct names {
    struct node *nodes;
    struct content *contents;
    uint32_t *table; /* by the hash of directory and name: the first node, plus 1 */
    uint32_t count, content_count, room, content_room, table_room;
    uint16_t layer;
    bool literal; /* set by the caller: no name is a whiteout */
    uint64_t seed;
    struct layer *layers; /* the caller's */
    struct text way;      /* a directory, links followed, as long as nothing goes */
    uint32_t way_node;
};

void names_begin(struct names *names, struct layer *layers);
void names_lay(struct names *names, uint16_t layer); /* the layer of that number, from 0 */
void names_take(struct names *names, uint32_t node); /* with all below it */
void names_end(struct names *names);

/* The record of a node; false for a directory of which nobody has spoken. */
bool names_record(const struct names *names, uint32_t node, struct record *record);
