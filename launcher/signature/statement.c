/* What is signed of a SIF file: the line of JSON that singularity/trust/signed.py describes, in the one spelling that programs of the
 * family write. A digest of another kind than SHA-256 is not taken here. */
#include "signature.h"

#include <string.h>

/* Each takes what it expects from the front, or returns false. */
static bool take_number(struct span *from, uint32_t *number)
{
    size_t digits = 0;

    for (*number = 0; digits < from->length && digits < 9 && from->at[digits] >= '0' && from->at[digits] <= '9'; digits++)
        *number = *number * 10 + (uint32_t)(from->at[digits] - '0');
    if (digits == 0 || (digits > 1 && *from->at == '0'))
        return false;
    *from = (struct span){from->at + digits, from->length - digits};
    return true;
}

static bool take_digest(struct span *from, uint8_t digest[SEAL_DIGEST])
{
    static const char letters[] = "0123456789abcdef";

    if (!span_take(from, "\"sha256:") || from->length < 2 * SEAL_DIGEST)
        return false;
    for (size_t i = 0; i < 2 * SEAL_DIGEST; i++) {
        const char *letter = from->at[i] == '\0' ? NULL : strchr(letters, from->at[i]);
        if (letter == NULL)
            return false;
        digest[i / 2] = (uint8_t)((i % 2 == 0 ? 0 : digest[i / 2] << 4) | (letter - letters));
    }
    *from = (struct span){from->at + 2 * SEAL_DIGEST, from->length - 2 * SEAL_DIGEST};
    return span_take(from, "\"");
}

static const struct described *find(const struct signed_group *group, uint32_t relative)
{
    for (uint32_t i = 0; i < group->count; i++)
        if (group->objects[i].id - group->base == relative)
            return &group->objects[i];
    return NULL;
}

/* One object: it is there, and is described as it was. */
static bool object_fits(struct span *rest, const struct signed_group *group, int64_t *last, uint32_t which, struct seal *seal,
                        struct error *error)
{
    uint8_t descriptor[SEAL_DIGEST], data[SEAL_DIGEST];
    uint32_t relative;

    if (!span_take(rest, "{\"relativeId\":") || !take_number(rest, &relative) || !span_take(rest, ",\"descriptorDigest\":") ||
        !take_digest(rest, descriptor) || !span_take(rest, ",\"objectDigest\":") || !take_digest(rest, data) || !span_take(rest, "}") ||
        (int64_t)relative <= *last)
        return error_set(error, 0, "what is signed is no statement that launches know (sign it again: singularity sign)");
    *last = relative;
    const struct described *object = find(group, relative);
    if (object == NULL)
        return error_set(error, 0, "object %u was signed, and is not there", group->base + relative);
    if (memcmp(object->digest, descriptor, SEAL_DIGEST) != 0)
        return error_set(error, 0, "the description of object %u is not the one that was signed", object->id);
    if (object == &group->objects[which])
        memcpy(seal->digest, data, SEAL_DIGEST);
    return true;
}

/* The size of the tree of so many bytes, as hash_tree.py has it. */
static uint64_t tree_size(uint64_t size)
{
    uint64_t total = SEAL_BLOCK;

    for (uint64_t count = size / SEAL_BLOCK; count > 1; total += count * SEAL_BLOCK)
        count = (count + SEAL_BLOCK / SEAL_DIGEST - 1) / (SEAL_BLOCK / SEAL_DIGEST);
    return total;
}

static bool tree_fits(struct span *rest, const struct signed_group *group, int64_t *last, uint32_t which, struct seal *seal)
{
    const struct described *part = &group->objects[which];
    uint32_t relative, number;
    uint8_t root[SEAL_DIGEST];

    if (!span_take(rest, "{\"relativeId\":") || !take_number(rest, &relative) || !span_take(rest, ",\"tree\":") ||
        !take_number(rest, &number) || !span_take(rest, ",\"root\":") || !take_digest(rest, root) || !span_take(rest, "}") || (int64_t)relative <= *last)
        return false;
    *last = relative;
    const struct described *tree = find(group, number);
    if (relative != part->id - group->base)
        return true;
    if (tree == NULL || !tree->is_tree || tree->link != part->id || part->size % SEAL_BLOCK != 0 || part->size == 0 ||
        tree->size != tree_size(part->size))
        return false;
    if (tree->offset < part->offset + part->size || (tree->offset - part->offset) % SEAL_BLOCK != 0)
        return true; /* it has been moved, and is good for nothing */
    seal->tree = tree->offset + SEAL_BLOCK; /* behind the superblock, which says nothing that is not known */
    seal->end = tree->offset + tree->size;
    memcpy(seal->root, root, SEAL_DIGEST);
    return true;
}

bool statement_fits(struct span statement, const struct signed_group *group, uint32_t which, struct seal *seal, struct error *error)
{
    static const char unknown[] = "what is signed is no statement that launches know (sign it again: singularity sign)";
    uint8_t header[SEAL_DIGEST];
    int64_t last = -1;
    uint32_t count = 0;

    *seal = (struct seal){.offset = group->objects[which].offset, .size = group->objects[which].size};
    if (!span_take(&statement, "{\"version\":1,\"header\":{\"digest\":") || !take_digest(&statement, header) ||
        !span_take(&statement, "},\"objects\":["))
        return error_set(error, 0, "%s", unknown);
    if (memcmp(header, group->header, SEAL_DIGEST) != 0)
        return error_set(error, 0, "the header is not the one that was signed");
    do
        count += object_fits(&statement, group, &last, which, seal, error);
    while (error->text[0] == '\0' && span_take(&statement, ","));
    if (error->text[0] != '\0')
        return false;
    if (count != group->count)
        return error_set(error, 0, "of its %u objects only %u are signed", group->count, count);
    if (!span_take(&statement, "]"))
        return error_set(error, 0, "%s", unknown);
    last = -1;
    if (span_take(&statement, ",\"verity\":[")) {
        do
            if (!tree_fits(&statement, group, &last, which, seal))
                return error_set(error, 0, "its hash tree is not the one that was signed");
        while (span_take(&statement, ","));
        if (!span_take(&statement, "]"))
            return error_set(error, 0, "%s", unknown);
    }
    return (span_take(&statement, "}") && statement.length == 0) || error_set(error, 0, "%s", unknown);
}
