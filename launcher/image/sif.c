/* Recognises a SIF file and finds its partitions for this machine, by its header and descriptors. */
#include <string.h>

#include "bytes.h"
#include "image.h"

/* SIF 1.0, little-endian and packed: a header of 128 bytes, then wherever it says a table of descriptors of 585 bytes
 * (github.com/apptainer/sif, pkg/sif). Header: 32 magic, 42 version, 88 objects in the table, 96 its offset, 104 its
 * length. Descriptor: 0 type, 4 used, 9 group, 17 offset, 25 size, 201 what depends on the type; for a partition file
 * system (201), use (205) and architecture (209, two digits). */
enum { HEADER_SIZE = 128, MAGIC_AT = 32, DESCRIPTOR_SIZE = 585, EXTRA_AT = 201, CHUNK = 16 };
/* more than any image has, and few enough to compare each object with all others (R-P1, R-I7) */
enum { DESCRIPTOR_LIMIT = 4096, TABLE_LIMIT = 1 << 20, OBJECT_LIMIT = TABLE_LIMIT / DESCRIPTOR_SIZE };
enum { TYPE_PARTITION = 0x4004, TYPE_OCI_INDEX = 0x400a, PARTITION_PRIMARY = 2, PARTITION_OVERLAY = 4 };
enum { CONTENT_SQUASHFS = 1, CONTENT_EXT = 2, CONTENT_RAW = 4 }; /* EROFS has no number of its own, and is RAW */

struct range {
    uint64_t begin, end;
    uint32_t object; /* counted from 1 */
};

/* A partition as its descriptor has it, not yet confirmed by what lies there. */
struct candidate {
    uint64_t offset, size;
    uint32_t content, group;
    uint8_t architecture[2];
};

struct survey {
    int fd;
    uint64_t size; /* of the file */
    uint64_t table, table_size;
    uint32_t objects;
    struct error *error;
    bool has_primary, has_oci_index;
    struct candidate primary, overlays[IMAGE_OVERLAYS];
    uint32_t overlay_count, range_count;
    struct range ranges[OBJECT_LIMIT];
};

static bool header_read(struct survey *survey, const uint8_t *header)
{
    uint64_t objects = le64(header + 88), end;

    survey->table = le64(header + 96);
    survey->table_size = le64(header + 104);
    if (memcmp(header + 42, "01", 3) != 0)
        return error_set(survey->error, 0, "a SIF of an unknown version (made by a newer program?)");
    if (objects > DESCRIPTOR_LIMIT || survey->table_size > TABLE_LIMIT || objects * DESCRIPTOR_SIZE > survey->table_size)
        return error_set(survey->error, 0, "SIF with an impossible table of %llu objects", (unsigned long long)objects);
    if (survey->table < HEADER_SIZE || __builtin_add_overflow(survey->table, survey->table_size, &end) ||
        end > INT64_MAX)
        return error_set(survey->error, 0, "SIF whose table of objects lies in no possible place");
    if (end > survey->size)
        return error_set(survey->error, 0, "the table of objects ends %llu bytes after the file: incomplete download? "
                         "(pull it again)", (unsigned long long)(end - survey->size));
    survey->objects = (uint32_t)objects;
    return true;
}

/* Inside the file, clear of the header, of the table and of every object before it. Overlapping objects are refused
 * because a signature covers bytes of one object, and what is mounted would be bytes of another (R-P1, R-S2). Two
 * loops over at most OBJECT_LIMIT ranges: about 1.6 million comparisons, some milliseconds. */
static bool range_add(struct survey *survey, uint32_t object, uint64_t begin, uint64_t size)
{
    uint64_t end;

    if (__builtin_add_overflow(begin, size, &end) || end > INT64_MAX)
        return error_set(survey->error, 0, "data object %u lies in no possible place", object);
    if (end > survey->size)
        return error_set(survey->error, 0, "data object %u ends %llu bytes after the file: incomplete download? "
                         "(pull it again)", object, (unsigned long long)(end - survey->size));
    if (size == 0)
        return true;
    if (begin < HEADER_SIZE || (begin < survey->table + survey->table_size && end > survey->table))
        return error_set(survey->error, 0, "data object %u lies over the header of the SIF", object);
    for (const struct range *range = survey->ranges; range < survey->ranges + survey->range_count; range++)
        if (begin < range->end && end > range->begin)
            return error_set(survey->error, 0, "data objects %u and %u overlap", range->object, object);
    survey->ranges[survey->range_count++] = (struct range){.begin = begin, .end = end, .object = object};
    return true;
}

/* An object of an unknown type is none of our business, but its range counts. An overlay in a file system that is
 * unknown is passed over: it was made for another program, while an unknown root is told by confirm(). */
static bool descriptor_read(struct survey *survey, uint32_t object, const uint8_t *descriptor)
{
    const uint8_t *extra = descriptor + EXTRA_AT;
    uint32_t type = le32(descriptor), use = le32(extra + 4);
    struct candidate candidate = {.offset = le64(descriptor + 17), .size = le64(descriptor + 25), .content = le32(extra),
                                  .group = le32(descriptor + 9), .architecture = {extra[8], extra[9]}};

    if (descriptor[4] == 0)
        return true;
    if (!range_add(survey, object, candidate.offset, candidate.size))
        return false;
    survey->has_oci_index |= type == TYPE_OCI_INDEX;
    if (type != TYPE_PARTITION)
        return true;
    if (use == PARTITION_PRIMARY && survey->has_primary)
        return error_set(survey->error, 0, "SIF with two primary system partitions");
    if (use == PARTITION_PRIMARY) {
        survey->primary = candidate;
        survey->has_primary = true;
    }
    if (use != PARTITION_OVERLAY || (candidate.content != CONTENT_SQUASHFS && candidate.content != CONTENT_EXT))
        return true;
    if (survey->overlay_count == IMAGE_OVERLAYS)
        return error_set(survey->error, 0, "SIF with more than %d overlay partitions", IMAGE_OVERLAYS);
    survey->overlays[survey->overlay_count++] = candidate;
    return true;
}

