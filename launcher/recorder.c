/* The recorder of --record: starts a launch as its child, and writes down which files outside the image its program reads and writes. On
 * the host, as the caller; "singularity launch" of the Python half calls it, and reads what it has written. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "message.h"
#include "record/record.h"

enum { LOG = 1, CONNECTION, HANDED, IMAGE, LIMIT, PROGRAM, LEAST };

int main(int argc, char **argv)
{
    sigset_t all, before;

    message_begin(LEVEL_INFO, false);
    if (argc < LEAST)
        stop_with(EXIT_USAGE, 0, "usage: recorder LOG CONNECTION HANDED IMAGE LIMIT PROGRAM [ARGUMENT...] (\"singularity exec --record\" calls this)");
    struct recording recording = {.log = atoi(argv[LOG]), .connection = atoi(argv[CONNECTION]), .image = argv[IMAGE],
                                  .limit = strtoull(argv[LIMIT], NULL, 10)};
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* who may be looked into is a descendant (ptrace(2), "Ptrace access mode checking") */
    recording.program = fork();
    if (recording.program < 0)
        stop(errno, "--record");
    if (recording.program == 0) {
        close(recording.log);
        close(recording.connection);
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        sigprocmask(SIG_SETMASK, &before, NULL);
        execv(argv[PROGRAM], argv + PROGRAM + 1);
        stop(errno, "%s", argv[PROGRAM]);
    }
    close(atoi(argv[HANDED]));
    return record_serve(&recording) ? EXIT_SUCCESS : EXIT_OWN_FAILURE;
}
