/* Launches of images from which `build --only` has removed names: whoever misses one is to be told. */
#include "front.h"

#include <errno.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whether this user can have namespaces of his own, tried in a child. */
static bool namespaces_possible(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return child > 0 && status == 0;
}

/* Who misses a name that was removed from the image is told by its server: the kernel's own mount, which is all that the setuid program
 * has, tells nobody. Who can have no server goes without being told, as does who says --userns=false. */
void removed_names_take(struct invocation *invocation, const struct options *options)
{
    struct request *request = &invocation->request;
    bool refused = options_last(options, OPTION_userns) != NULL && !request->userns;
    bool served = invocation->root || request->userns || request->fakeroot;

    if (refused || request->target_uid != 0 || access("/dev/fuse", R_OK | W_OK) < 0 ||
        (!served && (invocation->keys.userns_refused || !namespaces_possible())))
        return;
    request->names_removed = true;
    if (!served) {
        request->userns = true;
        request->userns_reason = "the image server tells which of the names are missed that build --only has removed";
    }
}
