/* The site's and the user's init scripts, which set variables before a launch. */
#include "front.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../environment/variables.h"
#include "../variable.h"

static const char library_path[] = "LD_LIBRARY_PATH";
static const char injection[] = "SINGULARITYENV_LD_LIBRARY_PATH=";

/* What a script cannot change: names that no shell takes in, and the shell's own. */
static bool beyond(const char *entry, size_t length)
{
    return entry[length] != '=' || !variable_name_valid(entry, length) || host_script_own_variable(entry, length);
}

/* The host's library path never enters a container by itself; the one of these scripts is meant to. */
static char *injected_library_path(const struct variables *after, char *const *environment, struct arena *arena)
{
    const char *value = variables_get(after, library_path);
    const char *old = variable(environment, library_path);

    if (value == NULL || (old != NULL && strcmp(value, old) == 0) ||
        variable(environment, "SINGULARITYENV_LD_LIBRARY_PATH") != NULL ||
        variable(environment, "APPTAINERENV_LD_LIBRARY_PATH") != NULL)
        return NULL;
    char *entry = arena_take(arena, sizeof injection + strlen(value));
    if (entry != NULL) {
        memcpy(entry, injection, sizeof injection - 1);
        memcpy(entry + sizeof injection - 1, value, strlen(value) + 1);
    }
    return entry;
}

/* What the script has unset is gone, what no shell takes in is put back unchanged. */
static char **rewrite(const struct variables *after, char **environment, struct arena *arena)
{
    size_t count = 0, used = 0;

    while (environment[count] != NULL)
        count++;
    char **result = arena_take(arena, (count + after->count + 2) * sizeof *result);
    if (result == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (beyond(environment[i], strcspn(environment[i], "=")))
            result[used++] = environment[i];
    for (uint32_t i = 0; i < after->count; i++) {
        const struct variable *variable = &after->entries[i];
        if (variable->set && variable->exported && !beyond(variable->text, variable->name_length))
            result[used++] = (char *)(uintptr_t)variable->text;
    }
    result[used] = injected_library_path(after, environment, arena);
    used += result[used] != NULL;
    result[used] = NULL;
    return result;
}

/* HOME is often another user's after su and sudo, and what that user wrote is not for this one to run. */
static bool foreign(const char *path, const struct stat *status)
{
    if (status->st_uid == 0 || status->st_uid == getuid())
        return false;
    message_warning("%s: not read, it belongs to uid %u", path, status->st_uid);
    return true;
}

/* The site's script is not checked for its owner: who can write there can replace the program as well. */
char **init_script_apply(const char *path, bool of_home, char **environment, struct arena *arena, struct error *error)
{
    static char *const no_arguments[] = {NULL};
    struct error reason = {.number = 0};
    struct variables after;
    struct stat status;

    if (stat(path, &status) < 0 || (of_home && foreign(path, &status)))
        return environment;
    variables_begin(&after, arena);
    if (!host_script_evaluate(path, environment, no_arguments, false, &after, &reason)) {
        error_set(error, 0, "init script %s", reason.text);
        return NULL;
    }
    message_verbose("variables set by %s", path);
    char **result = rewrite(&after, environment, arena);
    if (result == NULL)
        error_set(error, 0, "init script %s: no memory left", path);
    return result;
}
