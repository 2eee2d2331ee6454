/* The end of a launch, in the container and without privilege: variables, the words of the action, the program. */
#include "payload.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "environment/environment.h"
#include "environment/text.h"
#include "program.h"

static char *const no_words[] = {NULL};

/* What is left of a launch: the program's words and variables. */
struct ending {
    const struct payload *payload;
    struct arena *arena;
    struct variables *variables;
};

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* `first`, those of `more` (which may be NULL) and the arguments after the image. Nothing is copied: the words live
 * in the process's own argv and in the arena, until execve(2) takes them. */
static char *const *words_make(const struct ending *ending, const char *first, const char *second, char *const *more)
{
    size_t count = 0, used = 0;
    char **words;

    while (more[count] != NULL)
        count++;
    words = arena_take(ending->arena, (count + 3) * sizeof *words);
    environment_need(words != NULL);
    words[used++] = (char *)(uintptr_t)first;
    if (second != NULL)
        words[used++] = (char *)(uintptr_t)second;
    memcpy(words + used, more, (count + 1) * sizeof *words);
    return words;
}

static _Noreturn void become(const struct ending *ending, const char *path, char *const *words)
{
    char *const *environment = variables_environment(ending->variables);

    environment_need(environment != NULL);
    program_become(path, words, environment, ending->arena);
}

static _Noreturn void become_shell(const struct ending *ending, const char *shell, const char *option)
{
    environment_need(variables_put(ending->variables, "SHELL", shell));
    become(ending, shell, words_make(ending, shell, option, ending->payload->arguments));
}

/* The layout of applications in an image: SCIF, the Scientific Filesystem. */
static const char *app_file(const struct ending *ending, const char *name)
{
    struct text path = {.arena = ending->arena};

    text_add_strings(&path, "/scif/apps/", ending->payload->request->app, "/", name, NULL);
    return path.bytes;
}

/* The first of the files that is usable, NULL: none. Newest first: what today's builds write, then what version 2
 * wrote. */
static const char *first_usable(const char *const *files)
{
    for (; *files != NULL; files++)
        if (program_usable(*files))
            return *files;
    return NULL;
}

static const char *search_path(const struct ending *ending)
{
    const char *path = variables_get(ending->variables, "PATH");
    return path == NULL ? "" : path;
}

/* ---- actions ---- */

static _Noreturn void act_exec(const struct ending *ending)
{
    char *const *words = ending->payload->arguments;

    if (words[0] == NULL)
        stop_with(EXIT_USAGE, 0, "no program is named to execute in the container");
    become(ending, program_find(words[0], search_path(ending), ending->arena), words);
}

/* bash without its start-up file, which would set the prompt anew; a shell that was asked for and is missing is
 * replaced with a warning, for people want a shell and not an error. */
static _Noreturn void act_shell(const struct ending *ending)
{
    const char *chosen = ending->payload->request->shell;

    if (chosen == NULL || *chosen == '\0')
        chosen = variables_get(ending->variables, "SINGULARITY_SHELL");
    if (chosen != NULL && *chosen != '\0') {
        if (program_usable(chosen))
            become_shell(ending, chosen, NULL);
        message_warning("shell %s: not in the container, /bin/sh takes its place", chosen);
    } else if (program_usable("/bin/bash")) {
        become_shell(ending, "/bin/bash", "--norc");
    }
    if (!program_usable("/bin/sh"))
        stop_with(EXIT_NOT_FOUND, 0, "/bin/sh doesn't exist in container: there is no shell to start");
    become_shell(ending, "/bin/sh", NULL);
}

/* The runscript of an image from a registry, when there is no shell for it. With a shell the runscript itself is
 * started, as it may do more. Without one (images with a single static program) what it would execute is read from
 * it. */
static void become_oci_command(const struct ending *ending, const char *runscript)
{
    const struct payload *payload = ending->payload;
    char *const *words;

    if (program_usable("/bin/sh"))
        return;
    words = oci_command(runscript, payload->arguments, payload->request->no_eval, ending->variables);
    if (words != NULL)
        become(ending, program_find(words[0], search_path(ending), ending->arena), words);
}

