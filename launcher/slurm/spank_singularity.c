/* Slurm's side of a launch: `srun --singularity-image=IMAGE PROGRAM` runs PROGRAM in the container. srun, sbatch and salloc
 * load this plugin for its options, slurmstepd for the tasks. Only as the user, in the process that is about to become the
 * task, does it act: it puts `singularity exec OPTIONS IMAGE` in front of the task's words, and everything that makes the
 * container is the front door's, as if the user had typed it. Nothing of the launcher is linked in. */
#include <errno.h>
#include <limits.h>
#include <slurm/slurm.h>
#include <slurm/spank.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../variable.h"

#ifndef FRONT_DOOR
#define FRONT_DOOR "/usr/local/bin/singularity"
#endif

SPANK_PLUGIN(singularity, 1)

/* There from Slurm 23.11 on. Before that it is NULL here, and the task is executed from this plugin. */
extern spank_err_t spank_prepend_task_argv(spank_t spank, int count, const char *words[]) __attribute__((weak));

enum { EXIT_OWN_FAILURE = 255, MESSAGE_LIMIT = 1024, FIXED_WORDS = 10 };

enum setting { IMAGE, BIND, ARGS, SETTINGS };

/* What was asked for is kept here, since Slurm calls plugins without a context. To the nodes it goes in variables: Slurm by
 * itself sends only the last of several --singularity-bind. Those that begin with SLURM_ travel under --export=NONE too. */
static const char *const variables[SETTINGS] = {"SLURM_SINGULARITY_IMAGE", "SLURM_SINGULARITY_BIND",
                                                "SLURM_SINGULARITY_ARGS"};
static char *asked[SETTINGS];
static const char *front_door = FRONT_DOOR;
static const char *default_image;

static void __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
{
    char text[MESSAGE_LIMIT];
    va_list values;

    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    slurm_error("singularity: %s", text);
}

/* ---- texts ---- */

/* One word of `text`, quoted as in a shell, goes to `word`; returns what follows it, or NULL: a quote is not closed. */
static const char *word_read(const char *text, char *word)
{
    char quote = '\0';

    for (; *text != '\0' && (quote != '\0' || strchr(" \t\n", *text) == NULL); text++) {
        if (quote != '\0' && *text == quote)
            quote = '\0';
        else if (quote == '\0' && (*text == '"' || *text == '\''))
            quote = *text;
        else if (*text == '\\' && quote != '\'' && text[1] != '\0')
            *word++ = *++text;
        else
            *word++ = *text;
    }
    *word = '\0';
    return quote == '\0' ? text : NULL;
}

/* The words of `text` one after the other, each ended by a NUL, in `words`, which has room for all of `text`. Returns their
 * number, or -1: a quote is not closed. */
static int words_read(const char *text, char *words)
{
    int count = 0;

    for (text += strspn(text, " \t\n"); *text != '\0'; text += strspn(text, " \t\n")) {
        text = word_read(text, words);
        if (text == NULL)
            return -1;
        words += strlen(words) + 1;
        count++;
    }
    return count;
}

/* A path as --bind takes it, or NULL: no memory. */
static char *bind_path(const char *path)
{
    char *text = malloc(2 * strlen(path) + 1), *end = text;

    if (text == NULL)
        return NULL;
    for (; *path != '\0'; path++) {
        if (strchr(":,\\", *path) != NULL)
            *end++ = '\\';
        *end++ = *path;
    }
    *end = '\0';
    return text;
}

/* `second` after what there is of `first`, or NULL: no memory. */
static char *join(const char *first, const char *separator, const char *second)
{
    char *text;

    if (first == NULL)
        return strdup(second);
    return asprintf(&text, "%s%s%s", first, separator, second) < 0 ? NULL : text;
}

/* ---- options: in srun, sbatch, salloc and on the node ---- */

