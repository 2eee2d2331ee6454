/* The image's root directory with what is laid over it: an overlay of the kernel's, of fuse-overlayfs, or an underlay. */
#include "perform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"

/* The missing mount points, below `base` of a directory: of the session, or of an image that is being written, where a link
 * of the image may lead to them; what cannot be made there is told when its turn comes. For an underlay only those of one
 * directory of the image. */
static void make_missing(const struct plan *plan, int root, const char *base, const char *parent)
{
    char path[2 * PATH_MAX];

    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        if (!step_must_be_made(step) || (parent != NULL && strcmp(parent, step->facts.parent) != 0))
            continue;
        int length = snprintf(path, sizeof path, "%s%s/%s", base, parent != NULL ? "" : step->facts.parent, step->facts.rest);
        if (length < 0 || length >= PATH_MAX)
            stop(ENAMETOOLONG, "mount point %s", step->target);
        if (inside_make(root, path, step_is_directory(step), 0755) < 0 && errno != EEXIST && *base != '\0')
            stop(errno, "make %s in the session directory (larger \"sessiondir max size\"?)", path);
    }
}

/* ---- overlay ---- */

/* The layers of an overlay: each a directory opened beneath the root of its own part, and no link, since whoever made an
 * overlay could otherwise choose a directory of the host for what the container writes. */
struct layers {
    const char *keys[FUSE_LAYERS];
    int directories[FUSE_LAYERS];
    int count;
};

/* fstat(2) first: the kernel copies a layer's mode when it mounts the overlay, and of a FUSE file system's root it has none before
 * somebody has asked the server. */
static void layer_add(struct layers *layers, const char *key, int directory)
{
    struct stat status;

    if (fstat(directory, &status) < 0)
        stop(errno, "a layer of the overlay");
    layers->keys[layers->count] = key;
    layers->directories[layers->count++] = directory;
}

/* "lowerdir=/proc/self/fd/5:/proc/self/fd/6,upperdir=..."; numbered from `first` on where a server has them there. */
static void layers_text(const struct layers *layers, int first, char *text, size_t size)
{
    for (int i = 0; i < layers->count; i++) {
        bool more = i > 0 && strcmp(layers->keys[i], layers->keys[i - 1]) == 0;
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s%s" MOUNT_DESCRIPTOR "%d", more ? ":" : *text != '\0' ? "," : "",
                 more ? "" : layers->keys[i], more ? "" : "=", first >= 0 ? first + i : layers->directories[i]);
    }
}

/* A directory of a writable part, made by the user where it is new. upper and work in the same part, since overlayfs
 * needs both on one file system (Documentation/filesystems/overlayfs.rst). Asked for the right to write now: the
 * kernel would mount an overlay with a foreign upper read-only and tell the kernel's log alone. */
static int layer_made(const struct plan *plan, int part, const char *name)
{
    const char *source = plan->parts[plan->writable_part].source;

    if (mkdirat(part, name, 0755) < 0 && errno != EEXIST)
        stop(errno, "overlay %s: cannot be written (append :ro to use it read-only)", source);
    int directory = directory_beneath(part, name);
    if (directory < 0)
        stop(errno, "overlay %s: its %s is no directory", source, name);
    if (faccessat(directory, ".", W_OK, 0) < 0)
        stop(errno, "overlay %s: its %s belongs to somebody else (%s)", source, name, plan->foreign_hint);
    return directory;
}

/* A read-only overlay may keep its files in upper/, as a writable one does, or be plain. */
static int layer_read(const struct stage *stage, const struct plan *plan, uint32_t number)
{
    int upper = directory_beneath(stage->parts[number], "upper");

    if (upper < 0 && errno != ENOENT)
        stop(errno, "overlay %s: its upper is no directory", plan->parts[number].source);
    return upper >= 0 ? upper : stage->parts[number];
}

/* Order is meaning: of `lowerdir` entries the first is topmost. So the overlay named first on the command line comes
 * first, the image after all of them, and last the session's directory with the missing mount points, which must not
 * hide anything. */
static void layers_collect(const struct plan *plan, const struct stage *stage, struct layers *layers)
{
    static const char *const writable[][2] = {{"upperdir", "upper"}, {"workdir", "work"}};
    int part = plan->writable_part;

    for (uint32_t i = plan->part_count; i-- > 1;)
        if ((int)i != part)
            layer_add(layers, "lowerdir", layer_read(stage, plan, i));
    layer_add(layers, "lowerdir", stage->parts[0]);
    layer_add(layers, "lowerdir", session_entry(&stage->session, "layer", true, O_PATH));
    for (size_t i = 0; i < 2 && part >= 0; i++)
        layer_add(layers, writable[i][0], part > 0 ? layer_made(plan, stage->parts[part], writable[i][1])
                                                   : session_entry(&stage->session, writable[i][1], true, O_PATH));
}

/* Returns 0, or the errno with which the kernel refuses: a file system without d_type or extended attributes, users
 * before Linux 5.11, layers within each other. `userxattr` (Linux 5.11) in a user namespace: overlayfs keeps its
 * marks (opaque directories) in user.* attributes then, since trusted.* ones need CAP_SYS_ADMIN on the host
 * (overlayfs.rst). Mounted with PRIVILEGE_OVERLAY because the kernel checks layers with the rights of who mounts for
 * as long as it is mounted; see R-M12 for what that excludes, and R-M13 for copied up files (CVE-2023-0386: setuid
 * files out of a nosuid layer). */
