/* What the setuid program does without: it serves no file systems and makes no user namespaces, since every launch that wants
 * either was handed to the plain starter. These stand where the linker would put the real ones. */
#include "../perform/fuse.h"
#include "../perform/user_namespace.h"

bool fuse_needed(const struct plan *plan)
{
    (void)plan;
    return false;
}

void fuse_prepare(struct plan *plan, struct fuse *servers)
{
    (void)plan;
    (void)servers;
}

void fuse_watch(const struct plan *plan)
{
    (void)plan;
}

void fuse_await(int server, int unmounted)
{
    (void)server;
    (void)unmounted;
}

static _Noreturn void stop_absent(void)
{
    stop(0, "the setuid starter serves no file systems and makes no user namespaces (a fault of singularity: please report it)");
}

int fuse_mount(const struct session *session, const struct part *part, struct fuse *fuse)
{
    (void)session;
    (void)part;
    (void)fuse;
    stop_absent();
}

int fuse_overlay(const struct session *session, const char *options, const int *layers, int count)
{
    (void)session;
    (void)options;
    (void)layers;
    (void)count;
    stop_absent();
}

void user_namespace_map(const struct plan *plan, const struct caller *caller)
{
    (void)plan;
    (void)caller;
    stop_absent();
}