static bool table_read(struct survey *survey)
{
    uint8_t chunk[CHUNK * DESCRIPTOR_SIZE] = {0};

    for (uint32_t first = 0; first < survey->objects; first += CHUNK) {
        uint32_t count = survey->objects - first < CHUNK ? survey->objects - first : CHUNK;
        if (!bytes_read(survey->fd, survey->table, survey->table_size, (uint64_t)first * DESCRIPTOR_SIZE, chunk,
                        (size_t)count * DESCRIPTOR_SIZE))
            return error_set(survey->error, 0, "the table of objects of the SIF cannot be read");
        for (uint32_t i = 0; i < count; i++)
            if (!descriptor_read(survey, first + i + 1, chunk + i * DESCRIPTOR_SIZE))
                return false;
    }
    return true;
}

/* The descriptor only claims what is there: the bytes themselves are looked at, since they are what the kernel will
 * read (R-P2). */
static bool confirm(const struct survey *survey, const struct candidate *candidate, struct partition *partition)
{
    static const char *const names[] = {"unknown file system", "squashfs", "ext3", "archive", "raw data",
                                        "encrypted squashfs", "encrypted squashfs (gocryptfs)"};
    const char *name = candidate->content < sizeof names / sizeof *names ? names[candidate->content] : names[0];
    enum verdict verdict = VERDICT_OTHER;

    if (candidate->content == CONTENT_SQUASHFS)
        verdict = squashfs_recognise(survey->fd, candidate->offset, candidate->size, partition, survey->error);
    else if (candidate->content == CONTENT_EXT)
        verdict = ext_recognise(survey->fd, candidate->offset, candidate->size, partition, survey->error);
    else if (candidate->content == CONTENT_RAW)
        verdict = erofs_recognise(survey->fd, candidate->offset, candidate->size, partition, survey->error);
    if (verdict == VERDICT_OTHER && candidate->content != CONTENT_SQUASHFS && candidate->content != CONTENT_EXT)
        return error_set(survey->error, 0, "the root file system is of a kind that cannot be launched: %s", name);
    return verdict == VERDICT_YES ||
           error_set(survey->error, 0, "no %s at byte %llu, where the SIF says there is one", name,
                     (unsigned long long)candidate->offset);
}

/* Two digits by the table of pkg/sif, "01" to "13"; what is newer has no name here, and is judged as unknown. */
static void architecture_name(const uint8_t *code, char *name, size_t size)
{
    static const char *const names[] = {"",     "386",    "amd64",  "arm",      "arm64", "ppc64",   "ppc64le",
                                        "mips", "mipsle", "mips64", "mips64le", "s390x", "riscv64", "loong64"};
    int number = (code[0] - '0') * 10 + code[1] - '0';
    bool known = code[0] >= '0' && code[1] >= '0' && code[1] <= '9' && number < (int)(sizeof names / sizeof *names);

    memset(name, 0, size);
    if (known)
        memcpy(name, names[number], strlen(names[number]));
}

/* Overlay partitions belong to the root of their group: a SIF may hold several images for other programs. */
static bool survey_finish(const struct survey *survey, struct image *image)
{
    if (!survey->has_primary)
        return error_set(survey->error, 0, survey->has_oci_index ?
                         "an OCI-SIF: cannot be launched (pull it from its registry with docker:// instead)" :
                         "SIF without a primary system partition: data only, nothing to launch");
    if (!confirm(survey, &survey->primary, &image->root))
        return false;
    for (const struct candidate *overlay = survey->overlays; overlay < survey->overlays + survey->overlay_count; overlay++)
        if (overlay->group == survey->primary.group &&
            !confirm(survey, overlay, &image->overlays[image->overlay_count++]))
            return false;
    architecture_name(survey->primary.architecture, image->architecture, sizeof image->architecture);
    image->format = FORMAT_SIF;
    return true;
}

enum verdict sif_recognise(int fd, uint64_t size, struct image *image, struct error *error)
{
    uint8_t header[HEADER_SIZE];
    struct survey survey; /* 45 KiB: not cleared as a whole */

    if (!bytes_read(fd, 0, size, 0, header, MAGIC_AT + 10) || memcmp(header + MAGIC_AT, "SIF_MAGIC", 10) != 0)
        return VERDICT_OTHER;
    if (!bytes_read(fd, 0, size, 0, header, sizeof header)) {
        error_set(error, 0, "the SIF ends within its header: incomplete download? (pull it again)");
        return VERDICT_BAD;
    }
    memset(&survey, 0, offsetof(struct survey, ranges));
    survey.fd = fd;
    survey.size = size;
    survey.error = error;
    image->overlay_count = 0;
    return header_read(&survey, header) && table_read(&survey) && survey_finish(&survey, image) ? VERDICT_YES : VERDICT_BAD;
}
