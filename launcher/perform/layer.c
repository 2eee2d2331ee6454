#include "perform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../descriptor.h"
#include "inside.h"

/* ---- directories of ours ---- */

static void session_make(const struct stage *stage, const char *path, bool directory)
{
    if (inside_make(stage->session.fd, path, directory, 0755) < 0 && errno != EEXIST)
        stop(errno, "make %s in the session directory (larger \"sessiondir max size\"?)", path);
}

static int session_open(const struct stage *stage, const char *path)
{
    int fd = inside_open(stage->session.fd, path, O_PATH);

    if (fd < 0)
        stop(errno, "session directory: %s", path);
    return fd;
}

static bool must_be_made(const struct step *step)
{
    return step->skipped == NULL && *step->target != '\0' && !step->facts.covered && !step->facts.target_found &&
           step->kind != STEP_LINK && step->facts.parent != NULL;
}

static bool shows_directory(const struct step *step)
{
    return step->kind == STEP_DIRECTORY || step->kind == STEP_PLACE || step->kind == STEP_FILESYSTEM || S_ISDIR(step->facts.source_type);
}

/* The missing mount points, below `base` of the session; for an underlay only those of one directory of the image. */
static void make_missing(const struct plan *plan, const struct stage *stage, const char *base, const char *parent)
{
    char path[2 * PATH_MAX];

    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        if (!must_be_made(step) || (parent != NULL && strcmp(parent, step->facts.parent) != 0))
            continue;
        int length = snprintf(path, sizeof path, "%s%s/%s", base, parent != NULL ? "" : step->facts.parent, step->facts.rest);
        if (length < 0 || length >= PATH_MAX)
            stop(ENAMETOOLONG, "mount point %s", step->target);
        session_make(stage, path, shows_directory(step));
    }
}

/* ---- overlay ---- */

/* A directory overlay keeps its files in upper/, made with work/ when it is new; a read-only one may be plain. */
static void overlay_directories(const struct stage *stage, uint32_t number, const char *source)
{
    char upper[48], work[48];

    snprintf(upper, sizeof upper, "part%u/upper", number);
    snprintf(work, sizeof work, "part%u/work", number);
    if ((inside_make(stage->session.fd, upper, true, 0755) < 0 && errno != EEXIST) ||
        (inside_make(stage->session.fd, work, true, 0755) < 0 && errno != EEXIST))
        stop(errno, "overlay %s: cannot be written (append :ro to use it read-only)", source);
    if (faccessat(stage->session.fd, upper, W_OK, 0) < 0 || faccessat(stage->session.fd, work, W_OK, 0) < 0)
        stop(errno, "overlay %s: its upper/ or work/ belongs to somebody else (use it as root, with --fakeroot or read-only)",
             source);
}

__attribute__((format(printf, 3, 4))) static void append(char *options, size_t size, const char *format, ...)
{
    size_t used = strlen(options);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(options + used, size - used, format, arguments);
    va_end(arguments);
}

static void overlay_options(const struct plan *plan, const struct stage *stage, char *options, size_t size)
{
    snprintf(options, size, "lowerdir=");
    for (uint32_t i = plan->part_count; i-- > 1;) {
        char upper[48];
        if ((int)i == plan->writable_part)
            continue;
        snprintf(upper, sizeof upper, "part%u/upper", i);
        OWNED_FD there = inside_open(stage->session.fd, upper, O_PATH | O_DIRECTORY);
        append(options, size, "part%u%s:", i, there >= 0 ? "/upper" : "");
    }
    append(options, size, "part0:layer");
    if (plan->writable_part == 0)
        append(options, size, ",upperdir=upper,workdir=work");
    if (plan->writable_part > 0) {
        append(options, size, ",upperdir=part%d/upper", plan->writable_part);
        append(options, size, ",workdir=part%d/work", plan->writable_part);
    }
    if (plan->writable_part >= 0 && plan->mode == MODE_USERNS && plan->layer == LAYER_OVERLAY)
        append(options, size, ",userxattr");
}

