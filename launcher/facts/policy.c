/* What the site allows of images, by what the kernel says of open files. Touches no privilege. */
#include "policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"

/* Names and ids of the host's own files: the administrator writes either. */
static bool id_matches(const char *file, const char *text, uint32_t id)
{
    char line[4096];
    unsigned long number;
    size_t length = strlen(text);
    bool found = false;

    if (text[strspn(text, "0123456789")] == '\0')
        return sscanf(text, "%lu", &number) == 1 && number == id;
    FILE *stream = fopen(file, "re");
    while (stream != NULL && !found && fgets(line, sizeof line, stream) != NULL) {
        char *rest = strchr(line, ':');
        found = rest != NULL && (size_t)(rest - line) == length && memcmp(line, text, length) == 0 &&
                (rest = strchr(rest + 1, ':')) != NULL && sscanf(rest, ":%lu", &number) == 1 && number == id;
    }
    if (stream != NULL)
        fclose(stream);
    return found;
}

bool policy_home(uid_t uid, const char *home)
{
    char line[4096], *rest, *fields[6];
    FILE *stream = fopen("/etc/passwd", "re");
    bool known = stream == NULL, same = false; /* what cannot be read names nobody's */

    while (stream != NULL && !known && fgets(rest = line, sizeof line, stream) != NULL) {
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
            fields[i] = strsep(&rest, ":");
        known = rest != NULL && strtoul(fields[2], NULL, 10) == uid && fields[2][strspn(fields[2], "0123456789")] == '\0';
        same = known && strcmp(fields[5], home) == 0;
    }
    if (stream != NULL)
        fclose(stream);
    return same || !known;
}

static bool id_listed(const char *file, const struct config_item *items, uint32_t count, uint32_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (id_matches(file, items[i].text, id))
            return true;
    return count == 0;
}

/* The directory that an open image is, or lies in; -1: it has been moved or removed since. */
static int directory_of(const struct image *image)
{
    char path[PATH_MAX];
    struct stat status;

    if (image->format == FORMAT_DIRECTORY)
        return openat(image->fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (!descriptor_path(image->fd, path, sizeof path))
        return -1;
    char *slash = strrchr(path, '/');
    *slash = '\0';
    OWNED_FD directory = host_open(slash > path ? path : "/", O_PATH | O_DIRECTORY);
    bool same = directory >= 0 && fstatat(directory, slash + 1, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                status.st_dev == image->device && status.st_ino == image->inode;
    return same ? fd_give(&directory) : -1;
}

/* Upwards by descriptor, in the mount namespace of the host: no name is looked up, and a directory is known by its identity. */
static bool lies_in(int start, const struct stat *limit)
{
    struct stat here = {0}, before;
    int at = start;

    do {
        before = here;
        if (fstat(at, &here) < 0 || (here.st_dev == limit->st_dev && here.st_ino == limit->st_ino))
            break;
        int above = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (at != start)
            close(at);
        at = above;
    } while (at >= 0 && (here.st_dev != before.st_dev || here.st_ino != before.st_ino));
    if (at >= 0 && at != start)
        close(at);
    return at >= 0 && here.st_dev == limit->st_dev && here.st_ino == limit->st_ino;
}

static bool path_listed(const struct config *config, const struct image *image)
{
    OWNED_FD directory = config->limit_container_paths_count > 0 ? directory_of(image) : -1;
    struct stat limit;

    for (uint32_t i = 0; i < config->limit_container_paths_count; i++)
        if (directory >= 0 && stat(config->limit_container_paths[i].text, &limit) == 0 && lies_in(directory, &limit))
            return true;
    return config->limit_container_paths_count == 0;
}

static bool format_allowed(const struct image *image, const struct config *config, struct error *error)
{
    static const char *const keys[] = {"dir", "squashfs", "extfs", "sif"};
    const bool allowed[] = {config->allow_container_dir, config->allow_container_squashfs,
                            config->allow_container_extfs, config->allow_container_sif};

    return allowed[image->format] ||
           error_set(error, 0, "images of this format are not allowed here (\"allow container %s = no\" in %s)",
                     keys[image->format], config->path);
}

bool policy_limited(const struct config *config)
{
    return config->limit_container_owners_count + config->limit_container_groups_count +
               config->limit_container_paths_count > 0;
}

bool policy_served(int fd)
{
    struct statfs status;

    return fstatfs(fd, &status) < 0 || status.f_type == FUSE_SUPER_MAGIC;
}

bool policy_image(const struct image *image, const struct config *config, bool enforced, struct error *error)
{
    if (!format_allowed(image, config, error))
        return false;
    if (!enforced || !policy_limited(config))
        return true;
    if (policy_served(image->fd))
        return error_set(error, 0, "the image lies in a FUSE file system, whose owners and paths are what its server says, and "
                         "images are limited here (\"limit container ...\" in %s): copy it to another place", config->path);
    if (!id_listed("/etc/passwd", config->limit_container_owners, config->limit_container_owners_count, image->owner))
        return error_set(error, 0, "the image belongs to uid %u, whose images are not allowed here "
                         "(\"limit container owners\" in %s)", (unsigned)image->owner, config->path);
    if (!id_listed("/etc/group", config->limit_container_groups, config->limit_container_groups_count, image->group))
        return error_set(error, 0, "the image belongs to gid %u, whose images are not allowed here "
                         "(\"limit container groups\" in %s)", (unsigned)image->group, config->path);
    return path_listed(config, image) ||
           error_set(error, 0, "images are not allowed in this place (\"limit container paths\" in %s)", config->path);
}

bool policy_real_root(void)
{
    char map[64];
    unsigned long inside, outside, count;
    OWNED_FD file = openat(proc_fd(), "self/uid_map", O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, map, sizeof map - 1) : -1;

    map[length > 0 ? length : 0] = '\0';
    return sscanf(map, "%lu %lu %lu", &inside, &outside, &count) == 3 && inside == 0 && outside == 0 && count == UINT32_MAX;
}

const char *policy_architecture(void)
{
    static const char *const names[][2] = {
        {"x86_64", "amd64"}, {"aarch64", "arm64"}, {"i686", "386"}, {"armv7l", "arm"}, {"ppc64le", "ppc64le"},
        {"ppc64", "ppc64"}, {"s390x", "s390x"}, {"riscv64", "riscv64"}, {"mips", "mips"}, {"mips64", "mips64"},
        {"loongarch64", "loong64"},
    };
    static struct utsname host;

    if (uname(&host) < 0)
        return "";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(host.machine, names[i][0]) == 0)
            return names[i][1];
    return "";
}

bool policy_architecture_runs(const char *architecture)
{
    static const char *const emulators[][2] = {{"arm64", "aarch64"}, {"amd64", "x86_64"}, {"386", "i386"}};
    const char *host = policy_architecture();
    const char *emulator = architecture;
    char path[128];

    if (*architecture == '\0' || strcmp(architecture, host) == 0 ||
        (strcmp(host, "amd64") == 0 && strcmp(architecture, "386") == 0))
        return true;
    for (size_t i = 0; i < sizeof emulators / sizeof emulators[0]; i++)
        if (strcmp(architecture, emulators[i][0]) == 0)
            emulator = emulators[i][1];
    snprintf(path, sizeof path, "/proc/sys/fs/binfmt_misc/qemu-%s", emulator);
    return access(path, F_OK) == 0;
}
