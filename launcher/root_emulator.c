/* Root emulation as a program of its own, for what builds run: PROGRAM with its arguments, found by PATH, in a user namespace with "one" id
 * or "more". Launches have it in their own text (start_program.c). No privilege. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "emulate/emulate.h"
#include "message.h"

int main(int argc, char **argv)
{
    message_begin(LEVEL_INFO, false);
    if (argc < 3 || (strcmp(argv[1], "one") != 0 && strcmp(argv[1], "more") != 0))
        stop_with(EXIT_USAGE, 0, "usage: root-emulator one|more PROGRAM [ARGUMENT...] (\"singularity build\" calls this)");
    emulate_root((struct emulation){.one_id = strcmp(argv[1], "one") == 0, .status = true});
    execvp(argv[2], argv + 2);
    stop(errno, "%s", argv[2]);
}