static bool overlay(const struct plan *plan, struct stage *stage)
{
    char options[64 * PLAN_PARTS];
    struct new_filesystem filesystem = {.type = "overlay", .source = "overlay", .options = options,
                                        .attributes = (plan->suid ? 0 : MOUNT_ATTR_NOSUID) | MOUNT_ATTR_NODEV,
                                        .privilege = PRIVILEGE_OVERLAY};

    session_make(stage, "root", true);
    session_make(stage, "layer", true);
    make_missing(plan, stage, "layer", NULL);
    if (plan->writable_part == 0) {
        session_make(stage, "upper", true);
        session_make(stage, "work", true);
    }
    if (plan->writable_part > 0)
        overlay_directories(stage, (uint32_t)plan->writable_part, plan->parts[plan->writable_part].source);
    else if (plan->writable_part < 0)
        filesystem.attributes |= MOUNT_ATTR_RDONLY;
    overlay_options(plan, stage, options, sizeof options);
    if (fchdir(stage->session.fd) < 0)
        stop(errno, "session directory");
    int tree = plan->layer == LAYER_OVERLAY_FUSE ? fuse_overlay(&stage->session, options)
                                                 : mount_new(&stage->session, &filesystem);
    if (tree < 0) {
        message_verbose("the kernel refused the overlay: %s", strerrordesc_np(errno));
        return false;
    }
    OWNED_FD place = session_open(stage, "root");
    if (mount_attach(tree, place) < 0)
        stop(errno, "attach the overlay");
    stage->root = tree;
    return true;
}

/* ---- underlay ---- */

/* One entry of a directory of the image, shown again in the directory that takes its place. */
static void show_again(const struct stage *stage, const char *base, int parent, int shown, const char *name)
{
    char path[PATH_MAX], text[PATH_MAX];
    struct stat status;
    OWNED_FD source = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (source < 0 || fstat(source, &status) < 0)
        return; /* the user cannot reach it: neither can the program */
    snprintf(path, sizeof path, "%s/%s", base, name);
    if (S_ISLNK(status.st_mode)) {
        ssize_t length = readlinkat(source, "", text, sizeof text - 1);
        text[length > 0 ? length : 0] = '\0';
        if (length <= 0 || symlinkat(text, stage->session.fd, path) < 0)
            stop(errno, "underlay: link %s", name);
        return;
    }
    session_make(stage, path, S_ISDIR(status.st_mode));
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

/* Returns the tree that now hides the directory of the image. */
static int underlay(const struct plan *plan, const struct stage *stage, const struct step *layer)
{
    struct stat status;
    OWNED_FD parent = inside_open(stage->root, layer->target, O_PATH | O_DIRECTORY);

    if (parent < 0 || fstat(parent, &status) < 0)
        stop(errno, "underlay of %s", layer->target);
    session_make(stage, layer->source, true);
    make_missing(plan, stage, layer->source, layer->target);
    OWNED_FD made = session_open(stage, layer->source);
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

/* Mount points of an image that is being written: made in it by the user, where a link of the image leads too, and before
 * anything of the host is shown there. What could not be made is told when its turn comes. */
static void make_in_image(const struct plan *plan, const struct stage *stage)
{
    char path[2 * PATH_MAX];

    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        if (must_be_made(step) && snprintf(path, sizeof path, "%s/%s", step->facts.parent, step->facts.rest) < PATH_MAX)
            (void)inside_make(stage->root, path, shows_directory(step), 0755);
    }
}

bool perform_layer(const struct plan *plan, struct stage *stage)
{
    message_debug("Layer: %s", plan->layer_reason);
    if (plan->image_writable)
        make_in_image(plan, stage);
    if (plan->layer == LAYER_OVERLAY || plan->layer == LAYER_OVERLAY_FUSE)
        return overlay(plan, stage);
    if (plan->layer == LAYER_UNDERLAY)
        underlay_all(plan, stage);
    return true;
}
