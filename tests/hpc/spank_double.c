/* spank_double PLUGIN WORD...: what the plugin does where Slurm has spank_prepend_task_argv, from 23.11 on, for releases that
 * this machine lacks. It plays slurmstepd for one task of these words, with its own environment as that of the task, and
 * prints the words that the plugin puts in front, each ended by NUL. With STEP=batch in the environment it is a batch job, with
 * ABSENT there is no singularity. */
#include <dlfcn.h>
#include <slurm/slurm.h>
#include <slurm/spank.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;
static char **task_words;
static int task_count;

spank_err_t spank_prepend_task_argv(spank_t spank, int count, const char *words[]);

spank_context_t spank_context(void)
{
    return S_CTX_REMOTE;
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
    (void)spank, (void)option;
    return ESPANK_SUCCESS;
}

spank_err_t spank_unsetenv(spank_t spank, const char *name)
{
    (void)spank;
    return unsetenv(name) == 0 ? ESPANK_SUCCESS : ESPANK_ERROR;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
    const char *step = getenv("STEP");
    va_list values;

    (void)spank;
    va_start(values, item);
    if (item == S_JOB_ENV)
        *va_arg(values, char ***) = environ;
    else if (item == S_JOB_STEPID)
        *va_arg(values, uint32_t *) = step != NULL && strcmp(step, "batch") == 0 ? SLURM_BATCH_SCRIPT : 0;
    else if (item == S_JOB_ARGV) {
        *va_arg(values, int *) = task_count;
        *va_arg(values, char ***) = task_words;
    }
    va_end(values);
    return ESPANK_SUCCESS;
}

spank_err_t spank_prepend_task_argv(spank_t spank, int count, const char *words[])
{
    (void)spank;
    for (int i = 0; i < count; i++)
        fwrite(words[i], 1, strlen(words[i]) + 1, stdout);
    return ESPANK_SUCCESS;
}

void slurm_error(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
}

int main(int argc, char **argv)
{
    static char present[] = "singularity=/bin/true", absent[] = "singularity=/nowhere/singularity";
    char *arguments[] = {getenv("ABSENT") != NULL ? absent : present, NULL};
    void *plugin = dlopen(argv[1], RTLD_NOW);

    if (plugin == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    task_words = argv + 2;
    task_count = argc - 2;
    spank_f *begin = (spank_f *)dlsym(plugin, "slurm_spank_init");
    spank_f *task = (spank_f *)dlsym(plugin, "slurm_spank_task_init");
    return begin(NULL, 1, arguments) == ESPANK_SUCCESS && task(NULL, 1, arguments) == ESPANK_SUCCESS ? 0 : 1;
}