static _Noreturn void act_run(const struct ending *ending)
{
    static const char *const files[] = {"/.singularity.d/runscript", "/singularity", NULL};
    const char *app = ending->payload->request->app;
    const char *path = app == NULL ? first_usable(files) : app_file(ending, "scif/runscript");

    if (app != NULL && !program_usable(path))
        stop_with(EXIT_USAGE, 0, "no runscript for the container application: %s", app);
    if (app == NULL && path != NULL)
        become_oci_command(ending, path);
    if (path != NULL)
        become(ending, path, words_make(ending, path, NULL, ending->payload->arguments));
    if (!program_usable("/bin/sh"))
        stop_with(EXIT_NOT_FOUND, 0, "No runscript found in container, and /bin/sh doesn't exist in container");
    message_info("No runscript found in container, executing /bin/sh");
    become(ending, "/bin/sh", words_make(ending, "/bin/sh", NULL, ending->payload->arguments));
}

/* A %test of version 2 is run by a shell that stops at the first failure and shows what it does. */
static _Noreturn void act_test_of_version_2(const struct ending *ending)
{
    char *const *words = words_make(ending, "-ex", "/.test", ending->payload->arguments);
    become(ending, "/bin/sh", words_make(ending, "/bin/sh", NULL, words));
}

static _Noreturn void act_test(const struct ending *ending)
{
    static const char *const files[] = {"/.singularity.d/test", NULL};
    const char *app = ending->payload->request->app;
    const char *path = app == NULL ? first_usable(files) : app_file(ending, "scif/test");

    if (app != NULL && !program_usable(path))
        stop_with(EXIT_USAGE, 0, "no tests for the container application: %s", app);
    if (path != NULL)
        become(ending, path, words_make(ending, path, NULL, ending->payload->arguments));
    if (!is_directory("/.singularity.d") && program_usable("/.test"))
        act_test_of_version_2(ending);
    message_info("No test script found in container, exiting");
    _exit(0);
}

/* Without a script an instance is there for those that enter it. */
static _Noreturn void act_start(const struct ending *ending)
{
    static const char *const files[] = {"/.singularity.d/startscript", NULL};
    const char *app = ending->payload->request->app;
    const char *path = app == NULL ? first_usable(files) : app_file(ending, "scif/startscript");

    if (app != NULL && !program_usable(path))
        stop_with(EXIT_USAGE, 0, "no startscript for the container application: %s", app);
    if (path != NULL)
        become(ending, path, words_make(ending, path, NULL, ending->payload->arguments));
    message_info("No startscript found in container");
    _exit(0);
}

/* A container that is shared by name stays for as long as whoever asked keeps standard input open; says when it is there. Nothing
 * of the image is needed for that, which may have neither a shell nor anything else that waits. */
static _Noreturn void act_hold(void)
{
    char ignored[64];

    if (write(STDOUT_FILENO, "\n", 1) == 1)
        while (read(STDIN_FILENO, ignored, sizeof ignored) > 0)
            continue;
    _exit(0);
}

/* Before the environment is made, which may run a shell: a wrong name is told at once. A slash in it would lead to
 * another directory than applications have. */
static void check_app(const struct ending *ending)
{
    const char *app = ending->payload->request->app;

    if (app != NULL && (*app == '\0' || strchr(app, '/') != NULL || !is_directory(app_file(ending, ""))))
        stop_with(EXIT_USAGE, 0, "Could not locate the container application: %s", app);
}

/* The order is fixed: the environment first, since the search for the program goes by the PATH that comes of it. */
_Noreturn void payload_execute(const struct payload *given)
{
    struct payload payload = *given;
    struct arena arena;
    struct variables variables;
    const struct ending ending = {.payload = &payload, .arena = &arena, .variables = &variables};

    arena_begin(&arena, ARENA_LIMIT);
    variables_begin(&variables, &arena);
    if (payload.arguments == NULL)
        payload.arguments = no_words;
    if (payload.request->action == ACTION_HOLD)
        act_hold();
    check_app(&ending);
    environment_make(&payload, &variables);
    switch (payload.request->action) {
    case ACTION_EXEC: act_exec(&ending);
    case ACTION_RUN: act_run(&ending);
    case ACTION_SHELL: act_shell(&ending);
    case ACTION_TEST: act_test(&ending);
    case ACTION_START: act_start(&ending);
    case ACTION_BOOT: become(&ending, "/sbin/init", words_make(&ending, "/sbin/init", NULL, payload.arguments));
    default: stop(0, "launch request with an unknown action");
    }
}