static int overlay(const struct plan *plan, struct stage *stage)
{
    struct layers layers = {.count = 0};
    bool served = plan->layer == LAYER_OVERLAY_FUSE, writable = plan->writable_part >= 0;
    char options[32 * FUSE_LAYERS] = "";
    struct new_filesystem filesystem = {.type = "overlay", .source = "overlay", .options = options,
                                        .attributes = (plan->suid ? 0 : MOUNT_ATTR_NOSUID) | MOUNT_ATTR_NODEV |
                                                      (writable ? 0 : MOUNT_ATTR_RDONLY),
                                        .privilege = PRIVILEGE_OVERLAY};

    layers_collect(plan, stage, &layers);
    make_missing(plan, stage->session.fd, "layer", NULL);
    if (served || ((writable || plan->part_count > 1) && plan->mode == MODE_USERNS))
        snprintf(options, sizeof options, served ? "noacl" : "userxattr"); /* images made by mke2fs keep no ACLs */
    layers_text(&layers, served ? FUSE_LAYERS_FIRST : -1, options, sizeof options);
    int tree = served ? fuse_overlay(&stage->session, options, layers.directories, layers.count)
                      : mount_new(&stage->session, &filesystem);
    if (tree < 0)
        return errno;
    OWNED_FD place = session_entry(&stage->session, "root", true, O_PATH);
    if (mount_attach(tree, place) < 0)
        stop(errno, "attach the overlay");
    stage->root = tree;
    return 0;
}

/* ---- underlay ---- */

/* One entry of a directory of the image, shown again in the directory that takes its place. AT_RECURSIVE for
 * directories: file systems that are mounted below an entry are to be seen again too, and in a user namespace the
 * kernel refuses to part mounts that came as one tree (mount_namespaces(7)). A link is made anew as text: nothing can
 * be mounted on a link itself. */
static void show_again(const struct stage *stage, const char *base, int parent, int shown, const char *name)
{
    char path[PATH_MAX], text[PATH_MAX];
    struct stat status;
    OWNED_FD source = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (source < 0 || fstat(source, &status) < 0)
        return; /* the user has no right to it, and neither has his program */
    snprintf(path, sizeof path, "%s/%s", base, name);
    if (S_ISLNK(status.st_mode)) {
        ssize_t length = readlinkat(source, "", text, sizeof text - 1);
        text[length > 0 ? length : 0] = '\0';
        if (length <= 0 || symlinkat(text, stage->session.fd, path) < 0)
            stop(errno, "underlay: link %s", name);
        return;
    }
    OWNED_FD made = session_entry(&stage->session, path, S_ISDIR(status.st_mode), O_PATH);
    OWNED_FD target = openat(shown, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    OWNED_FD tree = mount_clone(&stage->session, source, S_ISDIR(status.st_mode));
    if (target < 0 || tree < 0 || mount_attach(tree, target) < 0)
        stop(errno, "underlay: %s", name);
}

static void show_all_again(const struct stage *stage, const char *base, int parent, int shown)
{
    OWNED_FD listed = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = listed >= 0 ? fdopendir(listed) : NULL;
    struct dirent *entry;

    if (directory == NULL)
        return;
    while ((entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            show_again(stage, base, parent, shown, entry->d_name);
    listed = -1;
    closedir(directory);
}

/* Returns the tree that now hides the directory of the image. Mode of the image's directory, without setuid, setgid
 * and sticky bits, and always enterable by its owner, the user. */
static int underlay(const struct plan *plan, const struct stage *stage, const struct step *layer)
{
    struct stat status;
    OWNED_FD parent = inside_open(stage->root, layer->target, O_PATH | O_DIRECTORY);

    if (parent < 0 || fstat(parent, &status) < 0)
        stop(errno, "underlay of %s", layer->target);
    OWNED_FD made = session_entry(&stage->session, layer->source, true, O_PATH);
    make_missing(plan, stage->session.fd, layer->source, layer->target);
    OWNED_FD changed = openat(made, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (changed < 0 || fchmod(changed, (status.st_mode & 0777) | 0500) < 0)
        stop(errno, "underlay of %s", layer->target);
    int tree = mount_clone(&stage->session, made, true);
    if (tree < 0 || mount_attach(tree, parent) < 0)
        stop(errno, "underlay of %s", layer->target);
    if (layer->facts.parent_entries > 0)
        show_all_again(stage, layer->source, parent, tree);
    return tree;
}

static void underlay_all(const struct plan *plan, struct stage *stage)
{
    for (uint32_t i = 0; i < plan->layer_count; i++) {
        OWNED_FD tree = underlay(plan, stage, &plan->layers[i]);
        if (strcmp(plan->layers[i].target, "/") == 0)
            stage->root = fd_give(&tree);
    }
}

int perform_layer(const struct plan *plan, struct stage *stage)
{
    bool overlaid = plan->layer == LAYER_OVERLAY || plan->layer == LAYER_OVERLAY_FUSE;

    message_debug("Layer: %s", plan->layer_reason);
    if (plan->image_writable)
        make_missing(plan, stage->root, "", NULL);
    int refused = overlaid ? overlay(plan, stage) : 0;
    if (refused != 0)
        message_verbose("the kernel refused the overlay: %s", errno_words(refused));
    if (refused != 0 && !plan->second_possible)
        return refused;
    if ((refused != 0 ? plan->second : plan->layer) == LAYER_UNDERLAY)
        underlay_all(plan, stage);
    return 0;
}
