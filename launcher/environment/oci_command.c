#include "environment/oci_command.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>

#include "environment/script.h"
#include "environment/source.h"
#include "environment/text.h"

struct command {
    char **words;
    size_t count;
};

/* The words of `NAME='word word'`, which stands on a line of its own; none if there is no such line. */
static bool declared_words(const char *script, const char *name, struct variables *variables, struct command *command)
{
    struct variables scratch;
    struct script_result result;
    const char *line = script, *value;

    *command = (struct command){NULL, 0};
    while (strncmp(line, name, strlen(name)) != 0 || line[strlen(name)] != '=') {
        line = strchr(line, '\n');
        if (line++ == NULL)
            return true;
    }
    if (!variables_copy(&scratch, variables) ||
        script_evaluate("runscript", line, strcspn(line, "\n"), &scratch, &result) != SCRIPT_APPLIED)
        return false;
    value = variables_get(&scratch, name);
    return value == NULL || script_split(value, variables, &command->words, &command->count, &result) == SCRIPT_APPLIED;
}

static char *evaluated(char *argument, struct variables *variables)
{
    const char *expanded;
    struct script_result result;

    return script_expand(argument, variables, &expanded, &result) == SCRIPT_APPLIED ? (char *)(uintptr_t)expanded : argument;
}

char *const *oci_command(const char *runscript, char *const *arguments, bool no_eval, struct variables *variables)
{
    struct command entry, defaults;
    size_t size, given = 0, used = 0;
    char *script = source_read(AT_FDCWD, runscript, variables->arena, &size);
    char **words;

    if (script == NULL || strstr(script, "eval \"set ${SINGULARITY_OCI_RUN}\"") == NULL ||
        !declared_words(script, "OCI_ENTRYPOINT", variables, &entry) ||
        !declared_words(script, "OCI_CMD", variables, &defaults))
        return NULL;
    while (arguments[given] != NULL)
        given++;
    words = arena_take(variables->arena, (entry.count + defaults.count + given + 1) * sizeof *words);
    if (words == NULL)
        return NULL;
    for (size_t at = 0; at < entry.count; at++)
        words[used++] = entry.words[at];
    for (size_t at = 0; given == 0 && at < defaults.count; at++)
        words[used++] = defaults.words[at];
    for (size_t at = 0; at < given; at++)
        words[used++] = no_eval ? arguments[at] : evaluated(arguments[at], variables);
    words[used] = NULL;
    return used == 0 ? NULL : words;
}
