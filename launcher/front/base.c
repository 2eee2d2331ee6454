/* An image that holds only what differs from its base is launched as its base with the image laid over it, read-only. Which file has the
 * right bytes Python has found out, and remembered (singularity/image/base.py); a record that does not hold any more sends the
 * launch to Python, which looks for the base, reads it, and starts this program again with the records in its memory. */
#include "front.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../variable.h"

enum { RECORDS_SIZE = 64 << 10, DEEPEST = 8 };
static const char handed_name[] = "SINGULARITY_BASE_RECORDS";

/* The directory of the user's cache, as singularity/paths.py has it. */
static bool records_path(char *const *environment, const char *digest, const char *end, char path[PATH_MAX])
{
    static const char *const names[][2] = {{"SINGULARITY_CACHEDIR", ""}, {"APPTAINER_CACHEDIR", ""},
                                           {"SINGULARITY_CONFIGDIR", ""}, {"APPTAINER_CONFIGDIR", ""}, {"HOME", "/.singularity"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = variable(environment, names[i][0]);
        if (value != NULL && *value != '\0')
            return snprintf(path, PATH_MAX, "%s%s/cache/bases/%s%s", value, names[i][1], digest, end) < PATH_MAX;
    }
    return false;
}

/* What others wrote is their word: root may have come with a user's HOME. */
static bool is_own(int fd)
{
    struct stat status;

    return fd >= 0 && fstat(fd, &status) == 0 && status.st_uid == getuid() && (status.st_mode & 022) == 0;
}

/* The texts stay for as long as the program: paths in the request point into them. */
static char *records_read(int fd)
{
    char *text = fd >= 0 ? malloc(RECORDS_SIZE) : NULL;
    ssize_t size = text != NULL ? pread(fd, text, RECORDS_SIZE - 1, 0) : 0;

    if (text != NULL)
        text[size > 0 ? size : 0] = '\0';
    return text;
}

/* "INODE SIZE MTIME CTIME PATH", times in nanoseconds. The path of a file of which nothing has changed since, or NULL. */
static const char *record_path(char *line, struct stat *status)
{
    unsigned long long told[4];

    for (int i = 0; i < 4; i++) {
        char *end = line;
        told[i] = strtoull(line, &end, 10);
        if (end == line || *end != ' ')
            return NULL;
        line = end + 1;
    }
    if (*line != '/' || stat(line, status) < 0 || !S_ISREG(status->st_mode))
        return NULL;
    const unsigned long long second = 1000000000;
    bool same = told[0] == status->st_ino && told[1] == (unsigned long long)status->st_size &&
                told[2] == (unsigned long long)status->st_mtim.tv_sec * second + (unsigned long long)status->st_mtim.tv_nsec &&
                told[3] == (unsigned long long)status->st_ctim.tv_sec * second + (unsigned long long)status->st_ctim.tv_nsec;
    return same ? line : NULL;
}

/* The next line that holds, of those that are left, and is of a file of `owner`, where there is one; NULL without one. */
static const char *next_path(char **records, bool first_alone, const uid_t *owner)
{
    struct stat status;

    while (*records != NULL && **records != '\0') {
        char *line = *records, *end = strchr(line, '\n');
        *records = end != NULL ? end + 1 : NULL;
        if (end != NULL)
            *end = '\0';
        const char *path = end != NULL ? record_path(line, &status) : NULL;
        if ((path != NULL && (owner == NULL || *owner == status.st_uid)) || first_alone)
            return path;
    }
    return NULL;
}

static const char *remembered(char *const *environment, const char *digest, const char *end, const uid_t *owner)
{
    char path[PATH_MAX];
    OWNED_FD fd = records_path(environment, digest, end, path) ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    char *records = is_own(fd) ? records_read(fd) : NULL;

    return next_path(&records, false, owner);
}

/* A stranger's file is the base of his own images alone: under any other he could change it. */
static const char *base_path(char *const *environment, const char *digest, const char *image, char **handed)
{
    struct stat status;

    if (*handed != NULL)
        return next_path(handed, true, NULL);
    const char *path = remembered(environment, digest, "", NULL);
    return path == NULL && stat(image, &status) == 0 ? remembered(environment, digest, ".others", &status.st_uid) : path;
}

/* What Python hands over is for this process alone: neither variable nor descriptor goes further. */
static char *records_handed(char **environment)
{
    const char *value = variable(environment, handed_name);
    OWNED_FD fd = value != NULL ? (int)strtol(value, NULL, 10) : -1;
    size_t length = sizeof handed_name - 1;

    if (value == NULL || fd <= STDERR_FILENO) {
        fd = -1;
        return NULL;
    }
    for (char **each = environment; *each != NULL; each++)
        while (*each != NULL && strncmp(*each, handed_name, length) == 0 && (*each)[length] == '=')
            for (char **next = each; (*next = next[1]) != NULL; next++)
                continue;
    return records_read(fd);
}

/* Nothing is laid over an image that is written; and the starter's words are about --overlay, which nobody has given. */
static bool can_lie(struct request *request, const char *image, struct error *error)
{
    static char said[] = "an image on a base", option[] = "--overlay";
    enum { VARIABLES = sizeof request->variable / sizeof request->variable[0] };

    if (request->writable)
        return error_set(error, 0, "%.500s: only what differs from its base, and not to be written (--writable-tmpfs or --overlay FILE take "
                         "changes; singularity flatten makes a whole image)", image);
    if (request->trace != NULL)
        return error_set(error, 0, "%.500s: only what differs from its base: --trace is for whole images (singularity flatten makes one)", image);
    if (request->overlay_count == 0 && request->variable_count < VARIABLES)
        request->variable[request->variable_count++] = (struct request_entry){said, option, 0};
    return true;
}

enum base_outcome bases_take(struct invocation *invocation, const struct sif_look *first, char **environment, struct error *error)
{
    enum { OVERLAYS = sizeof invocation->request.overlay / sizeof invocation->request.overlay[0] };
    struct request *request = &invocation->request;
    char *handed = records_handed(environment);
    bool again = handed != NULL;
    struct sif_look look = *first;

    if (look.base[0] == '\0')
        return BASE_FOUND;
    if (!can_lie(request, request->image, error))
        return BASE_REFUSED;
    for (int depth = 0; look.base[0] != '\0'; depth++) {
        const char *path = depth < DEEPEST && !look.senseless ? base_path(environment, look.base, request->image, &handed) : NULL;
        if (path == NULL && again) {
            error_set(error, 0, "%.500s: its base has changed since it was read, a moment ago", request->image);
            return BASE_REFUSED;
        }
        if (path == NULL)
            return BASE_UNKNOWN;
        if (request->overlay_count == OVERLAYS) {
            error_set(error, 0, "more than %d overlays, with what lies on bases", (int)OVERLAYS);
            return BASE_REFUSED;
        }
        request->overlay[request->overlay_count++] = (struct request_entry){request->image, "", OVERLAY_READONLY | OVERLAY_LAYER};
        request->image = path;
        sif_look(path, &look);
    }
    return BASE_FOUND;
}
