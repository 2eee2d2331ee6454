/* --env and --env-file: variables that the program gets whatever the image says. */
#include "front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Both count in what the caller has set; what is made here bears the first. */
static const char prefix[] = "SINGULARITYENV_";
static const char twin[] = "APPTAINERENV_";

void injection_begin(struct injection *injection, struct arena *arena)
{
    variables_begin(&injection->given, arena);
    injection->file_count = 0;
}

/* ---- --env ---- */

/* Without a copy: words of argv live as long as the process. */
static bool take_pair(struct injection *injection, const char *pair, struct error *error)
{
    size_t length = strcspn(pair, "=");

    if (pair[length] != '=')
        return error_set(error, 0, "--env: \"%.60s\" is no NAME=VALUE (a value with a comma is quoted: '\"NAME=a,b\"')", pair);
    if (!variable_name_valid(pair, length))
        return error_set(error, 0, "--env: \"%.*s\" is no name of a variable", (int)(length < 60 ? length : 60), pair);
    return variables_adopt(&injection->given, pair, length, strlen(pair + length + 1)) ||
           error_set(error, ENOMEM, "--env");
}

/* With one "=" there is one variable, whatever commas its value has. */
static bool one_pair(const char *text)
{
    const char *equals = strchr(text, '=');
    return *text != '"' && (equals == NULL || strchr(equals + 1, '=') == NULL);
}

/* Go's CSV reader, which Docker and Apptainer use for lists, has a quote at the start of a field only. */
bool injection_take(struct injection *injection, const char *text, struct error *error)
{
    size_t size = 2 * strlen(text) + 2;
    struct text_store store = {.next = arena_take(injection->given.arena, size), .left = size};
    struct csv csv = {.next = text, .store = &store};
    enum csv_outcome outcome;
    char *field;

    if (one_pair(text))
        return take_pair(injection, text, error);
    if (store.next == NULL)
        return error_set(error, ENOMEM, "--env");
    while ((outcome = csv_read(&csv, &field)) == CSV_FIELD)
        if (*field != '\0' && !take_pair(injection, field, error))
            return false;
    return outcome == CSV_END || error_set(error, 0, "--env %.200s: a quote is not closed", text);
}

bool injection_take_file(struct injection *injection, const struct option_value *use, const char *path, struct error *error)
{
    if (injection->file_count == INJECTION_FILES)
        return error_set(error, 0, "%.*s: more than %d files", OPTION_NAME(use), INJECTION_FILES);
    injection->files[injection->file_count].path = path;
    injection->files[injection->file_count++].use = use;
    return true;
}

/* ---- files ---- */

/* Each file sees the caller's variables, and nothing that another file sets; injected is what it sets itself. */
static bool read_file(const char *path, const struct option_value *use, char *const *environment, char *const *arguments,
                      struct variables *all, struct error *error)
{
    struct variables found;
    struct error reason = {.number = 0};

    variables_begin(&found, all->arena);
    if (!host_script_evaluate(path, environment, arguments, true, &found, &reason))
        return error_set(error, 0, "%.*s: %s", OPTION_NAME(use), reason.text);
    for (uint32_t i = 0; i < found.count; i++) {
        const struct variable *variable = &found.entries[i];
        if (!variable->set || host_script_own_variable(variable->text, variable->name_length))
            continue;
        if (!variables_adopt(all, variable->text, variable->name_length, variable->value_length))
            return error_set(error, ENOMEM, "%.*s %s", OPTION_NAME(use), path);
    }
    return true;
}

/* ---- into the environment ---- */

/* Each has an option of its own, by which other things are set too. */
static bool forbidden(const char *name, size_t length)
{
    static const char *const names[] = {"HOME", "SINGULARITY_SHELL", "APPTAINER_SHELL", "SINGULARITY_APPNAME",
                                        "APPTAINER_APPNAME"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) {
            message_warning("Overriding %s environment variable with %s%s is not permitted (--home, --shell and --app set "
                            "these)", names[i], prefix, names[i]);
            return true;
        }
    return false;
}

/* What is given, on top of what the files said. Adopted over what a file said, so that --env has the last word. */
static bool merge(struct variables *all, const struct variables *given)
{
    for (uint32_t i = 0; i < given->count; i++) {
        const struct variable *variable = &given->entries[i];
        if (variables_find(all, variable->text, variable->name_length) != NULL)
            message_warning("variable %.*s is set by --env and by --env-file: --env counts", (int)variable->name_length,
                            variable->text);
        if (!variables_adopt(all, variable->text, variable->name_length, variable->value_length))
            return false;
    }
    return true;
}

/* Whether an entry of the environment injects a variable of the table. The caller's own SINGULARITYENV_NAME gives
 * way: what is typed goes before what the environment has. */
static bool replaced(const char *entry, const struct variables *all)
{
    const char *name = NULL;

    if (strncmp(entry, prefix, sizeof prefix - 1) == 0)
        name = entry + sizeof prefix - 1;
    else if (strncmp(entry, twin, sizeof twin - 1) == 0)
        name = entry + sizeof twin - 1;
    return name != NULL && variables_find(all, name, strcspn(name, "=")) != NULL;
}

static char *injected(const struct variable *variable, struct arena *arena)
{
    size_t length = strlen(variable->text) + 1;
    char *entry = arena_take(arena, sizeof prefix + length);

    if (entry != NULL) {
        memcpy(entry, prefix, sizeof prefix - 1);
        memcpy(entry + sizeof prefix - 1, variable->text, length);
    }
    return entry;
}

/* By SINGULARITYENV_NAME, which the environment of the container takes in at its place: after the image's own scripts
 * (environment/environment.c). */
static char **rewrite(const struct variables *all, char **environment)
{
    size_t count = 0, used = 0;

    while (environment[count] != NULL)
        count++;
    char **result = arena_take(all->arena, (count + all->count + 1) * sizeof *result);
    if (result == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!replaced(environment[i], all))
            result[used++] = environment[i];
    for (uint32_t i = 0; i < all->count; i++) {
        const struct variable *variable = &all->entries[i];
        if (!variable->set || forbidden(variable->text, variable->name_length))
            continue;
        result[used] = injected(variable, all->arena);
        if (result[used++] == NULL)
            return NULL;
    }
    result[used] = NULL;
    return result;
}

/* Nothing asked for, nothing copied: the environment itself is handed on. */
char **injection_finish(struct injection *injection, char **environment, char *const *arguments, struct error *error)
{
    struct variables all;

    if (injection->file_count == 0 && injection->given.count == 0)
        return environment;
    variables_begin(&all, injection->given.arena);
    for (uint32_t i = 0; i < injection->file_count; i++)
        if (!read_file(injection->files[i].path, injection->files[i].use, environment, arguments, &all, error))
            return NULL;
    char **result = merge(&all, &injection->given) ? rewrite(&all, environment) : NULL;
    if (result == NULL)
        error_set(error, ENOMEM, "--env, --env-file");
    return result;
}
