/* What the site's configuration decides before a launch: always nv, always rocm, mpi, linger, exit statuses, host commands. */
#include "front.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../descriptor.h"

/* not the whole of 1 MiB that the starter reads: what a site writes is far below, and a key behind it keeps its
 * default here */
enum { CONFIGURATION_SIZE = 256 << 10 };

enum key { KEY_NV, KEY_ROCM, KEY_MPI, KEY_LINGER, KEY_STATUSES, KEY_BINDS, KEY_USERNS, KEYS };
static const char keys_known[KEYS][24] = {"always use nv", "always use rocm", "mpi", "linger", "exit statuses", "user bind control",
                                             "allow user ns"};

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

static bool says_no(const char *value)
{
    return *value == 'n' || *value == 'N' || *value == '0';
}

/* An unreadable file means the defaults: the starter will say what is wrong with it. */
static const char *configuration_text(const struct installation *installation)
{
    static char text[CONFIGURATION_SIZE];
    char path[PATH_MAX];
    OWNED_FD fd = installation_file(installation, "singularity.conf", path) ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    ssize_t size = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;

    text[size > 0 ? size : 0] = '\0';
    return text;
}

void config_keys_read(const struct installation *installation, struct config_keys *keys)
{
    const char *values[KEYS];

    values_find(configuration_text(installation), values);
    keys->always_nv = says_yes(values[KEY_NV]);
    keys->always_rocm = says_yes(values[KEY_ROCM]);
    keys->linger = strtoul(values[KEY_LINGER], NULL, 10);
    keys->family_statuses = *values[KEY_STATUSES] == 'f' || *values[KEY_STATUSES] == 'F';
    keys->binds_refused = says_no(values[KEY_BINDS]);
    keys->userns_refused = says_no(values[KEY_USERNS]);
    const char *mpi = values[KEY_MPI];
    keys->mpi = *mpi == 'h' || *mpi == 'H' ? MPI_HOST : *mpi == 'a' || *mpi == 'A' ? MPI_AUTO : MPI_CONTAINER;
}

/* Of a list every line counts, with commas in it. */
size_t config_list_read(const struct installation *installation, const char *key, struct text_store *store, const char **items, size_t limit)
{
    const char *line = configuration_text(installation);
    size_t count = 0;

    for (; line != NULL; line = strchr(line, '\n'), line += line != NULL) {
        const char *at = after_blanks(line);
        const char *equals = strncmp(at, key, strlen(key)) == 0 ? after_blanks(at + strlen(key)) : "";
        if (*equals != '=')
            continue;
        for (at = equals; *at == '=' || *at == ',';) {
            at = after_blanks(at + 1);
            size_t length = strcspn(at, ",\n"), shown = length;
            while (shown > 0 && strchr(" \t\r", at[shown - 1]) != NULL)
                shown--;
            if (count < limit && shown > 0 && (items[count] = text_copy(store, at, shown)) != NULL)
                count++;
            at += length;
        }
    }
    return count;
}
