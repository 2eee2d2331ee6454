/* What the site's configuration decides before a launch: always nv, always rocm, mpi, linger, exit statuses. */
#include "front.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../descriptor.h"

/* not the whole of 1 MiB that the starter reads: what a site writes is far below, and a key behind it keeps its
 * default here */
enum { CONFIGURATION_SIZE = 256 << 10 };

enum key { KEY_NV, KEY_ROCM, KEY_MPI, KEY_LINGER, KEY_STATUSES, KEYS };
static const char keys_known[KEYS][16] = {"always use nv", "always use rocm", "mpi", "linger", "exit statuses"};

static const char *after_blanks(const char *text)
{
    while (*text == ' ' || *text == '\t')
        text++;
    return text;
}

/* The value of each key, up to the end of the file, or "". No parser: these keys are looked for, and the starter, which
 * reads the file in full, is the one to complain about it. Once over the lines, of which nearly all are comments. */
static void values_find(const char *text, const char *values[KEYS])
{
    for (int key = 0; key < KEYS; key++)
        values[key] = "";
    for (const char *line = text; line != NULL; line = strchr(line, '\n'), line += line != NULL) {
        const char *at = after_blanks(line);
        for (int key = 0; *at != '#' && *at != '\n' && key < KEYS; key++) {
            size_t length = strlen(keys_known[key]);
            if (strncmp(at, keys_known[key], length) == 0 && *after_blanks(at + length) == '=' && *values[key] == '\0')
                values[key] = after_blanks(after_blanks(at + length) + 1);
        }
    }
}

/* As the starter reads it. The first letter is enough: the starter refuses anything but its own spellings. */
static bool says_yes(const char *value)
{
    return *value == '1' || *value == 'y' || *value == 'Y';
}

/* An unreadable file means the defaults: the starter will say what is wrong with it. */
void config_keys_read(const struct installation *installation, struct config_keys *keys)
{
    static char text[CONFIGURATION_SIZE];
    char path[PATH_MAX];
    const char *values[KEYS];
    OWNED_FD fd = installation_file(installation, "singularity.conf", path) ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    ssize_t size = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;

    text[size > 0 ? size : 0] = '\0';
    values_find(text, values);
    keys->always_nv = says_yes(values[KEY_NV]);
    keys->always_rocm = says_yes(values[KEY_ROCM]);
    keys->linger = strtoul(values[KEY_LINGER], NULL, 10);
    keys->family_statuses = *values[KEY_STATUSES] == 'f' || *values[KEY_STATUSES] == 'F';
    const char *mpi = values[KEY_MPI];
    keys->mpi = *mpi == 'h' || *mpi == 'H' ? MPI_HOST : *mpi == 'a' || *mpi == 'A' ? MPI_AUTO : MPI_CONTAINER;
}
