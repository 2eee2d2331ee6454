/* Partitions of an accepted SIF lie inside the file, clear of its header, of its table and of each other. */
#include <string.h>

#include "image/image.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER_SIZE = 128, TABLE_AT = 96, TABLE_SIZE_AT = 104 };

static uint64_t number_at(const uint8_t *data, size_t at)
{
    uint64_t number = 0;

    for (int i = 7; i >= 0; i--)
        number = number << 8 | data[at + (size_t)i];
    return number;
}

static bool apart(const struct partition *partition, uint64_t begin, uint64_t size)
{
    return partition->offset + partition->size <= begin || begin + size <= partition->offset;
}

static void check_place(const struct partition *partition, const uint8_t *data, size_t size)
{
    assert(partition->filesystem != FILESYSTEM_DIRECTORY);
    assert(partition->offset <= size && partition->size <= size - partition->offset && partition->size > 0);
    assert(apart(partition, 0, HEADER_SIZE));
    assert(apart(partition, number_at(data, TABLE_AT), number_at(data, TABLE_SIZE_AT)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image, whole = {.fd = -1};
    struct error error = {0}, error_whole = {0};
    int fd = memory_file(0, data, size);

    memset(&image, 0, sizeof image);
    enum verdict verdict = sif_recognise(fd, size, &image, &error);
    assert((verdict == VERDICT_BAD) == (error.text[0] != '\0'));
    bool recognised = image_recognise(fd, size, "image", &whole, &error_whole);
    assert(recognised == (error_whole.text[0] == '\0') && (verdict == VERDICT_OTHER || recognised == (verdict == VERDICT_YES)));
    if (verdict != VERDICT_YES)
        return 0;
    assert(image.format == FORMAT_SIF && whole.format == FORMAT_SIF && image.overlay_count <= IMAGE_OVERLAYS);
    assert(memchr(image.architecture, '\0', sizeof image.architecture) != NULL);
    check_place(&image.root, data, size);
    for (uint32_t i = 0; i < image.overlay_count; i++) {
        check_place(&image.overlays[i], data, size);
        assert(apart(&image.overlays[i], image.root.offset, image.root.size));
        for (uint32_t j = 0; j < i; j++)
            assert(apart(&image.overlays[i], image.overlays[j].offset, image.overlays[j].size));
    }
    size_t cut = image.root.offset + image.root.size - 1;
    assert(sif_recognise(memory_file(0, data, cut), cut, &image, &error) == VERDICT_BAD);
    return 0;
}
