/* The command line: words separated by NUL, those of the environment first. What is accepted becomes a request that the
 * decoder takes back byte for byte, every path in it is absolute, and the program's words are the last ones given. */
#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "front/front.h"

enum { WORDS = 512, BYTES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct invocation invocation;
static struct arena arena;
static uint8_t encoded[REQUEST_LIMIT], again[REQUEST_LIMIT];

/* Cuts the bytes into words; the first *variables of them are entries of an environment. */
static size_t cut(char *text, size_t size, char *words[WORDS], size_t *variables)
{
    size_t count = 0;

    *variables = 0;
    for (char *word = text; word < text + size && count < WORDS - 1; word += strlen(word) + 1) {
        bool entry = strncmp(word, "SINGULARITY_", 12) == 0 || strncmp(word, "APPTAINER_", 10) == 0;
        if (entry && *variables == count)
            *variables = count + 1;
        words[count++] = word;
    }
    words[count] = NULL;
    return count;
}

static void check_paths(const struct request *request)
{
    assert(request->image == NULL || request->image[0] == '/');
    assert(request->workdir == NULL || request->workdir[0] == '/');
    assert(request->home_source == NULL || request->home_source[0] == '/');
    assert(request->target_cwd == NULL || request->target_cwd[0] == '/');
    for (uint32_t i = 0; i < request->bind_count; i++)
        assert(request->bind[i].first[0] == '/' && request->bind[i].second[0] == '/');
    for (uint32_t i = 0; i < request->scratch_count; i++)
        assert(request->scratch[i].first[0] == '/' && strstr(request->scratch[i].first, "/../") == NULL);
    for (uint32_t i = 0; i < request->overlay_count; i++)
        assert(request->overlay[i].first[0] == '/');
}

static void check_round_trip(const struct request *request)
{
    static struct request back;
    struct error error = {.number = 0};
    size_t size = request_encode(request, encoded, sizeof encoded, &error);

    if (size == 0) {
        assert(error.text[0] != '\0');
        return;
    }
    memset(&back, 0, offsetof(struct request, text_store));
    assert(request_decode(encoded, size, &back, &error));
    assert(request_encode(&back, again, sizeof again, &error) == size && memcmp(encoded, again, size) == 0);
}

static void check_launch(struct command_line *line, char *const *environment)
{
    static struct option_variables variables;
    struct error error = {.number = 0};
    int level;

    memset(&variables, 0, sizeof variables);
    option_variables_read(environment, &variables);
    if (!option_variables_apply(&variables, SCOPE_GLOBAL, &line->options, &error) ||
        !option_variables_apply(&variables, line->scope, &line->options, &error) ||
        !options_level(&line->options, &level, &error)) {
        assert(error.text[0] != '\0');
        return;
    }
    memset(&invocation, 0, offsetof(struct invocation, request) + offsetof(struct request, text_store));
    invocation_begin(&invocation, &arena, "/current/directory", true);
    if (!invocation_take_options(&invocation, line->scope, &line->options, &error) ||
        (*line->rest != NULL && !invocation_take_image(&invocation, *line->rest, &error))) {
        assert(error.text[0] != '\0');
        return;
    }
    check_paths(&invocation.request);
    check_round_trip(&invocation.request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct command_line line;
    static char text[BYTES + 1];
    static char *words[WORDS], *environment[WORDS];
    struct error error = {.number = 0};
    size_t variables;

    if (size > BYTES)
        return 0;
    message_begin(LEVEL_FATAL - 1, false);
    memcpy(text, data, size);
    text[size] = '\0';
    size_t count = cut(text, size, words, &variables);
    memcpy(environment, words, variables * sizeof *words);
    environment[variables] = NULL;
    memset(&line, 0, sizeof line);
    arena_begin(&arena, ARENA_LIMIT);
    if (!command_line_parse(words + variables, &line, &error))
        assert(error.text[0] != '\0');
    else if (line.kind == LINE_LAUNCH) {
        assert(line.rest > (char *const *)words + variables && line.rest <= (char *const *)words + count);
        check_launch(&line, environment);
    }
    arena_end(&arena);
    return 0;
}
