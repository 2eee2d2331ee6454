/* Root emulation as a program of its own, for what builds run: PROGRAM with its arguments, found by PATH. Launches have it in their own
 * text (start_program.c). No privilege. */
#include <errno.h>
#include <unistd.h>

#include "emulate/emulate.h"
#include "message.h"

int main(int argc, char **argv)
{
    message_begin(LEVEL_INFO, false);
    if (argc < 2)
        stop_with(EXIT_USAGE, 0, "usage: root-emulator PROGRAM [ARGUMENT...] (\"singularity build\" calls this)");
    emulate_root(true);
    execvp(argv[1], argv + 1);
    stop(errno, "%s", argv[1]);
}
