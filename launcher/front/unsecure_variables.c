/* Variables that the kernel or the C library take away from a setuid program, brought past it under other names. */
#include "front.h"

#include <errno.h>
#include <string.h>

#include "../inherited.h"

/* glibc's list for secure execution (sysdeps/generic/unsecvars.h and its tunables; ld.so(8)). "LD_" and "MALLOC_" stand for
 * all that begin so. A name too many does no harm: what is carried is the variable as it was. */
static bool taken_away(const char *entry)
{
    static const char *const names[] = {"GCONV_PATH=", "GETCONF_DIR=", "GLIBC_TUNABLES=", "HOSTALIASES=", "LD_", "LOCALDOMAIN=",
                                        "LOCPATH=", "MALLOC_", "NIS_PATH=", "NLSPATH=", "RESOLV_HOST_CONF=", "RES_OPTIONS=",
                                        "TMPDIR=", "TZDIR="};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* Under a name that the dynamic loader does not know, and so keeps. */
static char *carried(struct arena *arena, const char *entry)
{
    size_t prefix = strlen(INHERITED_CARRIED), size = strlen(entry) + 1;
    char *text = arena_take(arena, prefix + size);

    if (text == NULL)
        stop(ENOMEM, "the environment");
    memcpy(text, INHERITED_CARRIED, prefix);
    memcpy(text + prefix, entry, size);
    return text;
}

/* The plain names stay too, for the starter without privilege, which gets them as they are. Where both arrive they
 * are equal, and the first counts (host_variables()). */
char **unsecure_variables_keep(struct arena *arena, char **environment)
{
    size_t count = 0, more = 0, used = 0;

    for (; environment[count] != NULL; count++)
        more += taken_away(environment[count]);
    if (more == 0)
        return environment;
    char **result = arena_take(arena, (count + more + 1) * sizeof *result);
    if (result == NULL)
        stop(ENOMEM, "the environment");
    memcpy(result, environment, count * sizeof *result);
    for (size_t i = 0; i < count; i++)
        if (taken_away(environment[i]))
            result[count + used++] = carried(arena, environment[i]);
    result[count + used] = NULL;
    return result;
}