/* A node looks for the image from the job's directory, which need not be the one where the command was typed. */
static char *image_absolute(const char *image)
{
    char directory[PATH_MAX];

    if (*image == '/' || *image == '\0' || strchr(image, ':') != NULL || strcmp(image, "none") == 0 ||
        getcwd(directory, sizeof directory) == NULL)
        return strdup(image);
    return join(directory, "/", image);
}

static char *combined(enum setting setting, const char *text, bool remote)
{
    if (remote) /* Slurm's message and the environment both bring the same option */
        return strdup(text);
    switch (setting) {
    case BIND: return join(asked[BIND], ",", text);
    case ARGS: return join(asked[ARGS], " ", text);
    default: return image_absolute(text);
    }
}

static bool quotes_closed(const char *text)
{
    char *words = malloc(strlen(text) + 1);
    bool closed = words != NULL && words_read(text, words) >= 0;

    free(words);
    return closed;
}

static int option_take(int value, const char *text, int remote)
{
    enum setting setting = (enum setting)value;
    char *whole = combined(setting, text != NULL ? text : "", remote != 0);

    free(asked[setting]);
    asked[setting] = whole;
    if (whole == NULL) {
        complain("no memory for options");
        return -1;
    }
    if (setting == ARGS && !quotes_closed(whole)) {
        complain("--singularity-args: a quote is not closed: %.200s", whole);
        return -1;
    }
    return ESPANK_SUCCESS;
}

static bool options_register(spank_t spank)
{
    static char image[] = "singularity-image", image_word[] = "IMAGE",
                image_help[] = "run the program in this container image (\"none\": in no container)",
                bind[] = "singularity-bind", bind_word[] = "SOURCE[:TARGET[:OPTIONS]]",
                bind_help[] = "make paths of the host visible in the container, as --bind of singularity exec",
                args[] = "singularity-args", args_word[] = "OPTIONS",
                args_help[] = "further options of singularity exec, in one word: \"--nv --cleanenv\"";
    static struct spank_option options[SETTINGS] = {
        [IMAGE] = {image, image_word, image_help, 1, IMAGE, option_take},
        [BIND] = {bind, bind_word, bind_help, 1, BIND, option_take},
        [ARGS] = {args, args_word, args_help, 1, ARGS, option_take},
    };

    for (int i = 0; i < SETTINGS; i++)
        if (spank_option_register(spank, &options[i]) != ESPANK_SUCCESS)
            return false;
    return true;
}

/* A word after the plugin's path in plugstack.conf. */
static bool argument_take(const char *argument)
{
    static const char door[] = "singularity=", image[] = "default_image=";

    if (strncmp(argument, door, sizeof door - 1) == 0)
        front_door = argument + sizeof door - 1;
    else if (strncmp(argument, image, sizeof image - 1) == 0)
        default_image = argument + sizeof image - 1;
    else
        return false;
    return true;
}

int slurm_spank_init(spank_t spank, int count, char *arguments[])
{
    spank_context_t context = spank_context();

    for (int i = 0; i < count; i++)
        if (!argument_take(arguments[i])) {
            complain("plugstack.conf: unknown argument \"%.200s\" (singularity=PATH, default_image=IMAGE)", arguments[i]);
            return -1;
        }
    if (context != S_CTX_LOCAL && context != S_CTX_ALLOCATOR && context != S_CTX_REMOTE)
        return ESPANK_SUCCESS;
    if (!options_register(spank)) {
        complain("Slurm does not take the plugin's options");
        return -1;
    }
    return ESPANK_SUCCESS;
}

int slurm_spank_init_post_opt(spank_t spank, int count, char *arguments[])
{
    spank_context_t context = spank_context();

    (void)spank, (void)count, (void)arguments;
    if (context != S_CTX_LOCAL && context != S_CTX_ALLOCATOR)
        return ESPANK_SUCCESS;
    for (int i = 0; i < SETTINGS; i++)
        if (asked[i] != NULL && setenv(variables[i], asked[i], 1) != 0) {
            complain("no memory for options");
            return -1;
        }
    return ESPANK_SUCCESS;
}

