/* What the site's configuration decides before a launch: always nv, always rocm, mpi, linger. */
#include "front.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../descriptor.h"

/* not the whole of 1 MiB that the starter reads: what a site writes is far below, and a key behind it keeps its
 * default here */
enum { CONFIGURATION_SIZE = 256 << 10 };

/* The value of this key, up to the end of the file, or "". No parser: four keys are looked for, and the starter,
 * which reads the file in full, is the one to complain about it. A comment is passed over because its line does not
 * begin with the key. */
static const char *value_of(const char *text, const char *key)
{
    for (const char *at = text; (at = strstr(at, key)) != NULL; at += strlen(key)) {
        const char *line = at;
        while (line > text && (line[-1] == ' ' || line[-1] == '\t'))
            line--;
        const char *value = at + strlen(key);
        value += strspn(value, " \t");
        if ((line > text && line[-1] != '\n') || *value != '=')
            continue;
        return value + 1 + strspn(value + 1, " \t");
    }
    return "";
}

/* As the starter reads it. The first letter is enough: the starter refuses anything but its own spellings. */
static bool says_yes(const char *text, const char *key)
{
    const char *value = value_of(text, key);
    return *value == '1' || *value == 'y' || *value == 'Y';
}

/* An unreadable file means the defaults: the starter will say what is wrong with it. */
void config_keys_read(const struct installation *installation, struct config_keys *keys)
{
    static char text[CONFIGURATION_SIZE];
    char path[PATH_MAX];
    OWNED_FD fd = installation_file(installation, "singularity.conf", path) ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    ssize_t size = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;

    text[size > 0 ? size : 0] = '\0';
    keys->always_nv = says_yes(text, "always use nv");
    keys->always_rocm = says_yes(text, "always use rocm");
    keys->linger = strtoul(value_of(text, "linger"), NULL, 10);
    const char *mpi = value_of(text, "mpi");
    keys->mpi = *mpi == 'h' || *mpi == 'H' ? MPI_HOST : *mpi == 'a' || *mpi == 'A' ? MPI_AUTO : MPI_CONTAINER;
}
