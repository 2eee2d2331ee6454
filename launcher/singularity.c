/* The front door: argv and SINGULARITY_* variables become a launch request, which is performed here, or by the setuid starter.
 * Every verb that is no launch, and every image that is no path yet, is Python's. Never privileged. */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "environment/arena.h"
#include "front/front.h"
#include "front/instance.h"
#include "inside.h"
#include "libraries/libraries.h"
#include "request.h"
#include "shared/asked.h"
#include "starter.h"
#include "variable.h"

#ifndef VERSION
#define VERSION "5.0.0"
#endif

/* GROUPS is NGROUPS_MAX; LEVEL_BIAS makes levels, of which some are negative, numbers of a request, where 0 stands
 * for "not given" */
enum { GROUPS = 65536, LEVEL_BIAS = 16, FEWEST_DESCRIPTORS = 24, STACK_LEAST = 96 << 10, STACK_ENOUGH = 1 << 20 };

/* What this process was started with. */
struct start {
    char **argv;
    const char *name;    /* of the program, without directories */
    bool direct;         /* an executable image: its path is the first word */
    char *const *words;  /* after the name, as if it were "singularity" */
    char **environment;
    struct installation installation;
    struct arena arena;
    struct rlimit stack; /* the caller's */
};

static _Noreturn void stop_usage(const struct error *error)
{
    message_error("%s", error->text);
    _exit(EXIT_USAGE);
}

static _Noreturn void stop_error(const struct error *error)
{
    stop(0, "%s", error->text);
}

/* An option or variable that cannot be used: without an errno it is what was written that is wrong. */
static _Noreturn void stop_given(const struct error *error)
{
    if (error->number == 0)
        stop_usage(error);
    stop_error(error);
}

/* `first`, then `more`; all NULL-terminated. */
static char **words_join(struct arena *arena, char *const *first, char *const *more)
{
    size_t a = 0, b = 0;

    while (first[a] != NULL)
        a++;
    while (more[b] != NULL)
        b++;
    char **words = arena_take(arena, (a + b + 1) * sizeof *words);
    if (words == NULL)
        stop(ENOMEM, "%zu words of a command line", a + b);
    memcpy(words, first, a * sizeof *words);
    memcpy(words + a, more, (b + 1) * sizeof *words);
    return words;
}

/* argv may be empty (R-L1; CVE-2021-4034 was a program that took argv[0] for granted). Linux puts an empty argv[0]
 * there only from 5.18 on. */
static void start_read(int argc, char **argv, char **environment, struct start *start)
{
    static char *const nothing[] = {NULL};
    static char quiet[] = "--quiet", run[] = "run";
    static char *const direct[] = {quiet, run, NULL};
    struct error error = {.number = 0};

    start->argv = argv;
    start->name = argc == 0 ? "" : path_last(argv[0]);
    start->words = argc > 0 ? argv + 1 : nothing;
    start->environment = environment;
    arena_begin(&start->arena, ARENA_LIMIT);
    start->direct = strcmp(start->name, "run-singularity") == 0;
    if (start->direct)
        start->words = words_join(&start->arena, direct, start->words);
    if (!installation_find(&start->installation, &error))
        stop_error(&error);
}

/* ---- what Python does ---- */

/* -I: no PYTHON* variable, no user's site directory and no current directory decides which code runs (python(1)). */
static _Noreturn void become_python(struct start *start, char *const *first, char *const *more)
{
    static char isolated[] = "-I", module[] = "-m", package[] = "singularity";
    char *const python[] = {start->installation.python, isolated, module, package, NULL};
    char **words = words_join(&start->arena, words_join(&start->arena, python, first), more);

    execve(words[0], words, start->environment);
    if (errno == E2BIG)
        stop(0, "the words of the command line and the environment are longer than the system allows together");
    stop(errno, "%s, needed for everything but starting containers (is this installation complete?)", words[0]);
}