/* ---- on the node, as the user, in the process that becomes the task ---- */

struct task {
    char *values[SETTINGS]; /* copies: the task itself does not get the variables */
    const char *script;     /* of a batch job, which lies where no container looks; else NULL */
    char **words;           /* Slurm's */
    int count;
    char *args;             /* the words of --singularity-args, one after the other */
    const char **prefix;    /* `singularity exec OPTIONS IMAGE` */
    int prefix_count;
};

static _Noreturn void __attribute__((format(printf, 1, 2))) stop(const char *format, ...)
{
    char text[MESSAGE_LIMIT];
    va_list values;

    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    complain("%s", text);
    _exit(EXIT_OWN_FAILURE); /* also where plugstack.conf calls the plugin optional: nothing starts outside instead */
}

static void *needed(void *memory)
{
    if (memory == NULL)
        stop("no memory for the command line");
    return memory;
}

static char **environment_of(spank_t spank)
{
    char **environment = NULL;

    if (spank_get_item(spank, S_JOB_ENV, &environment) != ESPANK_SUCCESS)
        stop("Slurm does not tell the environment of the task");
    return environment;
}

static void task_read(spank_t spank, struct task *task)
{
    uint32_t step = 0;
    char **environment = environment_of(spank);

    for (int i = 0; i < SETTINGS; i++) {
        const char *value = variable(environment, variables[i]);
        if (value == NULL)
            value = asked[i];
        if (value == NULL && i == IMAGE)
            value = default_image;
        task->values[i] = value != NULL && *value != '\0' ? needed(strdup(value)) : NULL;
    }
    for (int i = 0; i < SETTINGS; i++)
        spank_unsetenv(spank, variables[i]);
    if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_ARGV, &task->count, &task->words) != ESPANK_SUCCESS || task->count < 1)
        stop("Slurm does not tell the program of the task");
    task->script = step == SLURM_BATCH_SCRIPT ? task->words[0] : NULL;
}

static int bind_add(const char **words, const char *path)
{
    words[0] = "--bind";
    words[1] = needed(bind_path(path));
    return 2;
}

static void prefix_make(spank_t spank, struct task *task)
{
    const char *args = task->values[ARGS] != NULL ? task->values[ARGS] : "";
    const char *pmix = variable(environment_of(spank), "PMIX_SERVER_TMPDIR");

    task->args = needed(malloc(strlen(args) + 1));
    int further = words_read(args, task->args), used = 0;
    if (further < 0)
        stop("--singularity-args: a quote is not closed: %.200s", args);
    task->prefix = needed(calloc((size_t)further + FIXED_WORDS, sizeof *task->prefix));
    task->prefix[used++] = front_door;
    task->prefix[used++] = "exec";
    if (task->script != NULL)
        used += bind_add(task->prefix + used, task->script);
    if (pmix != NULL) /* where a rank meets slurmstepd, below SlurmdSpoolDir */
        used += bind_add(task->prefix + used, pmix);
    if (task->values[BIND] != NULL) {
        task->prefix[used++] = "--bind";
        task->prefix[used++] = task->values[BIND];
    }
    for (char *next = task->args; further > 0; further--, next += strlen(next) + 1)
        task->prefix[used++] = next;
    task->prefix[used++] = "--";
    task->prefix[used++] = task->values[IMAGE];
    task->prefix_count = used;
}

/* Linux has no use for this limit, but programs ask for it. */
static void resident_limit(spank_t spank)
{
    uint64_t mebibytes = 0;
    struct rlimit limit;

    if (spank_get_item(spank, S_STEP_ALLOC_MEM, &mebibytes) != ESPANK_SUCCESS || mebibytes == 0 ||
        getrlimit(RLIMIT_RSS, &limit) != 0 || limit.rlim_max / (1 << 20) <= mebibytes)
        return;
    limit.rlim_cur = limit.rlim_max = (rlim_t)mebibytes << 20;
    setrlimit(RLIMIT_RSS, &limit);
}

