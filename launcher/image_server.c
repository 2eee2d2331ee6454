/* The image server as a program of its own, for `singularity mount`: IMAGE, open, is shown by what is mounted behind DEVICE, open too.
 * Launches have it in their own text (perform/fuse.c). No privilege, no path. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "message.h"
#include "serve/serve.h"

static bool number(const char *word, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(word, &end, 10);
    return errno == 0 && *word >= '0' && *word <= '9' && *end == '\0';
}

int main(int argc, char **argv)
{
    uint64_t values[4];
    const char *why;

    message_begin(LEVEL_INFO, false);
    for (int i = 0; i < 4; i++)
        if (argc != 5 || !number(argv[i + 1], &values[i]) || (i < 2 && values[i] > INT32_MAX))
            stop_with(EXIT_USAGE, 0, "usage: image-server DEVICE IMAGE OFFSET SIZE (two descriptors and a place in the image; "
                      "\"singularity mount\" calls this)");
    struct server *server = serve_open((int)values[1], values[2], values[3], NULL, "", &why);
    if (server == NULL)
        stop(0, "%s", why);
    serve_run(server, (int)values[0], (int)values[1], -1, -1);
}
