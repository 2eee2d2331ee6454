/* Docker's options and letters, and what does the same here: data for one line of help. */
#include "front.h"

#include <string.h>

/* Names and meanings by `docker run --help`; only what people type most, since an answer for everything is the
 * manual's. */
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
    {"detach", "singularity instance start IMAGE NAME"},
    {"name", left_out},
    {"cap-add", "--add-caps"},
    {"cap-drop", "--drop-caps"},
    {"tmpfs", "--scratch"},
    {"read-only", "leave it out, images are written with --writable only"},
    {"init", "--pid"},
    {"label", left_out},
    {"pull", "leave it out, docker://NAME:TAG is asked for each time"},
    {"restart", "leave it out, or let the batch system start jobs again"},
    {"shm-size", "leave it out, /dev/shm is the host's"},
    {"ulimit", "leave it out, the limits of your shell hold inside"},
};

const char *docker_long(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0)
            return options[i].here;
    return NULL;
}

/* Only letters that are no options here: others do something, and the image's name or the program shows that
 * something else was meant. */
const char *docker_letter(char letter, const char *value)
{
    if (letter == 't')
        return terminal;
    if (letter == 'm')
        return "--memory SIZE";
    if (letter == 'v' && strchr(value, ':') != NULL) /* else it is --verbose at a wrong place */
        return docker_long("volume", strlen("volume"));
    return NULL;
}

/* What stands behind a flag of ours is the image; that it is no file and has the form of Docker's value is what gives
 * the mistake away. */
const char *docker_value(const char *flag, const char *image)
{
    bool name = strpbrk(image, "./") == NULL;
    bool port = *image >= '0' && *image <= '9' && image[strspn(image, "0123456789.:/tcpuds")] == '\0'; /* 53:53/udp */
    bool directory = *image == '/' && strchr(image, '.') == NULL;

    if (strcmp(flag, "-e") == 0 && strchr(image, '=') != NULL)
        return "-e is --cleanenv here: --env NAME=VALUE sets a variable";
    if (strcmp(flag, "-p") == 0 && port)
        return "-p is --pid here: ports need no option, programs use the host's network";
    if (strcmp(flag, "-w") == 0 && directory)
        return "-w is --writable here: --cwd DIR starts in a directory";
    if ((strcmp(flag, "-u") == 0 || strcmp(flag, "--user") == 0) && name)
        return "-u is --userns here: programs run as you, or as root with --fakeroot";
    return NULL;
}