/* The global options once more, in the words of the table. */
static char **global_words(const struct options *options)
{
    static char debug[] = "--debug", verbose[] = "--verbose", quiet[] = "--quiet", silent[] = "--silent",
                nocolor[] = "--nocolor";
    static char *words[OPTION_VALUES + 1];
    uint32_t used = 0;

    if (options_flag(options, OPTION_debug) || options_flag(options, OPTION_shdebug))
        words[used++] = debug;
    for (int times = options_times(options, OPTION_verbose); times > 0 && used < OPTION_VALUES - 4; times--)
        words[used++] = verbose;
    if (options_flag(options, OPTION_quiet))
        words[used++] = quiet;
    if (options_flag(options, OPTION_silent))
        words[used++] = silent;
    if (options_flag(options, OPTION_nocolor))
        words[used++] = nocolor;
    words[used] = NULL;
    return words;
}

/* Help is Python's, which has the texts; `rest` is the verb that it is about. */
static _Noreturn void become_help(struct start *start, const struct command_line *line)
{
    static char help[] = "help", instance[] = "instance", start_word[] = "start", run[] = "run";
    bool starts = (line->scope & SCOPE_INSTANCE) != 0;
    char *const words[] = {help, starts ? instance : line->scope != 0 ? line->rest[0] : NULL,
                           !starts ? NULL : line->scope == SCOPE_START ? start_word : run, NULL};
    char **first = words_join(&start->arena, global_words(&line->options), words);
    char *const nothing[] = {NULL};

    become_python(start, first, line->scope != 0 ? nothing : line->rest);
}

/* The name that was typed stays in the answer: programs read it. */
static void version_print(const struct start *start, const struct options *options)
{
    const char *name = strcmp(start->name, "apptainer") == 0 ? "apptainer" : "singularity";
    struct error error = {.number = 0};
    char starter[PATH_MAX];
    const char *why = "";

    if (dprintf(STDOUT_FILENO, "%s version %s\n", name, VERSION) < 0)
        stop(errno, "standard output");
    if (options_times(options, OPTION_verbose) == 0 ||
        !installation_starter(&start->installation, false, starter, &why, &error))
        return;
    dprintf(STDOUT_FILENO, "starter: %s (%s)\nconfiguration: %s/singularity.conf\npython: %s\n",
            *starter != '\0' ? starter : "none but this program", why, start->installation.configuration, start->installation.python);
}

/* ---- a launch ---- */

/* https://no-color.org: set and not empty. */
static bool colour_wanted(const struct options *options, char *const *environment)
{
    const char *none = variable(environment, "NO_COLOR"), *terminal = variable(environment, "TERM");
    bool dumb = terminal != NULL && strcmp(terminal, "dumb") == 0;

    return !options_flag(options, OPTION_nocolor) && (none == NULL || *none == '\0') && !dumb && isatty(STDERR_FILENO) == 1;
}

/* Called twice: once with the command line alone, and again when variables have been read. */
static void messages_begin(const struct options *options, char *const *environment)
{
    struct error error = {.number = 0};
    int level = LEVEL_INFO;

    if (!options_level(options, &level, &error))
        stop_given(&error);
    message_begin(level, colour_wanted(options, environment));
}

/* The site's before the user's, so that the user's has the last word. */
static char **init_scripts_apply(struct start *start)
{
    const char *home = variable(start->environment, "HOME");
    struct error error = {.number = 0};
    char path[PATH_MAX];
    char **environment = start->environment;

    if (installation_file(&start->installation, "init", path))
        environment = init_script_apply(path, false, environment, &start->arena, &error);
    if (environment != NULL && home != NULL && *home == '/' &&
        (size_t)snprintf(path, sizeof path, "%s/.singularity-init", home) < sizeof path)
        environment = init_script_apply(path, true, environment, &start->arena, &error);
    if (environment == NULL)
        stop_error(&error);
    return environment;
}

/* Global options first, since the level of messages decides whether the next ones are told. */
static void take_variables(struct command_line *line, char *const *environment)
{
    static struct option_variables variables;
    struct error error = {.number = 0};

    option_variables_read(environment, &variables);
    if (!option_variables_apply(&variables, SCOPE_GLOBAL, &line->options, &error))
        stop_given(&error);
    messages_begin(&line->options, environment);
    if (!option_variables_apply(&variables, line->scope, &line->options, &error))
        stop_given(&error);
}

