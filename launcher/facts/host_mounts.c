/* The host's mounts, for "mount hostfs": reads mountinfo as the user. */
#include "facts.h"

#include <fcntl.h>
#include <string.h>

#include "../descriptor.h"
#include "../inside.h"

/* Users name mounts, too (FUSE), which are everybody's here: all of them together must fit into a plan. */
enum { MOUNTS_LIMIT = 256, PATH_LIMIT = 1024 };

/* What the kernel and services keep there is the business of this host's processes; a container has its own or none. */
static bool left_out(const char *path)
{
    static const char *const trees[] = {"/proc", "/sys", "/dev", "/run", "/boot", "/var"};

    for (size_t i = 0; i < sizeof trees / sizeof trees[0]; i++) {
        size_t length = strlen(trees[i]);
        if (strncmp(path, trees[i], length) == 0 && (path[length] == '/' || path[length] == '\0'))
            return true;
    }
    return strcmp(path, "/") == 0;
}

const char *const *host_mounts(struct plan *plan)
{
    static const char *found[MOUNTS_LIMIT + 1];
    char line[3 * PATH_MAX], path[PATH_LIMIT + 1];
    OWNED_FD info = openat(proc_fd(), "self/mountinfo", O_RDONLY | O_CLOEXEC);
    FILE *stream = info >= 0 ? fdopen(fd_give(&info), "r") : NULL;
    uint32_t count = 0;
    bool begins = true;

    while (stream != NULL && count < MOUNTS_LIMIT && fgets(line, sizeof line, stream) != NULL) {
        bool whole = begins && sscanf(line, "%*s %*s %*s %*s %1024s", path) == 1 && strlen(path) < PATH_LIMIT;
        begins = strchr(line, '\n') != NULL; /* of a line that is longer than the buffer the rest is not another one */
        if (!whole)
            continue;
        mountinfo_unescape(path);
        bool known = left_out(path);
        for (uint32_t i = 0; i < count && !known; i++)
            known = strcmp(found[i], path) == 0;
        if (!known)
            found[count++] = plan_text(plan, "%s", path);
    }
    if (stream != NULL)
        fclose(stream);
    found[count] = NULL;
    return found;
}
