/* Compares libraries of the host with those of an image for the setuid starter, which executes it without any privilege.
 * Installed with mode 0711, so that its users can neither trace nor read it. */
#include <stdlib.h>

#include "libraries/look.h"
#include "inside.h"

int main(int argc, char **argv)
{
    static struct request asked;
    struct error error = {0};

    if (argc != 4 || !request_receive(atoi(argv[1]), &asked, &error))
        stop_with(EXIT_USAGE, 0, "this is a part of the starter of singularity containers: run singularity instead");
    message_begin((int)(asked.level % 64) - 16, asked.colour);
    proc_open();
    library_look_and_tell(&asked, atoi(argv[2]), atoi(argv[3]));
}