/* The limits of the shell where the job was submitted. Slurm sets them after it has called the plugins, from variables that
 * srun and sbatch make: those to be propagated, with a U before the number when --propagate asked for it. */
static void limits_propagate(spank_t spank)
{
    static const struct {
        const char *name;
        int resource;
    } limits[] = {
        {"SLURM_RLIMIT_CPU", RLIMIT_CPU},         {"SLURM_RLIMIT_FSIZE", RLIMIT_FSIZE}, {"SLURM_RLIMIT_DATA", RLIMIT_DATA},
        {"SLURM_RLIMIT_STACK", RLIMIT_STACK},     {"SLURM_RLIMIT_CORE", RLIMIT_CORE},   {"SLURM_RLIMIT_RSS", RLIMIT_RSS},
        {"SLURM_RLIMIT_NPROC", RLIMIT_NPROC},     {"SLURM_RLIMIT_AS", RLIMIT_AS},       {"SLURM_RLIMIT_NOFILE", RLIMIT_NOFILE},
        {"SLURM_RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    };

    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const char *text = variable(environment_of(spank), limits[i].name);
        struct rlimit limit;
        if (text == NULL || getrlimit(limits[i].resource, &limit) != 0)
            continue;
        bool wanted = *text == 'U';
        rlim_t value = strtoull(wanted ? text + 1 : text, NULL, 10);
        spank_unsetenv(spank, limits[i].name);
        limit.rlim_cur = value > limit.rlim_max && !wanted ? limit.rlim_max : value;
        if (setrlimit(limits[i].resource, &limit) != 0 && wanted)
            complain("%s cannot be propagated: %s", limits[i].name + strlen("SLURM_"), strerror(errno));
    }
}

static _Noreturn void front_door_stop(int number)
{
    stop("%s: %s (\"singularity=PATH\" in plugstack.conf says where it is)", front_door, strerror(number));
}

static _Noreturn void task_execute(spank_t spank, const struct task *task)
{
    size_t before = (size_t)task->prefix_count, after = (size_t)task->count;
    char **words = needed(calloc(before + after + 1, sizeof *words));

    memcpy(words, task->prefix, before * sizeof *words);
    memcpy(words + before, task->words, after * sizeof *words);
    limits_propagate(spank);
    resident_limit(spank);
    execve(front_door, words, environment_of(spank));
    int number = errno;
    free(words);
    front_door_stop(number);
}

int slurm_spank_task_init(spank_t spank, int count, char *arguments[])
{
    static struct task task;

    (void)count, (void)arguments;
    if (spank_context() != S_CTX_REMOTE)
        return ESPANK_SUCCESS;
    task_read(spank, &task);
    if (task.values[IMAGE] != NULL && strcmp(task.values[IMAGE], "none") == 0)
        return ESPANK_SUCCESS;
    if (task.values[IMAGE] == NULL && (task.values[BIND] != NULL || task.values[ARGS] != NULL))
        stop("--singularity-bind and --singularity-args are of no use without --singularity-image");
    if (task.values[IMAGE] == NULL)
        return ESPANK_SUCCESS;
    /* With these set, no word of the command line would be taken for the image. */
    spank_unsetenv(spank, "SINGULARITY_IMAGE");
    spank_unsetenv(spank, "APPTAINER_IMAGE");
    prefix_make(spank, &task);
    if (spank_prepend_task_argv == NULL)
        task_execute(spank, &task);
    if (access(front_door, X_OK) != 0) /* Slurm would say "execve()", and end with the error's number */
        front_door_stop(errno);
    if (spank_prepend_task_argv(spank, task.prefix_count, task.prefix) != ESPANK_SUCCESS)
        stop("Slurm does not let the program be started in a container");
    return ESPANK_SUCCESS;
}