/* Which word is the image. With SINGULARITY_IMAGE set none is, except that scripts of today which keep the path in a
 * variable of this name give it a second time, and that an executable image is itself. `rest` is left at the program's
 * words. */
static const char *choose_image(const struct start *start, const struct command_line *line, char *const **rest)
{
    const char *image = start->direct ? NULL : options_text(&line->options, OPTION_image);
    const char *verb = scope_verb(line->scope), *join = options_text(&line->options, OPTION_join);
    bool holds = join != NULL && join[0] == '@'; /* a container, which needs no program */
    struct error error = {.number = 0};

    *rest = line->rest;
    if (image == NULL || (**rest != NULL && strcmp(image, **rest) == 0)) {
        image = **rest;
        *rest += image != NULL;
    } else {
        message_verbose("the image is %s, from the variable SINGULARITY_IMAGE", image);
    }
    if (image == NULL)
        error_set(&error, 0, "%s: no image given (usage: singularity %s [options] IMAGE %s; see: singularity help %s)", verb,
                  verb, line->scope == SCOPE_EXEC       ? "COMMAND [ARGUMENT...]"
                        : line->scope & SCOPE_INSTANCE ? "NAME [ARGUMENT...]"
                                                       : "[ARGUMENT...]", verb);
    else if ((line->scope & SCOPE_INSTANCE) && **rest == NULL)
        error_set(&error, 0, "%s: no name given (usage: singularity %s [options] %.200s NAME [ARGUMENT...])", verb, verb, image);
    else if (line->scope == SCOPE_EXEC && **rest == NULL && !holds)
        error_set(&error, 0, "exec: no command given (usage: singularity exec [options] %.200s COMMAND [ARGUMENT...])", image);
    if (error.text[0] != '\0')
        stop_usage(&error);
    return image;
}

/* Whether something else was meant than a launch of this image: what is said now is clearer than what would come of it. */
static void check_image(const struct command_line *line, const char *image, char *const *program)
{
    const char *hint = image == *line->rest ? docker_value(line->rest[-1], image) : NULL; /* the verb is before it, at least */
    bool mistaken = image_name_mistaken(image, line->scope == SCOPE_EXEC ? *program : NULL);
    struct error error = {.number = 0};

    if (hint != NULL && *image != '\0' && (mistaken || (access(image, F_OK) < 0 && errno == ENOENT)))
        error_set(&error, 0, "%.500s: %s (%s)", image, mistaken ? "no image" : "no such image", hint);
    if (error.text[0] != '\0')
        stop_usage(&error);
    if (mistaken)
        stop(0, "%.500s: a directory, but no image: it has no bin, usr or etc (singularity build --sandbox DIRECTORY SOURCE makes "
             "one that is)", image);
}

/* Ids come from the kernel (R-L4); names only from files and getent. Root may start for another user, whose own
 * groups are then not known here. */
static void take_identity(struct invocation *invocation)
{
    static gid_t gids[GROUPS + 1], others[GROUPS];
    struct request *request = &invocation->request;
    uid_t uid = getuid();
    uint32_t count = 1;

    gids[0] = getgid();
    if (request->target_uid != 0) {
        uid = (uid_t)(request->target_uid - 1);
        gids[0] = (gid_t)(request->target_gid - 1);
    } else {
        int found = getgroups(GROUPS, others);
        for (int i = 0; i < found; i++)
            if (others[i] != gids[0])
                gids[count++] = others[i];
    }
    account_read(&account_sources_usual, uid, gids, count, request, &invocation->store);
    if (request->fakeroot)
        account_ranges(&account_sources_usual, uid, request, &invocation->store);
}

/* Where the number of a process counts: the PID namespace, and the name of the machine, for an image may lie on a file system that
 * others have too. By name, as /proc says which namespace that is; singularity/locks.py makes the same number. */
