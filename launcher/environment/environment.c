/* The program's environment: the image's scripts, the caller's variables, the options, in the order that users know.
 * Runs in the container, without privilege; a script that is live code runs in a shell of the image's. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "environment/parts.h"
#include "environment/script.h"
#include "program.h"

static const char prompt[] = "Singularity> ";

/* What is known of one launch while its environment is put together. */
struct entry {
    const struct payload *payload;
    struct variables host;
    struct variables injected;
    struct scripts scripts;
    struct variables *variables;
    const char *directory; /* the current one; NULL: without a name here */
    const char *shell;     /* of the image, once it was looked for and is there */
    bool path_changed;     /* by the image's own script */
    bool host_mpi;         /* in the place of the image's */
};

static void put(struct variables *variables, const char *name, const char *value)
{
    environment_need(variables_put(variables, name, value));
}

/* SINGULARITY_NAME and its twin. Scripts of both programs of the family are found in images, and each looks for its
 * own prefix. */
static void put_both(struct variables *variables, const char *name, const char *value)
{
    static const char *const prefixes[] = {"SINGULARITY_", "APPTAINER_"};

    for (size_t at = 0; at < sizeof prefixes / sizeof *prefixes; at++)
        put(variables, text_join(variables->arena, prefixes[at], name, ""), value);
}

/* ---- what the scripts start with ---- */

/* The name that the caller uses for the current directory, if it is true here too. By device and inode: the name with
 * its links is what people know and what `pwd` shows; POSIX asks the same check of a shell before it believes in PWD. */
static bool names_current_directory(const char *path)
{
    struct stat named, current;

    return path != NULL && path[0] == '/' && stat(path, &named) == 0 && stat(".", &current) == 0 &&
           named.st_dev == current.st_dev && named.st_ino == current.st_ino;
}

/* NULL: it has no name in the container. */
static const char *current_directory(const struct request *request, struct arena *arena)
{
    char *path;

    if (names_current_directory(request->target_cwd))
        return request->target_cwd;
    if (names_current_directory(request->cwd))
        return request->cwd;
    path = arena_take(arena, PATH_MAX + 1);
    environment_need(path != NULL);
    return getcwd(path, PATH_MAX + 1) != NULL && path[0] == '/' ? path : NULL;
}

/* A PWD that is wrong is worse than none: programs trust it. */
static void put_directory(const struct entry *entry)
{
    if (entry->directory != NULL)
        put(entry->variables, "PWD", entry->directory);
    else
        variables_unset(entry->variables, "PWD", strlen("PWD"));
}

/* Set, not exported: scripts of images ask for them, and programs get them only where a script exports them, as from
 * a shell. */
