#include "docker.h"

#include <string.h>

static const char left_out[] = "leave it out, nothing of a container stays";
static const char terminal[] = "leave it out, a program has your terminal";
static const char network[] = "leave it out, programs use the host's network";

static const struct {
    const char *name;
    const char *here;
} options[] = {
    {"volume", "--bind SOURCE[:TARGET]"},
    {"gpus", "--nv, or --rocm"},
    {"interactive", terminal},
    {"tty", terminal},
    {"rm", left_out},
    {"privileged", "--fakeroot to appear as root"},
    {"entrypoint", "\"singularity exec IMAGE PROGRAM\" in place of run"},
    {"publish", network},
    {"publish-all", network},
    {"expose", network},
    {"detach", "\"&\" at the end of the line"},
    {"name", left_out},
    {"cap-add", "--add-caps"},
    {"cap-drop", "--drop-caps"},
    {"tmpfs", "--scratch"},
    {"read-only", "leave it out, images are written with --writable only"},
    {"init", "--pid"},
};

/* Flags of ours that take a value there. */
static const struct {
    const char *word;
    const char *here;
} valued[] = {
    {"-e", "-e is --cleanenv here: --env NAME=VALUE sets a variable"},
    {"-p", "-p is --pid here: ports need no option, programs use the host's network"},
    {"-w", "-w is --writable here: --cwd DIR starts in a directory"},
    {"-u", "-u is --userns here: programs run as you, or as root with --fakeroot"},
    {"--user", "--user is --userns here: programs run as you, or as root with --fakeroot"},
};

const char *docker_long(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0)
            return options[i].here;
    return NULL;
}

const char *docker_letter(char letter, const char *value)
{
    if (letter == 't')
        return terminal;
    if (letter == 'v' && strchr(value, ':') != NULL) /* else it is --verbose at a wrong place */
        return docker_long("volume", strlen("volume"));
    return NULL;
}

const char *docker_value(const char *word)
{
    for (size_t i = 0; i < sizeof valued / sizeof valued[0]; i++)
        if (strcmp(valued[i].word, word) == 0)
            return valued[i].here;
    return NULL;
}