static uint64_t lock_place(void)
{
    struct utsname machine;
    struct stat space = {0};
    uint32_t place = 0;

    (void)stat("/proc/self/ns/pid", &space);
    for (const char *at = uname(&machine) == 0 ? machine.nodename : ""; *at != '\0'; at++)
        place = place * 31 + (uint8_t)*at;
    return place ^ (uint32_t)space.st_ino;
}

/* What the kernel and the caller's process say beside the options. What is one higher than it is, is so because 0
 * stands for "not given" in a request. */
static void take_surroundings(struct invocation *invocation, struct start *start, const struct options *options)
{
    struct request *request = &invocation->request;
    struct job_step step;

    request->level = (uint64_t)(message_level_get() + LEVEL_BIAS);
    request->colour = colour_wanted(options, start->environment);
    request->cwd = invocation->cwd;
    request->lock_place = lock_place();
    request->stack_soft = start->stack.rlim_cur == RLIM_INFINITY ? UINT64_MAX : start->stack.rlim_cur + 1;
    if (!request->instance_starts) /* which outlives its launcher of ranks, if there is one */
        descriptor_keep_pmi(request, variable(start->environment, "PMI_FD"));
    job_step_read(start->environment, &step);
    join_take(invocation, &step);
    take_identity(invocation);
    if (request->net && request->network_ports != NULL && request->dns == NULL)
        request->dns = NETWORK_NAMESERVER; /* the host's own may listen on its loopback interface */
    start->environment = host_families_take(invocation, &start->installation, options, start->environment, &start->arena);
    if (start->environment == NULL)
        stop(ENOMEM, "variables of devices");
    if (!invocation->linger_said)
        invocation->linger = invocation->keys.linger;
    if (!invocation->statuses_said)
        request->family_statuses = invocation->keys.family_statuses;
    if (!request->userns && !request->fakeroot && prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) == 0) {
        request->userns = true; /* nothing that is started from here can have it, the setuid program neither */
        request->userns_reason = "a container without the right to mount";
    }
}

/* No child: signals, terminal and exit status are the program's without anybody between. The setuid starter gets the
 * request as a descriptor, whose number stands in argv: argv is limited in size, and not private. */
static _Noreturn void start_launch(const struct start *start, struct invocation *invocation, char *const *program)
{
    static char name[] = "sexec", number[16], title[INSTANCE_NAME + 128];
    const struct request *request = &invocation->request;
    char *const first[] = {request->instance_starts ? title : name, number, NULL};
    struct error error = {.number = 0};
    char starter[PATH_MAX];
    const char *why = "";
    struct arena arena = start->arena;
    char **words = words_join(&arena, first, program);

    if (request->instance_starts)
        snprintf(title, sizeof title, "Singularity instance: %.100s [%.*s]", request->account_name != NULL ? request->account_name : "",
                 INSTANCE_NAME, request->instance);
    /* no setuid program for --fakeroot: it would have set no_new_privs, and newuidmap(1) could map no ids */
    bool userns = request->userns || request->fakeroot;

    if (!installation_starter(&start->installation, userns, starter, &why, &error))
        stop_error(&error);
    message_verbose("starting %s: %s", *starter != '\0' ? starter : "without the setuid program", why);
    if (*starter == '\0') {
        environ = start->environment;
        launch_here(request, start->argv, 0, words);
    }
    sighandler_t before = signal(SIGXFSZ, SIG_IGN); /* or a limit of file sizes ends this without a word */
    int fd = request_send(request, &error);
    if (fd < 0)
        stop_error(&error);
    signal(SIGXFSZ, before);
    snprintf(number, sizeof number, "%d", fd);
    execve(starter, words, unsecure_variables_keep(&arena, start->environment));
    if (errno == E2BIG)
        stop(0, "the words of the command line and the environment are longer than the system allows together");
    stop(errno, "%s, the starter of containers (is this installation complete?)", starter);
}

/* With fewer descriptors a launch would end half way, in words about something else; with a smaller stack without a word, by a signal. The
 * program has its own limit again (inherited_restore()). */
