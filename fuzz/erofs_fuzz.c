/* An EROFS is one wherever it begins, and no room that lacks one of its bytes is enough for it. */
#include <string.h>

#include "image/image.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OFFSET = 31, LOG_AT = 1036, BLOCKS_AT = 1060, HIGH_AT = 1038, FEATURES_AT = 1104, WIDE = 0x80 };

static uint64_t number_at(const uint8_t *data, int bytes)
{
    uint64_t number = 0;

    while (bytes-- > 0)
        number = number << 8 | data[bytes];
    return number;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct partition partition = {0}, behind = {0};
    struct error error = {0}, error_behind = {0};
    enum verdict verdict = erofs_recognise(memory_file(0, data, size), 0, size, &partition, &error);

    assert((verdict == VERDICT_BAD) == (error.text[0] != '\0'));
    assert(erofs_recognise(memory_file(OFFSET, data, size), OFFSET, size, &behind, &error_behind) == verdict);
    assert(strcmp(error.text, error_behind.text) == 0);
    if (verdict != VERDICT_YES)
        return 0;
    assert(partition.filesystem == FILESYSTEM_EROFS && partition.offset == 0 && partition.size == size);
    assert(behind.offset == OFFSET && behind.size == size);
    uint64_t high = (data[FEATURES_AT] & WIDE) != 0 ? number_at(data + HIGH_AT, 2) : 0;
    uint64_t used = (number_at(data + BLOCKS_AT, 4) | high << 32) << data[LOG_AT];
    assert(data[LOG_AT] >= 9 && data[LOG_AT] <= 16 && used > 0 && used <= size);
    verdict = erofs_recognise(memory_file(0, data, used - 1), 0, used - 1, &behind, &error);
    assert(verdict == VERDICT_BAD || (verdict == VERDICT_OTHER && used <= FEATURES_AT + 48));
    return 0;
}
