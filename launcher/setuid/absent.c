/* What the setuid program does without: every launch that wants a user namespace, or a file system that is served, was handed
 * to the plain starter. These stand where the linker would put the real ones. */
#include "../perform/perform.h"

void config_suggest(const char *name, char *hint, size_t size)
{
    (void)name, (void)hint, (void)size;
}

#define STOP_ABSENT() stop(0, "no part of the setuid starter (a fault of singularity: please report it)")

int unprivileged_namespaces(struct plan *plan, const struct caller *caller, struct fuse *servers)
{
    (void)caller;
    (void)servers;
    return (int)plan->namespaces;
}

int unprivileged_part(const struct plan *plan, const struct stage *stage, const struct part *part, struct fuse *server)
{
    (void)plan, (void)stage, (void)part, (void)server;
    STOP_ABSENT();
}

int fuse_overlay(const struct session *session, const char *options, const int *layers, int count)
{
    (void)session, (void)options, (void)layers, (void)count;
    STOP_ABSENT();
}

void fuse_await(int server, int unmounted)
{
    (void)server, (void)unmounted;
    STOP_ABSENT();
}