static void check_limits(struct start *start)
{
    struct rlimit files, stack;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < FEWEST_DESCRIPTORS)
        stop(0, "the limit of open files is %llu: a launch needs %d at least (raise it: ulimit -n 1024)",
             (unsigned long long)files.rlim_cur, FEWEST_DESCRIPTORS);
    if (getrlimit(RLIMIT_STACK, &start->stack) < 0)
        stop(errno, "the limit of the stack");
    stack = start->stack;
    if (stack.rlim_max < STACK_LEAST)
        stop(0, "the limit of the stack is %llu KiB: a launch needs %d KiB at least (raise it: ulimit -s 8192)",
             (unsigned long long)stack.rlim_max >> 10, STACK_LEAST >> 10);
    stack.rlim_cur = stack.rlim_max < STACK_ENOUGH ? stack.rlim_max : STACK_ENOUGH;
    if (start->stack.rlim_cur < stack.rlim_cur && setrlimit(RLIMIT_STACK, &stack) < 0)
        stop(errno, "the limit of the stack");
}

/* Limits and root's networks are Python's work, which starts this program again in a control group or a network namespace that has
 * them. Limits stand together in the table. Who enters an instance may have limits of his own. */
static bool is_prepared(enum option_id id, bool enters)
{
    return id == OPTION_record || (id >= OPTION_cpus && id <= OPTION_apply_cgroups) ||
           (!enters && (id == OPTION_netns_path || ((id == OPTION_network || id == OPTION_network_args) && getuid() == 0)));
}

/* "none" keeps a variable from counting; the host's network is there, and none has no arguments. */
static bool preparation_asked(const struct options *options, bool enters, bool of_networks)
{
    const char *network = options_text(options, OPTION_network);
    bool plain = network != NULL && (strcmp(network, "none") == 0 || strcmp(network, "host") == 0);

    for (int id = 0; id < OPTION_COUNT; id++) {
        bool prepared = is_prepared((enum option_id)id, enters) && (!of_networks || id < OPTION_cpus);
        const char *text = prepared ? options_text(options, (enum option_id)id) : NULL;
        bool counts = text != NULL && strcmp(text, "none") != 0 && !(id == OPTION_record && text[0] == RECORD_HANDED) &&
                      !(plain && (id == OPTION_network || id == OPTION_network_args));
        if (id == OPTION_oom_kill_disable ? prepared && options_flag(options, OPTION_oom_kill_disable) : counts)
            return true;
    }
    return false;
}

/* What variables say of these, as options behind the verb: Python is given the caller's variables, not those that an init script has
 * set. The command line comes after them, and goes before. */
static char **preparation_spelled(struct start *start, const struct options *options, bool enters)
{
    size_t used = 0;

    while (start->words[used] != NULL && start->words[used][0] == '-')
        used++;
    if (start->words[used] != NULL && strcmp(start->words[used], "instance") == 0) /* ... start: its verb has two words */
        used++;
    char *const *rest = start->words + used + 1;
    char **words = arena_take(&start->arena, (++used + options->count + 1) * sizeof *words);
    if (words == NULL)
        stop(ENOMEM, "%zu words of a command line", used);
    memcpy(words, start->words, used * sizeof *words);
    for (uint32_t i = 0; i < options->count; i++) {
        const struct option_value *use = &options->values[i];
        if (!use->from_variable || !is_prepared(use->id, enters))
            continue;
        size_t size = strlen(option_table[use->id].names) + strlen(use->text) + 2;
        words[used] = arena_take(&start->arena, size);
        if (words[used] == NULL)
            stop(ENOMEM, "%zu words of a command line", used);
        snprintf(words[used++], size, "%s=%s", option_table[use->id].names, use->text);
    }
    words[used] = NULL;
    return words_join(&start->arena, words, rest);
}

