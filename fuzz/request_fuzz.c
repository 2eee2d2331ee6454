/* A launch request that is accepted encodes back to itself, byte for byte. */
#include "request.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct request request;
static uint8_t again[REQUEST_LIMIT];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error = {0};

    memset(&request, 0, offsetof(struct request, text_store));
    if (request_decode(data, size, &request, &error)) {
        assert(request_encode(&request, again, sizeof again, &error) == size);
        assert(memcmp(again, data, size) == 0);
    } else
        assert(error.text[0] != '\0');
    return 0;
}
