/* Live code changes nothing; what a script made, written out as a script, makes the same again; the line that is live
 * lies in the text. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "../tests/launcher/script_dump.h"
#include "environment/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct arena arena;

static void start(struct variables *variables)
{
    variables_begin(variables, &arena);
    assert(variables_put(variables, "PATH", "/bin") && variables_set(variables, "HIDDEN", "it's") &&
           variables_put(variables, "EMPTY", ""));
}

static void evaluate_again(const struct variables *variables, const char *dump, size_t size)
{
    struct script_result result;
    struct variables again;
    size_t again_size;
    char *text;

    variables_begin(&again, &arena);
    assert(script_evaluate("dump", dump, size, &again, &result) == SCRIPT_APPLIED);
    text = script_write_dump(&again, &again_size);
    assert(text != NULL && again_size == size && memcmp(text, dump, size) == 0);
    for (uint32_t at = 0; at < variables->count; at++) {
        const struct variable *entry = &variables->entries[at];
        const struct variable *found = variables_find(&again, entry->text, entry->name_length);
        assert(entry->set == (found != NULL));
        assert(found == NULL || (found->exported == entry->exported && strcmp(found->text, entry->text) == 0));
    }
    variables_begin(&again, &arena);
    assert(script_read_dump(dump, size, &again, &result));
}

static void check_line(const uint8_t *data, size_t size, const struct script_result *result)
{
    unsigned lines = 1;

    for (size_t at = 0; at < size; at++)
        lines += data[at] == '\n' ? 1 : 0;
    assert(result->why != NULL);
    assert(strcmp(result->file, "fuzz") != 0 || (result->line >= 1 && result->line <= lines));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct variables variables;
    struct script_result result;
    const char *expanded;
    size_t before_size, after_size;
    char *before, *after, **words, value[4096];
    size_t count;
    enum script_outcome outcome;

    arena_begin(&arena, ARENA_LIMIT);
    start(&variables);
    before = script_write_dump(&variables, &before_size);
    outcome = script_evaluate("fuzz", (const char *)data, size, &variables, &result);
    after = script_write_dump(&variables, &after_size);
    assert(before != NULL && after != NULL);
    if (outcome == SCRIPT_LIVE) {
        assert(before_size == after_size && memcmp(before, after, after_size) == 0);
        check_line(data, size, &result);
    } else if (after_size <= SCRIPT_LIMIT) {
        evaluate_again(&variables, after, after_size);
    }
    if (size < sizeof value && memchr(data, '\0', size) == NULL) {
        memcpy(value, data, size);
        value[size] = '\0';
        after = script_write_dump(&variables, &after_size);
        if (script_expand(value, &variables, &expanded, &result) == SCRIPT_APPLIED)
            assert(strpbrk(value, "$\\") != NULL || strcmp(value, expanded) == 0);
        if (script_split(value, &variables, &words, &count, &result) == SCRIPT_APPLIED)
            assert(words[count] == NULL && count <= size);
        before = script_write_dump(&variables, &before_size);
        assert(before_size == after_size && memcmp(before, after, after_size) == 0);
    }
    variables_begin(&variables, &arena);
    (void)script_read_dump((const char *)data, size, &variables, &result);
    arena_end(&arena);
    return 0;
}