/* What makes a container, and one that is there has already. */
static void warn_of_unused(const struct options *options, const char *image)
{
    static const enum option_id used[] = {OPTION_env, OPTION_env_file, OPTION_cleanenv, OPTION_no_eval, OPTION_cwd, OPTION_app,
                                          OPTION_shell, OPTION_no_umask, OPTION_keep_fd, OPTION_new_session, OPTION_userns, OPTION_join,
                                          OPTION_read_only_home, OPTION_deny_net, OPTION_allow_paths, OPTION_security, OPTION_drop_caps,
                                          OPTION_no_privs, OPTION_net, OPTION_network, OPTION_pid};

    for (uint32_t i = 0; i < options->count; i++) {
        const struct option_value *use = &options->values[i];
        bool has_use = use->from_variable || (use->id >= OPTION_cpus && use->id <= OPTION_apply_cgroups) || (option_table[use->id].scopes & SCOPE_GLOBAL) != 0;
        for (size_t each = 0; each < sizeof used / sizeof used[0]; each++)
            has_use |= use->id == used[each];
        if (!has_use)
            message_warning("%.*s: not used for %.300s, whose container is there already", OPTION_NAME(use), image);
    }
}

/* An instance in place of an image. */
static void enter_instance(struct start *start, struct invocation *invocation, const struct options *options, const char *image)
{
    struct error error = {.number = 0};

    if (invocation->request.instance_starts)
        error_set(&error, 0, "%.300s: an instance is started from an image", image);
    else if (invocation->request.dry_run != DRY_RUN_NO)
        error_set(&error, 0, "--dry-run: nothing is planned for %.300s, whose container is there already", image);
    if (error.text[0] != '\0')
        stop_usage(&error);
    warn_of_unused(options, image);
    invocation->request.instance = instance_named(image);
    take_surroundings(invocation, start, options);
    if (!instance_find(invocation, start->environment, instance_named(image), &error) ||
        !filters_take(invocation, &start->installation, start->environment, &error))
        stop_error(&error);
    invocation->linger = 0;
}

/* The launch is a process of its own from here on, and this one waits for it to be ready. A dry run is a launch that nobody enters. */
static void start_instance(const struct start *start, struct invocation *invocation)
{
    static struct instance instance;
    struct error error = {.number = 0};

    if (invocation->request.dry_run != DRY_RUN_NO) {
        invocation->request.instance_starts = false;
        invocation->request.instance = NULL;
        return;
    }
    if (!instance_prepare(&instance, invocation, start->environment, &error))
        stop_error(&error);
    instance_detach(&instance, invocation);
}

static void hide_line(char **line)
{
    static char *const nothing[] = {NULL};

    outside_hide_options(line, nothing, "sexec");
}

/* As late as this: in the process that the container's life is bound to. */
static void start_host_commands(const struct start *start, struct invocation *invocation, char *const *environment)
{
    struct commands commands = {.environment = environment, .stack = start->stack, .line = start->argv, .hide = hide_line};
    struct error error = {.number = 0};

    if (!host_commands_begin(invocation, &start->installation, &commands, &error))
        stop_error(&error);
}

/* Python makes an image of what is none yet, and starts this program again, which applies the init scripts then. */
static _Noreturn void hand_over(struct start *start, char **original, char *const *words)
{
    static char launch_word[] = "launch";
    static char *const first[] = {launch_word, NULL};

    start->environment = original;
    (void)setrlimit(RLIMIT_STACK, &start->stack);
    become_python(start, first, words);
}

/* An image with its base, or with none. */
static void take_base(struct start *start, struct invocation *invocation, char **original, const struct sif_look *look)
{
    struct error error = {.number = 0};
    enum base_outcome outcome = bases_take(invocation, look, start->environment, &error);

    if (outcome == BASE_REFUSED)
        stop_error(&error);
    if (outcome == BASE_UNKNOWN)
        hand_over(start, original, start->words);
}

/* The file that is launched. What Python must make an image of first goes there. */
static const char *find_image(struct start *start, struct command_line *line, char **original, const char *image, char *const *program,
                              struct sif_look *look)
{
    static char staged[PATH_MAX];

