/* --read-only-home: by Landlock, nothing of the home directory is written, by whichever of its paths. Its mount is read-only as well,
 * for what Landlock has no right for; that alone would not do: root can change a mount, and there are other paths. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "../descriptor.h"
#include "../inside.h"
#include "landlock.h"

/* A mount, as /proc says it (proc_pid_mountinfo(5)): what of which file system is where. */
enum { MOUNTS = 2048, LINE = 3 * PATH_MAX, TEXTS = 1 << 20 };
struct mount {
    unsigned major, minor;
    const char *root, *point;
};
struct mounts {
    struct mount list[MOUNTS];
    uint32_t count;
    struct text_store store;
};

static bool keep(struct mounts *mounts, const struct mount *mount)
{
    if (mounts->count == MOUNTS)
        return false;
    struct mount *kept = &mounts->list[mounts->count++];
    *kept = *mount;
    kept->root = text_copy(&mounts->store, mount->root, strlen(mount->root));
    kept->point = text_copy(&mounts->store, mount->point, strlen(mount->point));
    return kept->root != NULL && kept->point != NULL;
}

/* All or none: a mount that is not seen here could be a way around. */
static void read_mounts(struct mounts *mounts, const struct request_entry *asked)
{
    static char line[LINE], root[PATH_MAX + 1], point[PATH_MAX + 1];
    OWNED_FD info = openat(proc_fd(), "self/mountinfo", O_RDONLY | O_CLOEXEC);
    FILE *stream = info >= 0 ? fdopen(fd_give(&info), "r") : NULL;
    struct mount mount = {.root = root, .point = point};
    bool understood = stream != NULL;

    while (understood && fgets(line, sizeof line, stream) != NULL) {
        understood = sscanf(line, "%*s %*s %u:%u %4096s %4096s", &mount.major, &mount.minor, root, point) == 4 && strchr(line, '\n') != NULL;
        mountinfo_unescape(root);
        mountinfo_unescape(point);
        understood = understood && keep(mounts, &mount);
    }
    if (stream != NULL)
        fclose(stream);
    if (!understood)
        stop(0, "%s: the mounts of the container cannot be told apart (more than %d?)", asked->second, MOUNTS);
}

/* The mount that shows a path: of those that lie above it the deepest, and of those at one point the last. */
static const struct mount *mount_of(const struct mounts *mounts, const char *path)
{
    const struct mount *found = NULL;

    for (const struct mount *mount = mounts->list; mount < mounts->list + mounts->count; mount++)
        if (path_beneath(path, mount->point) != NULL && (found == NULL || strlen(mount->point) >= strlen(found->point)))
            found = mount;
    return found;
}

static bool join(char path[PATH_MAX], const char *above, const char *rest)
{
    int length = snprintf(path, PATH_MAX, "%s%s", strcmp(above, "/") == 0 ? "" : above, rest);

    if (length == 0)
        memcpy(path, "/", sizeof "/");
    return length >= 0 && length < PATH_MAX;
}

/* A directory of the host may be seen in several places: by itself, in a mount of what is above it, and in parts. The same file system
 * and a path in it say so. */
static bool add_all(struct places *places, const struct mounts *mounts, const char *path)
{
    char inner[PATH_MAX], other[PATH_MAX];
    const struct mount *shown = mount_of(mounts, path);
    bool added = places_add(places, path);

    if (shown == NULL || !join(inner, shown->root, path_beneath(path, shown->point)))
        return false;
    for (const struct mount *mount = mounts->list; added && mount < mounts->list + mounts->count; mount++) {
        const char *rest = path_beneath(inner, mount->root);
        if (mount->major != shown->major || mount->minor != shown->minor)
            continue;
        if (rest != NULL)
            added = join(other, mount->point, rest) && places_add(places, other);
        else if (path_beneath(mount->root, inner) != NULL)
            added = places_add(places, mount->point);
    }
    return added;
}

/* A home directory that is not there cannot be written either. */
static void protect(struct places *places, const struct mounts *mounts, const char *home, const struct request_entry *asked)
{
    char path[PATH_MAX];
    OWNED_FD fd = home != NULL && *home != '\0' ? host_open(home, O_PATH | O_DIRECTORY) : -1;

    if (fd < 0 && (home == NULL || *home == '\0' || errno == ENOENT || errno == ENOTDIR))
        return;
    if (fd < 0 || !descriptor_path(fd, path, sizeof path))
        stop(errno, "%s: %s", asked->second, home);
    if (!add_all(places, mounts, path))
        stop(0, "%s: %s is seen in too many places", asked->second, home);
}

/* Where the container has it, and where the host does: the latter may be bound, too. */
void restrict_home(const struct request *request, const struct request_entry *asked)
{
    static char texts[2][TEXTS];
    static struct mounts mounts = {.store = {texts[0], TEXTS}};
    static struct places places = {.store = {texts[1], TEXTS}};

    (void)landlock_version(asked, LANDLOCK_TRUNCATES, "what shortens files by their names");
    read_mounts(&mounts, asked);
    protect(&places, &mounts, request->home, asked);
    protect(&places, &mounts, request->account_home, asked);
    struct ruleset rules = landlock_begin(asked, LANDLOCK_WRITES);
    landlock_allow_others(&rules, &places, LANDLOCK_WRITES);
    landlock_end(&rules);
}