static void put_number(struct variables *variables, const char *name, unsigned number)
{
    char digits[16];

    snprintf(digits, sizeof digits, "%u", number);
    environment_need(variables_set(variables, name, digits));
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static void put_home(const struct entry *entry)
{
    if (entry->payload->home != NULL && entry->payload->home[0] != '\0')
        put(entry->variables, "HOME", entry->payload->home);
}

/* PATH and HOME get their values here unless a Docker image's own script, which is evaluated before, has set them. */
static void complete(const struct entry *entry)
{
    path_begin(entry->variables);
    if (entry->payload->home_yields && variables_get(entry->variables, "HOME") == NULL)
        put_home(entry);
}

/* The variables that the first script finds. PATH is not among them: complete() gives it its default. Scripts of
 * images of version 2 expect the name of the image in SINGULARITY_CONTAINER, later ones its path. */
static void begin(const struct entry *entry)
{
    const struct payload *payload = entry->payload;
    struct variables *variables = entry->variables;
    const char *name = base_name(payload->image);

    variables_begin(variables, entry->host.arena);
    put_directory(entry);
    if (!payload->home_yields)
        put_home(entry);
    put_number(variables, "UID", getuid());
    put_number(variables, "GID", getgid());
    put_both(variables, "NAME", name);
    put_both(variables, "CONTAINER", entry->scripts.modern ? payload->image : name);
    if (payload->request->app != NULL)
        put_both(variables, "APPNAME", payload->request->app);
    if (payload->request->shell != NULL)
        put_both(variables, "SHELL", payload->request->shell);
}

/* ---- scripts and injected values, without a shell ---- */

/* For a script that is live code: false when a shell of the image can run it; else a warning names what is left out, and
 * the evaluation goes on with the next script. */
static bool goes_on(struct entry *entry, const struct script_result *result)
{
    entry->shell = live_shell();
    if (entry->shell != NULL) {
        message_verbose("%s line %u has %s: %s evaluates the environment", result->file, result->line, result->why,
                        entry->shell);
        return false;
    }
    message_warning("%s line %u has %s, which needs a shell that the image lacks: %s is left out", result->file,
                    result->line, result->why, result->file);
    return true;
}

/* A script that is missing is none; one that cannot be read is told, for then variables are missing and programs fail
 * in odd ways. */
static bool evaluate_script(struct entry *entry, const char *path)
{
    struct script_result result = {.line = 1, .why = "more than 1 MiB of text"};
    enum script_outcome outcome = SCRIPT_LIVE;
    size_t size;
    char *text = source_read(AT_FDCWD, path, entry->variables->arena, &size);

    if (text != NULL) {
        outcome = script_evaluate(path, text, size, entry->variables, &result);
    } else if (errno == EFBIG) {
        memcpy(result.file, path, strnlen(path, sizeof result.file - 1));
    } else {
        int number = errno;
        if (number != ENOENT && number != ENOTDIR && number != EISDIR) {
            program_check_image();
            message_warning("%s cannot be read, its variables are missing: %s", path, strerror(number));
        }
        return true;
    }
    if (outcome == SCRIPT_LIVE)
        return goes_on(entry, &result);
    message_debug("evaluated %s", path);
    entry->path_changed = entry->path_changed || strcmp(path, SCRIPTS_DIRECTORY "/99-runtimevars.sh") == 0;
    return true;
}

/* As a shell would expand it between double quotes, for so has Singularity always set these. With --no-eval the text
 * stays as it is. */
static bool inject_one(struct entry *entry, const struct variable *injected)
{
    const char *value = variable_value(injected), *expanded = value;
    struct variables *variables = entry->variables;
    struct script_result result;

    if (!entry->payload->request->no_eval && strpbrk(value, "$`\\") != NULL) {
        if (!live_value_complete(value)) {
            message_warning("SINGULARITYENV_%.*s has a $ or ` without its end: taken literally", (int)injected->name_length,
                            injected->text);
        } else if (script_expand(value, variables, &expanded, &result) == SCRIPT_LIVE) {
            expanded = value;
            if (entry->shell == NULL)
                entry->shell = live_shell();
            if (entry->shell != NULL)
                return false;
            message_warning("SINGULARITYENV_%.*s has %s, which needs a shell that the image lacks: taken literally",
                            (int)injected->name_length, injected->text, result.why);
        }
    }
    if (expanded == value) {
        environment_need(variables_adopt(variables, injected->text, injected->name_length, injected->value_length));
    } else {
        struct text text = {.arena = variables->arena};
        text_add(&text, injected->text, (size_t)injected->name_length + 1);
        text_add_string(&text, expanded);
        environment_need(variables_adopt(variables, text.bytes, injected->name_length, text.length - injected->name_length - 1));
    }
    environment_need(variables_export(variables, injected->text, injected->name_length));
    return true;
}

static bool inject(struct entry *entry)
{
    for (uint32_t at = 0; at < entry->injected.count; at++)
        if (!inject_one(entry, &entry->injected.entries[at]))
            return false;
    return true;
}

/* False: the image's shell must do it. The order is the family's and users know it: the image's base and Docker's
 * variables, PATH's and HOME's defaults, other scripts, what the caller injects, and last 99-runtimevars.sh, which
 * applies the caller's changes to PATH. */
static bool evaluate(struct entry *entry)
{
    struct variables *variables = entry->variables;
    bool injected = false;

    for (size_t at = 0; at < entry->scripts.count; at++) {
        enum script_kind kind = script_kind(entry->scripts.paths[at]);
        if (kind == SCRIPT_LATE && !injected) {
            if (!inject(entry))
                return false;
            injected = true;
        }
        if (kind != SCRIPT_FIRST && kind != SCRIPT_DOCKER)
            complete(entry);
        if (!evaluate_script(entry, entry->scripts.paths[at]))
            return false;
        if ((kind == SCRIPT_DOCKER && !entry->payload->path_exact) || !entry->scripts.modern)
            path_complete(variables);
    }
    return injected || inject(entry);
}

/* From the start again: what was evaluated before the live code was found is thrown away, so that each script is
 * evaluated once and by one shell, in which functions and unexported variables live on. */
static void evaluate_live(struct entry *entry)
{
    const struct live live = {.shell = entry->shell, .payload = entry->payload, .scripts = &entry->scripts,
                              .injected = &entry->injected, .host = &entry->host};

    begin(entry);
    (void)umask(live_evaluate(&live, entry->variables));
    for (size_t at = 0; at < entry->scripts.count; at++)
        if (strcmp(entry->scripts.paths[at], SCRIPTS_DIRECTORY "/99-runtimevars.sh") == 0)
            entry->path_changed = true;
}

/* ---- what the program finds besides ---- */

static void drop_unless_exported(struct variables *variables, const char *name)
{
    const struct variable *found = variables_find(variables, name, strlen(name));
    if (found != NULL && !found->exported)
        variables_unset(variables, name, strlen(name));
}

/* Variables of the host that nothing has set. What the image sets to nothing stays so, as in Docker. Last, as the
 * host goes before nothing: host < image < injected. */
static void restore_host(struct entry *entry)
{
    struct variables *variables = entry->variables;

    for (uint32_t at = 0; at < entry->host.count; at++) {
        const struct variable *host = &entry->host.entries[at];
        if (variables_find(variables, host->text, host->name_length) == NULL)
            environment_need(variables_adopt(variables, host->text, host->name_length, host->value_length) &&
                             variables_export(variables, host->text, host->name_length));
    }
}

static void add_bind(struct text *binds, const struct request_entry *bind)
{
    if ((bind->number & BIND_NONESTED) == 0)
        text_add_strings(binds, *binds->bytes != '\0' ? "," : "", *bind->second != '\0' ? bind->second : bind->first, NULL);
}

/* Where the user's binds are, as he named them: a launch in the container has them again, unless they are not to be told. */
static void put_binds(struct variables *variables, const struct request *request)
{
    struct text binds = {.arena = variables->arena};

    text_add_string(&binds, "");
    for (uint32_t i = 0; i < request->bind_count; i++)
        add_bind(&binds, &request->bind[i]);
    for (uint32_t i = 1; i < request->data_count; i += 2)
        add_bind(&binds, &request->data[i]);
    put_both(variables, "BIND", binds.bytes);
}

/* After the scripts, so that no image can change what these say of the launch. */
static void put_base(struct entry *entry)
{
    static const char *const actions[ACTION_COUNT] = {[ACTION_EXEC] = "exec", [ACTION_RUN] = "run", [ACTION_SHELL] = "shell",
                                                      [ACTION_TEST] = "test", [ACTION_START] = "start", [ACTION_BOOT] = "start"};
    const struct payload *payload = entry->payload;
    const struct request *request = payload->request;
    struct variables *variables = entry->variables;

    put_both(variables, "CONTAINER", payload->image);
    put_both(variables, "NAME", base_name(payload->image));
    put_both(variables, "COMMAND", request->action < ACTION_COUNT ? actions[request->action] : "");
    if (request->instance != NULL)
        put_both(variables, "INSTANCE", request->instance);
    put_both(variables, "ENVIRONMENT", SCRIPTS_DIRECTORY "/91-environment.sh");
    put_binds(variables, request);
    put_both(variables, "APPNAME", request->app == NULL ? "" : request->app);
    if (request->no_eval)
        put_both(variables, "NO_EVAL", "1");
    put_directory(entry);
}

/* The four characters that mean something between double quotes (POSIX, 2.2.3). */
static void add_escaped(struct text *text, const char *value)
{
    for (; *value != '\0'; value++) {
        if (strchr("\\\"$`", *value) != NULL)
            text_add_string(text, "\\");
        text_add(text, value, 1);
    }
}

/* bash sets a prompt of its own from its start-up files; this one is set after them. PROMPT_COMMAND is run by bash
 * before each prompt (bash(1)), so it comes after /etc/bash.bashrc and ~/.bashrc; it removes itself the first time. */
static void put_prompt(struct variables *variables)
{
    const char *ps1 = variables_get(variables, "PS1");
    const char *before = variables_get(variables, "PROMPT_COMMAND");
    struct text command = {.arena = variables->arena};

    if (ps1 == NULL || *ps1 == '\0') {
        put(variables, "PS1", prompt);
        ps1 = prompt;
    }
    text_add_string(&command, "PS1=\"");
    add_escaped(&command, ps1);
    if (before == NULL || *before == '\0') {
        text_add_string(&command, "\"; unset PROMPT_COMMAND");
    } else {
        text_add_string(&command, "\"; PROMPT_COMMAND=");
        text_add_quoted(&command, before);
        text_add_string(&command, "; eval \"$PROMPT_COMMAND\"");
    }
    put(variables, "PROMPT_COMMAND", command.bytes);
}

/* A directory that is not there would make every program of the image look for it at each start. */
static bool has_library_directory(const struct entry *entry)
{
    return entry->scripts.modern || entry->payload->request->library_count > 0 || access("/.singularity.d", F_OK) == 0;
}

/* Whether the library that --mpi brings in is there: it may have been refused. */
static bool has_host_mpi(const struct request *request)
{
    for (uint32_t i = 0; i < request->library_count; i++) {
        const struct request_entry *library = &request->library[i];
        if ((library->number & LIBRARY_OPTION) == LIBRARY_MPI && (library->number & LIBRARY_LEAD) && access(library->second, F_OK) == 0)
            return true;
    }
    return false;
}

/* PATH is changed here where the image has no 99-runtimevars.sh that does. LD_LIBRARY_PATH is never the host's: its
 * directories would be looked for inside. */
static void finish(struct entry *entry)
{
    struct variables *variables = entry->variables;

    drop_unless_exported(variables, "UID");
    drop_unless_exported(variables, "GID");
    complete(entry);
    if (!entry->path_changed)
        path_change(variables);
    path_changes_drop(variables);
    restore_host(entry);
    put_base(entry);
    if (has_library_directory(entry))
        library_path_complete(variables, entry->host_mpi);
    path_commands_first(variables);
    put_prompt(variables);
}

/* The image's scripts do not see the host's variables, which are added behind them: an image means the same on every
 * host. */
void environment_make(const struct payload *payload, struct variables *variables)
{
    struct entry entry = {.payload = payload, .variables = variables};
    struct arena *arena = variables->arena;

    variables_begin(&entry.host, arena);
    variables_begin(&entry.injected, arena);
    entry.host_mpi = has_host_mpi(payload->request);
    host_variables(payload->caller_environment, payload->request->cleanenv, entry.host_mpi, &entry.host);
    host_injected(payload->caller_environment, &entry.injected);
    scripts_list(arena, &entry.scripts);
    entry.directory = current_directory(payload->request, arena);
    begin(&entry);
    if (!evaluate(&entry))
        evaluate_live(&entry);
    finish(&entry);
}