    if (image_name_resolved_elsewhere(image))
        hand_over(start, original, start->words);
    sif_look(image, look);
    if (look->encrypted)
        hand_over(start, original, start->words);
    check_image(line, image, program);
    if (options_flag(&line->options, OPTION_writable) || !staged_find(image, start->environment, staged))
        return image;
    message_verbose("the image is %s, staged from %s", staged, image);
    return staged;
}

/* The order matters: messages before anything can fail; init scripts before variables, which they may set; variables
 * before the image, which one of them may name; the image before the current directory, since Python may have to make
 * a path of its name first and starts this program again. */
static _Noreturn void launch_image(struct start *start, struct command_line *line)
{
    static struct invocation invocation;
    static char directory[PATH_MAX], *nothing[] = {NULL};
    struct error error = {.number = 0};
    char *const *program;
    char **original = start->environment;

    messages_begin(&line->options, original);
    check_limits(start);
    start->environment = init_scripts_apply(start);
    take_variables(line, start->environment);
    const char *image = choose_image(start, line, &program);
    bool enters = instance_named(image) != NULL;
    struct sif_look look = {.encrypted = false};
    if (options_text(&line->options, OPTION_host_cmd) != NULL && preparation_asked(&line->options, enters, true))
        stop(0, "--host-cmd does not go with a network that root enters: the commands would be in it");
    if (preparation_asked(&line->options, enters, false))
        hand_over(start, original, preparation_spelled(start, &line->options, enters));
    if (!enters)
        image = find_image(start, line, original, image, program, &look);
    invocation_begin(&invocation, &start->arena, current_directory(variable(original, "PWD"), directory), getuid() == 0);
    if (!invocation_take_options(&invocation, line->scope, &line->options, &error) ||
        (!enters && !invocation_take_image(&invocation, image, &error)))
        stop_given(&error);
    if (!enters)
        take_base(start, &invocation, original, &look);
    if (!answers_take(&invocation, &start->installation, &line->options, start->environment, &error))
        stop_given(&error);
    if (line->scope == SCOPE_EXEC && *program == NULL)
        invocation.request.action = ACTION_HOLD;
    if (invocation.request.instance_starts && !enters)
        invocation.request.instance = *program++;
    if (enters)
        enter_instance(start, &invocation, &line->options, image);
    else
        take_surroundings(&invocation, start, &line->options);
    if (invocation.request.trace != NULL)
        invocation.linger = 0; /* what is traced is this launch's own mount; so is the next */
    if (look.lacks_names && invocation.linger == 0)
        removed_names_take(&invocation, &line->options);
    if ((invocation.request.fuse_count > 0 || invocation.host_command_count > 0) && invocation.request.instance == NULL)
        invocation.request.join_step = NULL; /* its programs, or its helper, end with their launch */
    if (!enters)
        on_disk_take(&invocation);
    start->environment = injection_finish(&invocation.injection, start->environment, program, &error);
    if (start->environment == NULL)
        stop_error(&error);
    if (invocation.linger > 0 && linger_begin(&invocation.request, invocation.linger, start->argv, &invocation.store))
        start->environment = nothing, program = nothing, invocation.host_command_count = 0;
    if (invocation.request.instance_starts)
        start_instance(start, &invocation);
    if (invocation.host_command_count > 0)
        start_host_commands(start, &invocation, original);
    start_launch(start, &invocation, program);
}

/* Descriptors 0 to 2 first of all: anything opened before would take the place of one that is closed (R-L3). */
int main(int argc, char **argv, char **environment)
{
    static struct command_line line;
    static struct start start;
    struct error error = {.number = 0};

    descriptors_begin();
    start_read(argc, argv, environment, &start);
    if (!command_line_parse(start.words, &line, &error))
        stop_usage(&error);
    if (line.kind == LINE_LAUNCH)
        launch_image(&start, &line);
    if (line.kind == LINE_HELP)
        become_help(&start, &line);
    if (line.kind == LINE_OTHER)
        become_python(&start, global_words(&line.options), line.rest);
    if (line.kind == LINE_VERSION)
        version_print(&start, &line.options);
    else if (dprintf(STDOUT_FILENO, "%s\n", VERSION) < 0)
        stop(errno, "standard output");
    return 0;
}
