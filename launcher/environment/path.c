/* PATH: its default, what users put before and behind it, and what every container has at its end. */
#include "environment/parts.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names by which 99-runtimevars.sh of Apptainer's images knows the caller's changes; where that script is missing
 * they are applied here. */
static const char prepend_name[] = "SING_USER_DEFINED_PREPEND_PATH";
static const char append_name[] = "SING_USER_DEFINED_APPEND_PATH";
static const char replace_name[] = "SING_USER_DEFINED_PATH";

static const char *value_or_empty(const struct variables *variables, const char *name)
{
    const char *value = variables_get(variables, name);
    return value == NULL ? "" : value;
}

static void put(struct variables *variables, const char *name, const struct text *value)
{
    environment_need(variables_put(variables, name, value->bytes));
}

/* Whether a list with colons has the directory. By whole directories: /usr/bin is not in a list that has /usr/bin2. */
static bool path_has(const char *list, const char *directory, size_t length)
{
    for (;;) {
        size_t part = strcspn(list, ":");
        if (part == length && memcmp(list, directory, length) == 0)
            return true;
        if (list[part] == '\0')
            return false;
        list += part + 1;
    }
}

/* Exported in any case: a script may have given it a value only. */
void path_begin(struct variables *variables)
{
    if (variables_get(variables, "PATH") == NULL)
        environment_need(variables_put(variables, "PATH", PATH_DEFAULT));
    else
        environment_need(variables_export(variables, "PATH", strlen("PATH")));
}

/* At the end, so that nothing of the image is hidden; each once. */
void path_complete(struct variables *variables)
{
    const char *path = value_or_empty(variables, "PATH");
    struct text whole = {.arena = variables->arena};
    const char *part = PATH_DEFAULT;

    text_add_string(&whole, path);
    for (;;) {
        size_t length = strcspn(part, ":");
        if (!path_has(path, part, length)) {
            text_add_string(&whole, whole.length > 0 ? ":" : "");
            text_add(&whole, part, length);
        }
        if (part[length] == '\0')
            break;
        part += length + 1;
    }
    put(variables, "PATH", &whole);
}

/* A replaced PATH is the caller's word as a whole: what else he said of it has no place in it. */
void path_change(struct variables *variables)
{
    const char *path = value_or_empty(variables, "PATH");
    const char *prepend = value_or_empty(variables, prepend_name);
    const char *append = value_or_empty(variables, append_name);
    const char *replace = value_or_empty(variables, replace_name);
    struct text whole = {.arena = variables->arena};

    if (*prepend == '\0' && *append == '\0' && *replace == '\0')
        return;
    if (*replace != '\0')
        text_add_string(&whole, replace);
    else
        text_add_strings(&whole, prepend, *prepend == '\0' ? "" : ":", path, *append == '\0' ? "" : ":", append, NULL);
    put(variables, "PATH", &whole);
}

/* A socket, and not the empty file that it was mounted on, which stays in a directory that is written. */
void path_commands_first(struct variables *variables)
{
    struct stat status;

    if (stat(COMMANDS_INSIDE "/socket", &status) == 0 && S_ISSOCK(status.st_mode))
        environment_need(variables_put(variables, "PATH", text_join(variables->arena, COMMANDS_INSIDE "/bin", ":", value_or_empty(variables, "PATH"))));
}

/* They are between the launcher and the image's script, and none of the program's business. */
void path_changes_drop(struct variables *variables)
{
    variables_unset(variables, prepend_name, strlen(prepend_name));
    variables_unset(variables, append_name, strlen(append_name));
    variables_unset(variables, replace_name, strlen(replace_name));
}

/* At the end, where libraries of the host fill gaps; at the start with --mpi, whose libraries must be found before
 * the image's of the same name. */
void library_path_complete(struct variables *variables, bool first)
{
    const char *list = value_or_empty(variables, "LD_LIBRARY_PATH");
    struct text whole = {.arena = variables->arena};

    if (first)
        text_add_strings(&whole, LIBRARY_DIRECTORY, *list == '\0' ? "" : ":", NULL);
    text_add_string(&whole, list);
    if (!first && !path_has(list, LIBRARY_DIRECTORY, strlen(LIBRARY_DIRECTORY)))
        text_add_strings(&whole, *list == '\0' ? "" : ":", LIBRARY_DIRECTORY, NULL);
    if (access(LIBRARY_DIRECTORY "32", F_OK) == 0 && !path_has(list, LIBRARY_DIRECTORY "32", strlen(LIBRARY_DIRECTORY "32")))
        text_add_strings(&whole, ":", LIBRARY_DIRECTORY "32", NULL);
    put(variables, "LD_LIBRARY_PATH", &whole);
}
