/* --allow-paths: by Landlock, a program reads and writes what is named, and reads the image; nothing else of the container. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "../descriptor.h"
#include "../inside.h"
#include "landlock.h"

enum { TEXTS = 1 << 20 };

/* What the launcher mounts so that programs find their names and servers; all else that is mounted is the user's to name. */
static bool everyday(const char *target)
{
    static const char *const files[] = {"/etc/passwd", "/etc/group", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/etc/localtime"};

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (strcmp(target, files[i]) == 0)
            return true;
    return false;
}

/* The places where something else than the image is, and of that what is allowed all the same. What cannot be reached has not been
 * mounted, or is out of the user's reach. */
static void allow_image(const struct request *request, const struct ruleset *rules)
{
    static char texts[TEXTS], path[PATH_MAX];
    static struct places mounted = {.store = {texts, TEXTS}};

    for (uint32_t i = 0; i < request->mounted_count; i++) {
        const char *target = request->mounted[i].first;
        OWNED_FD fd = request->mounted[i].number == 0 ? host_open(target, O_PATH) : -1;
        if (fd < 0 || !descriptor_path(fd, path, sizeof path))
            continue;
        if (!places_add(&mounted, path))
            stop(0, "%s: too many mounts", rules->asked->second);
        if (everyday(target))
            landlock_allow(rules, fd, LANDLOCK_READ_FILE);
        else if (path_beneath(target, LIBRARIES_INSIDE) != NULL)
            landlock_allow(rules, fd, LANDLOCK_READS | LANDLOCK_EXECUTE);
    }
    landlock_allow_others(rules, &mounted, LANDLOCK_READS | LANDLOCK_EXECUTE);
}

/* In the container, from the way there that a user would take. */
static void allow_named(const struct ruleset *rules, const char *path, uint64_t rights)
{
    OWNED_FD fd = host_open(path, O_PATH);

    if (fd >= 0)
        landlock_allow(rules, fd, rights);
}

/* Processes see themselves, and terminals and the devices that hold nothing; libraries of GPUs come with their devices. What a standard
 * stream leads to may be opened again by its name in /dev or /proc, as scripts do. */
static void allow_kernel(const struct request *request, const struct ruleset *rules)
{
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
    const uint64_t device = LANDLOCK_READ_FILE | LANDLOCK_WRITE_FILE | LANDLOCK_TRUNCATE | LANDLOCK_IOCTL;

    allow_named(rules, "/proc", LANDLOCK_READS);
    allow_named(rules, "/sys", LANDLOCK_READS);
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++)
        allow_named(rules, devices[i], device);
    for (uint32_t i = 0; i < request->library_count; i++)
        allow_named(rules, request->library[i].second,
                    path_beneath(request->library[i].second, "/dev") != NULL ? device : LANDLOCK_READS | LANDLOCK_EXECUTE);
    for (int stream = 0; stream < 3; stream++) {
        int way = fcntl(stream, F_GETFL) & O_ACCMODE;
        landlock_allow(rules, stream, (way != O_WRONLY ? LANDLOCK_READ_FILE : 0) | (way != O_RDONLY ? LANDLOCK_WRITE_FILE | LANDLOCK_TRUNCATE : 0));
    }
}

void restrict_paths(const struct request *request, const struct request_entry *asked)
{
    int version = landlock_version(asked, LANDLOCK_TRUNCATES, "what shortens files by their names");
    uint64_t all = LANDLOCK_READS | LANDLOCK_EXECUTE | LANDLOCK_WRITES | (version >= LANDLOCK_DEVICES ? LANDLOCK_IOCTL : 0);
    struct ruleset rules = landlock_begin(asked, all);

    for (uint32_t i = 0; i < request->restriction_count; i++) {
        const struct request_entry *entry = &request->restriction[i];
        uint64_t kind = entry->number & RESTRICTION_KIND;
        if (kind != RESTRICTION_PATH && kind != RESTRICTION_PATH_READ)
            continue;
        OWNED_FD fd = host_open(entry->first, O_PATH);
        if (fd < 0)
            stop(errno, "%s %s: in the container", entry->second, entry->first);
        landlock_allow(&rules, fd, kind == RESTRICTION_PATH ? all : LANDLOCK_READS | LANDLOCK_EXECUTE);
    }
    allow_image(request, &rules);
    allow_kernel(request, &rules);
    landlock_end(&rules);
}
