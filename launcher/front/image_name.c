/* What the word for the image names: a path, or something that Python makes a path of first. */
#include "front.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* RFC 3986: a letter, then letters, digits, "+", "-" and "." The colon must follow, so that a file with such letters
 * in its name is a file. */
static size_t scheme_length(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    return *name >= 'A' && name[length] == ':' ? length : 0;
}

/* docker:// and other schemes, and the names that containers-transports(5) writes with a colon alone
 * ("oci:directory"). */
static bool is_reference(const char *name)
{
    static const char *const bare[] = {"docker", "docker-daemon", "docker-archive", "oci", "oci-archive", "oras", "library",
                                       "shub", "doi"};
    size_t length = scheme_length(name);

    if (length > 0 && strncmp(name + length, "://", 3) == 0)
        return true;
    for (size_t i = 0; i < sizeof bare / sizeof bare[0]; i++)
        if (strlen(bare[i]) == length && strncmp(name, bare[i], length) == 0)
            return true;
    return false;
}

/* By name, because opening it is Python's business, and the first tar archives have no magic number; only a regular
 * file, since a directory or image may bear any name. */
static bool named_as_archive(const char *name)
{
    static const char *const suffixes[] = {".tar",     ".tar.gz", ".tgz",     ".tar.bz",  ".tbz",  ".tar.bz2", ".tbz2",
                                           ".tar.xz",  ".txz",    ".tar.zst", ".tzst",    ".cpio", ".cpio.gz", ".cpioz",
                                           ".vnfs"};
    size_t length = strlen(name);

    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t size = strlen(suffixes[i]);
        if (length > size && strcmp(name + length - size, suffixes[i]) == 0)
            return true;
    }
    return false;
}

bool image_name_resolved_elsewhere(const char *name)
{
    struct stat status;

    if (is_reference(name))
        return true;
    return named_as_archive(name) && stat(name, &status) == 0 && S_ISREG(status.st_mode);
}

/* Whatever is there counts, and what cannot be looked at may be there: the answer is for a message alone. */
static bool holds(const char *directory, const char *name)
{
    char path[PATH_MAX];
    struct stat status;
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);

    return length < 0 || (size_t)length >= sizeof path || lstat(path, &status) == 0 || errno != ENOENT;
}

/* What any root file system, or an image of version 2, has in its first level. A directory without any of that is a
 * word in the wrong place ("exec /data image.sif"). */
bool image_name_mistaken(const char *directory, const char *program)
{
    static const char *const names[] = {".singularity.d", "bin", "usr", "etc", "sbin", "lib", "lib64", "nix", "sw", "singularity",
                                        ".run", ".exec", ".shell", ".test"};
    struct stat status;

    if (stat(directory, &status) < 0 || !S_ISDIR(status.st_mode))
        return false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (holds(directory, names[i]))
            return false;
    return program == NULL || *program != '/' || !holds(directory, program);
}

/* A PWD with "." or ".." would be no canonical name: POSIX has shells ignore it as well (sh, PWD). */
static bool clean(const char *path)
{
    if (path == NULL || path[0] != '/' || strlen(path) >= PATH_MAX)
        return false;
    for (const char *slash = path; slash != NULL; slash = strchr(slash + 1, '/'))
        if (slash[1] == '.' && (slash[2] == '/' || slash[2] == '\0' ||
                                (slash[2] == '.' && (slash[3] == '/' || slash[3] == '\0'))))
            return false;
    return true;
}

/* A directory without links has been removed: its name may be another's by now. */
const char *current_directory(const char *named, char path[PATH_MAX])
{
    struct stat here, there;

    if (clean(named) && stat(".", &here) == 0 && stat(named, &there) == 0 && here.st_dev == there.st_dev &&
        here.st_ino == there.st_ino && here.st_nlink > 0)
        return named;
    return getcwd(path, PATH_MAX) != NULL && path[0] == '/' ? path : NULL;
}
