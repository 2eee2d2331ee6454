/* Where the files of this installation are: compiled in, or beside this program where it can be moved. */
#include "location.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <unistd.h>

#ifndef CONFIG_PATH
#define RELOCATABLE 1
#define CONFIG_PATH ""
#endif
#ifndef LIBEXECDIR
#define LIBEXECDIR ""
#endif

/* `path` below the prefix of this program, which is PREFIX/libexec/singularity/sexec or, the front door, PREFIX/bin/NAME.
 * /proc/self/exe is the kernel's word on which file runs (proc_pid_exe(5)); argv[0] is the caller's (R-L1). Only in a
 * build that has no setuid program. */
static const char *beside(char *store, size_t size, const char *path)
{
    ssize_t length = readlink("/proc/self/exe", store, size - 1);

    store[length > 0 ? length : 0] = '\0';
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(store, '/');
        if (slash == NULL)
            break;
        up += strcmp(slash, "/bin") == 0;
        *slash = '\0';
    }
    size_t used = strlen(store);
    snprintf(store + used, size - used, "/%s", path);
    return store;
}

/* In the setuid program a constant of the build: nothing that a user can change takes part in it (R-C1). */
const char *location_config(void)
{
    static char path[PATH_MAX];

#ifdef RELOCATABLE
    return beside(path, sizeof path, "etc/singularity/singularity.conf");
#else
    (void)path;
    (void)beside;
    return CONFIG_PATH;
#endif
}

const char *location_libexec(void)
{
    static char path[PATH_MAX];

#ifdef RELOCATABLE
    return beside(path, sizeof path, "libexec/singularity");
#else
    (void)path;
    return LIBEXECDIR;
#endif
}

const char *location_starter(void)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/sexec", location_libexec());
    return path;
}
