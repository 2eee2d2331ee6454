/* Layers of strangers: any bytes give members that keep their promises, or one line, in memory that is bounded. Touches nothing. */
#include <assert.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "../packer/tar.h"

struct bytes {
    const uint8_t *data;
    size_t size;
};

static jmp_buf refused;

static void refuse(void) { longjmp(refused, 1); }

static size_t read_bytes(void *from, void *data, size_t size)
{
    struct bytes *bytes = from;
    size_t count = size < bytes->size ? size : bytes->size;
    if (count)
        memcpy(data, bytes->data, count);
    bytes->data += count;
    bytes->size -= count;
    return count;
}

static void check_path(struct text path)
{
    assert(path.size <= PATH_LIMIT && (!path.size || (path.at[0] != '/' && path.at[path.size - 1] != '/')));
    assert(!path.size || (!memchr(path.at, 0, path.size) && !memmem(path.at, path.size, "//", 2)));
    assert(!text_is(path, "..") && !text_begins(path, "../") && !memmem(path.at, path.size, "/../", 4));
}

static void check(const struct member *member)
{
    uint64_t end = 0;
    check_path(member->path);
    assert(member->mode <= 07777 && member->uid != ID_LIMIT && member->gid != ID_LIMIT);
    assert(member->path.size || member->kind == KIND_DIRECTORY);
    if (member->kind == KIND_HARD_LINK)
        check_path(member->target);
    for (size_t i = 0; member->sparse && i < member->segment_count; i++) {
        assert(member->segments[i].size && member->segments[i].offset >= end);
        end = member->segments[i].offset + member->segments[i].size;
        assert(end <= member->size);
    }
    for (size_t i = 0; i < member->attribute_count; i++)
        assert(member->attributes[i].name.size && member->attributes[i].name.size <= 255);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = {data, size};
    struct tar *tar = tar_open(read_bytes, &bytes);
    struct member member;
    on_bad = refuse;
    if (!setjmp(refused))
        while (tar_next(tar, &member))
            check(&member);
    tar_close(tar);
    return 0;
}
