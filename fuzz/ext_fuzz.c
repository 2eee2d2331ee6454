/* An ext file system is one wherever it begins, and no room that is a block too small is enough for it. */
#include <string.h>

#include "image/image.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OFFSET = 31, SMALLEST_BLOCK = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct partition partition = {0}, behind = {0};
    struct error error = {0}, error_behind = {0};
    enum verdict verdict = ext_recognise(memory_file(0, data, size), 0, size, &partition, &error);

    assert((verdict == VERDICT_BAD) == (error.text[0] != '\0'));
    assert(ext_recognise(memory_file(OFFSET, data, size), OFFSET, size, &behind, &error_behind) == verdict);
    assert(strcmp(error.text, error_behind.text) == 0);
    if (verdict != VERDICT_YES)
        return 0;
    assert(partition.filesystem == FILESYSTEM_EXT && partition.offset == 0 && partition.size == size);
    assert(behind.offset == OFFSET && behind.size == size);
    uint64_t blocks = (uint64_t)data[1028] | (uint64_t)data[1029] << 8 | (uint64_t)data[1030] << 16 | (uint64_t)data[1031] << 24;
    assert(data[1048] <= 6 && blocks > 0 && blocks * SMALLEST_BLOCK << data[1048] <= size);
    return 0;
}
