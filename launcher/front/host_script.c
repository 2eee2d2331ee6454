/* A script of the host (init scripts, --env-file): its variables, evaluated here or by /bin/sh in a child. */
#include "front.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../descriptor.h"
#include "../environment/script.h"

/* what a shell prints may be larger than its script, which loops over something; still no more than execve(2) could
 * ever hand on */
enum { DUMP_LIMIT = 8 << 20 };

bool host_script_own_variable(const char *name, size_t length)
{
    static const char *const names[] = {"PWD", "OLDPWD", "SHLVL", "_"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
            return true;
    return false;
}

/* Everything up to the end, in the arena; NULL with the error set. `name` stands in the error, which is about the
 * file and not about a call. */
static char *read_whole(int fd, const char *name, size_t limit, struct arena *arena, size_t *size, struct error *error)
{
    char *bytes = source_read_whole(fd, 4096, limit, arena, size);

    if (bytes == NULL && (errno == EFBIG || errno == ENOMEM))
        error_set(error, 0, "%s: longer than %zu bytes", name, limit);
    else if (bytes == NULL)
        error_set(error, errno, "%s", name);
    return bytes;
}

/* Everything counts as exported, since it came by the environment. Names that no shell takes in stay out here, and
 * the caller puts them back. */
static bool adopt(struct variables *variables, char *const *environment)
{
    for (; *environment != NULL; environment++) {
        size_t length = strcspn(*environment, "=");
        if ((*environment)[length] != '=' || !variable_name_valid(*environment, length))
            continue;
        if (!variables_adopt(variables, *environment, length, strlen(*environment + length + 1)) ||
            !variables_export(variables, *environment, length))
            return false;
    }
    return true;
}

/* ---- a shell for live code ---- */

/* posix_spawn(3): no copy of this process's memory is made, and what it reports as an error is the failed execve(2)
 * itself. */
static pid_t shell_start(int script, int dump, char *const *environment, char *const *words)
{
    posix_spawn_file_actions_t actions;
    pid_t child = -1;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    int failed = posix_spawn_file_actions_adddup2(&actions, script, STDIN_FILENO);
    failed |= posix_spawn_file_actions_adddup2(&actions, dump, STDOUT_FILENO);
    if (failed == 0)
        failed = posix_spawn(&child, "/bin/sh", &actions, NULL, words, environment);
    posix_spawn_file_actions_destroy(&actions);
    errno = failed;
    return failed == 0 ? child : -1;
}

/* What the script prints goes to standard error, so that only the dump comes through the pipe. 9 is the script's
 * text, 8 the pipe; standard input is empty, so that a script that reads does not eat its own text */
#define SHELL_BEFORE "exec 9<&0 8>&1 </dev/null >&2; "
#define SHELL_SCRIPT ". /dev/fd/9; export -p >&8"

/* $0 is "sh", so that the arguments begin at $1. `set -a` exports whatever is assigned (POSIX, set). */
static char **shell_words(bool keep_all, char *const *arguments, struct arena *arena)
{
    static char sh[] = "sh", c[] = "-c";
    static char plain[] = SHELL_BEFORE SHELL_SCRIPT, all[] = SHELL_BEFORE "set -a; " SHELL_SCRIPT;
    size_t count = 0;

    while (arguments[count] != NULL)
        count++;
    char **words = arena_take(arena, (count + 5) * sizeof *words);
    if (words == NULL)
        return NULL;
    words[0] = sh;
    words[1] = c;
    words[2] = keep_all ? all : plain;
    words[3] = sh;
    memcpy(words + 4, arguments, (count + 1) * sizeof *words);
    return words;
}

/* Read to the end before waiting: a child that fills the pipe would wait for us, and we for it (pipe(7)). */
static bool shell_evaluate(const char *path, int script, char *const *environment, char *const *words,
                           struct variables *variables, struct error *error)
{
    struct script_result result;
    int ends[2], status = 0;
    size_t size;

    if (script < 0 || words == NULL || pipe2(ends, O_CLOEXEC) < 0)
        return error_set(error, errno, "%s: no way to start /bin/sh for it", path);
    OWNED_FD reading = ends[0];
    OWNED_FD writing = ends[1];
    pid_t child = shell_start(script, writing, environment, words);
    if (child < 0)
        return error_set(error, errno, "%s: /bin/sh, needed to evaluate it", path);
    fd_close(&writing);
    const char *dump = read_whole(reading, path, DUMP_LIMIT, variables->arena, &size, error);
    fd_close(&reading);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (dump == NULL)
        return false;
    if (status != 0)
        return error_set(error, 0, "%s: /bin/sh could not evaluate it (status %d)", path,
                         WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return script_read_dump(dump, size, variables, &result) ||
           error_set(error, 0, "%s: /bin/sh printed no variables after it", path);
}

/* ---- what a script has set ---- */

static bool assigns(const char *text, const char *name, size_t length)
{
    for (const char *at = text; (at = memmem(at, strlen(at), name, length)) != NULL; at += length)
        if (at[length] == '=' && (at == text || !variable_name_valid(at - 1, 1)))
            return true;
    return false;
}

/* What is as it was in `environment` is the script's only if it is assigned there. */
static void keep_own(struct variables *variables, char *const *environment, const char *text)
{
    for (; *environment != NULL; environment++) {
        size_t length = strcspn(*environment, "=");
        const struct variable *variable = variables_find(variables, *environment, length);
        if (variable != NULL && strcmp(variable->text, *environment) == 0 && !assigns(text, variable->text, length))
            variables_unset(variables, *environment, length);
    }
}

/* From the text that was read, also for the shell: the file may change in between. Live code begins from the start
 * again, so that no half of it counts twice. */
bool host_script_evaluate(const char *path, char *const *environment, char *const *arguments, bool own,
                          struct variables *variables, struct error *error)
{
    OWNED_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct script_result result;
    struct stat status;
    size_t size;

    if (fd < 0)
        return error_set(error, errno, "%s", path);
    if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode))
        return error_set(error, EISDIR, "%s", path);
    const char *text = read_whole(fd, path, SCRIPT_LIMIT, variables->arena, &size, error);
    if (text == NULL)
        return false;
    if (!adopt(variables, environment))
        return error_set(error, ENOMEM, "%s", path);
    if (script_evaluate(path, text, size, variables, &result) != SCRIPT_APPLIED) {
        message_verbose("%s:%u: %s: evaluated by /bin/sh", path, result.line, result.why);
        variables_begin(variables, variables->arena);
        OWNED_FD script = source_in_memory(text, size);
        if (!shell_evaluate(path, script, environment, shell_words(own, arguments, variables->arena), variables, error))
            return false;
    }
    if (own)
        keep_own(variables, environment, text);
    return true;
}
