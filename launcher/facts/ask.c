/* Has a child without privilege read and judge what anybody may have written; its answer comes through a pipe and is data. */
#include "facts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"

/* The answer is read to its whole size or not at all: a child that was killed, or taken over by what it read, can be
 * late or silent but can hand over neither a descriptor nor more bytes than asked for (R-P2). Our own end of the pipe
 * is closed first, or the end of the child would never be seen. The child is waited for in every case, so that no
 * process of the launcher's shows up later (R-L16). */
bool ask(void (*child)(const void *question, int to), const void *question, void *answer, size_t size)
{
    size_t used = 0;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    OWNED_FD from = ends[0], to = ends[1];
    pid_t asker = getpid(), process = fork();
    if (process == 0) { /* it has open what we have, and must not outlive us */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == asker)
            child(question, to);
        _exit(EXIT_OWN_FAILURE);
    }
    fd_close(&to);
    for (ssize_t got = 1; process > 0 && used < size && got != 0; used += got > 0 ? (size_t)got : 0)
        if ((got = read(from, (char *)answer + used, size - used)) < 0 && errno != EINTR)
            break;
    while (process > 0 && waitpid(process, NULL, 0) < 0 && errno == EINTR)
        continue;
    return used == size;
}
