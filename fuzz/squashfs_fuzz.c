/* A squashfs is one wherever it begins, and the room it is said to have is enough for what it speaks of. */
#include <string.h>

#include "image/image.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OFFSET = 31 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct partition partition = {0}, behind = {0};
    struct error error = {0}, error_behind = {0};
    enum verdict verdict = squashfs_recognise(memory_file(0, data, size), 0, size, &partition, &error);

    assert((verdict == VERDICT_BAD) == (error.text[0] != '\0'));
    assert(squashfs_recognise(memory_file(OFFSET, data, size), OFFSET, size, &behind, &error_behind) == verdict);
    assert(strcmp(error.text, error_behind.text) == 0);
    if (verdict != VERDICT_YES)
        return 0;
    assert(partition.filesystem == FILESYSTEM_SQUASHFS && partition.offset == 0 && partition.size == size);
    assert(behind.offset == OFFSET && behind.size == size && behind.no_kernel == partition.no_kernel);
    size_t used = 0;
    for (int i = 7; i >= 0; i--)
        used = used << 8 | data[40 + i];
    assert(used <= size && squashfs_recognise(memory_file(0, data, used - 1), 0, used - 1, &behind, &error) == VERDICT_BAD);
    return 0;
}
