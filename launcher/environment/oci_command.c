/* ENTRYPOINT and CMD of a Docker image, from the runscript that a build wrote for them. */
#include "environment/environment.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>

#include "environment/script.h"
#include "environment/text.h"

struct command {
    char **words;
    size_t count;
};

/* The end of an assignment: the first newline outside quotes, for the words of an image may hold newlines. */
static const char *assignment_end(const char *at)
{
    for (char quote = '\0'; *at != '\0' && (*at != '\n' || quote != '\0'); at++) {
        if (*at == '\\' && quote != '\'' && at[1] != '\0')
            at++;
        else if (quote == '\0' ? *at == '\'' || *at == '"' : *at == quote)
            quote = quote == '\0' ? *at : '\0';
    }
    return at;
}

/* The line of the script that gives `name` a value, what other assignments quote left out; NULL: there is none. Lines
 * within the quotes of another assignment are text of its value and never looked at: an image could hide a second
 * OCI_CMD there. */
static const char *assignment_find(const char *script, const char *name)
{
    size_t length = strlen(name);

    while (script != NULL && *script != '\0') {
        if (strncmp(script, name, length) == 0 && script[length] == '=')
            return script;
        script = strncmp(script, "OCI_", strlen("OCI_")) == 0 ? assignment_end(script) : strchr(script, '\n');
        script += script != NULL && *script != '\0' ? 1 : 0;
    }
    return NULL;
}

/* The words of `NAME='word word'`, which begins a line; none if there is no such line. By a copy of the table: what
 * the line sets is no variable of the program. */
static bool declared_words(const char *script, const char *name, struct variables *variables, struct command *command)
{
    struct variables scratch;
    struct script_result result;
    const char *line = assignment_find(script, name), *value;

    *command = (struct command){NULL, 0};
    if (line == NULL)
        return true;
    if (!variables_copy(&scratch, variables) ||
        script_evaluate("runscript", line, (size_t)(assignment_end(line) - line), &scratch, &result) != SCRIPT_APPLIED)
        return false;
    value = variables_get(&scratch, name);
    return value == NULL || script_split(value, variables, &command->words, &command->count, &result) == SCRIPT_APPLIED;
}

/* An argument that is live code stays as it was typed: there is no shell to ask. */
static char *evaluated(char *argument, struct variables *variables)
{
    const char *expanded;
    struct script_result result;

    return script_expand(argument, variables, &expanded, &result) == SCRIPT_APPLIED ? (char *)(uintptr_t)expanded : argument;
}

/* Only a runscript that has the very line by which Apptainer's builds start the command: one that somebody has
 * changed is run and not read. */
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
