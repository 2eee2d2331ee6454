/* The copy of an image on this node, where `singularity stage` has put one there (singularity/stage/copies.py has the names).
 * Looked for as the user, in a directory that nobody else can write to. */
#include "front.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inside.h"
#include "variable.h"

/* Where copies are: without a directory, or in somebody else's, there are none. */
static bool staging_place(char *const *environment, char place[PATH_MAX])
{
    const char *named = variable(environment, "SINGULARITY_STAGEDIR");
    struct stat status;
    int length = named != NULL && *named == '/' ? snprintf(place, PATH_MAX, "%s", named)
                                                : snprintf(place, PATH_MAX, "/tmp/singularity-stage-%ju", (uintmax_t)getuid());

    return length > 0 && length < PATH_MAX && lstat(place, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == getuid() &&
           (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool staged_find(const char *image, char *const *environment, char copy[PATH_MAX])
{
    char place[PATH_MAX];
    struct stat status, found;

    if (!staging_place(environment, place) || stat(image, &status) < 0 || !S_ISREG(status.st_mode))
        return false;
    uint64_t changed = (uint64_t)status.st_ctim.tv_sec * 1000000000 + (uint64_t)status.st_ctim.tv_nsec;
    int length = snprintf(copy, PATH_MAX, "%s/%jx-%jx-%" PRIx64 "/%s", place, (uintmax_t)status.st_ino, (uintmax_t)status.st_size,
                          changed, path_last(image));
    return length > 0 && length < PATH_MAX && lstat(copy, &found) == 0 && S_ISREG(found.st_mode) && found.st_uid == getuid() &&
           found.st_size == status.st_size;
}
