/* What is accepted as a call of a command of the host is all of its bytes, text after text, and nothing behind them. */
#include "commands/commands.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct call_head head;
    struct call call;
    struct arena arena;

    if (size < sizeof head)
        return 0;
    memcpy(&head, data, sizeof head);
    size -= sizeof head;
    if (!call_head_valid(&head) || head.size != size)
        return 0;
    char *bytes = malloc(size); /* of this size and no more: what reads further is seen */
    assert(bytes != NULL);
    memcpy(bytes, data + sizeof head, size);
    arena_begin(&arena, ARENA_LIMIT);
    if (call_read(&head, bytes, &arena, &call)) {
        const char *next = call.directory + strlen(call.directory) + 1;
        assert(call.directory == bytes && call.words[0] != NULL);
        for (char **word = call.words; *word != NULL; next += strlen(next) + 1, word++)
            assert(*word == next);
        for (char **each = call.variables; *each != NULL; next += strlen(next) + 1, each++) {
            assert(*each == next);
            if (call_passes(call.words[0], *each))
                assert(strncmp(*each, "LD_", 3) != 0 && strncmp(*each, "SLURM_CONF", 10) != 0 && strchr(*each, '=') != NULL);
        }
        assert(next == bytes + size);
        if (call_name_valid(call.words[0]))
            assert(strchr(call.words[0], '/') == NULL && strlen(call.words[0]) < COMMANDS_NAME);
    }
    arena_end(&arena);
    free(bytes);
    return 0;
}
