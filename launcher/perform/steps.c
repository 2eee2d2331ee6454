/* The steps of a plan, one by one; any failure ends the launch. Raises privilege for mounts alone, in mount.c. */
#include "perform.h"

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

static uint64_t attributes_of(const struct step *step)
{
    return (step->flags & STEP_SUID ? 0 : MOUNT_ATTR_NOSUID) | (step->flags & STEP_NODEV ? MOUNT_ATTR_NODEV : 0) |
           (step->flags & STEP_NOEXEC ? MOUNT_ATTR_NOEXEC : 0) | (step->flags & STEP_READONLY ? MOUNT_ATTR_RDONLY : 0);
}

/* EMFILE and ENFILE always end the launch: they say nothing of the mount, and the next ones would be lost just as
 * silently. */
static void lost(const struct step *step, int number)
{
    const char *what = step->kind == STEP_BIND ? step->source : step->target;

    if (step->missing_target == LOSS_STOP || number == EMFILE || number == ENFILE)
        stop(number, "%s cannot be mounted on %s in the container (%s)", what, step->target, step->reason);
    message_at(step->missing_target == LOSS_WARN ? LEVEL_WARNING : LEVEL_VERBOSE, __FILE__, __LINE__, __func__,
               "%s is not mounted on %s: %s (%s)", what, step->target, step_loss(number), step->reason);
}

/* By device and inode (inode(7)): names and bind mounts may lie. */
static bool same_file(int one, int other)
{
    struct stat a, b;

    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The mount point. One that lies in what an earlier step has mounted, by its name and not through a link of the image,
 * is made now, by the user and with his rights. */
static int open_target(const struct stage *stage, const struct step *step, bool directory)
{
    struct stat status;
    OWNED_FD fd = inside_open(stage->root, step->target, O_PATH);

    if (fd < 0 && errno == ENOENT && step->facts.covered &&
        inside_make(stage->root, step->target, directory, 0755) == 0)
        fd = inside_open(stage->root, step->target, O_PATH);
    if (fd < 0 && errno == EEXIST)
        errno = ENOENT; /* a dangling link is in the way: its target is what is missing */
    if (fd < 0 || fstat(fd, &status) < 0)
        return -1;
    errno = status.st_dev == stage->root_status.st_dev && status.st_ino == stage->root_status.st_ino ? EBUSY
            : S_ISDIR(status.st_mode) == directory ? 0 : directory ? ENOTDIR : EISDIR;
    return errno == 0 ? fd_give(&fd) : -1; /* EBUSY: a mount on the root itself would hide the whole container */
}

/* Shows an open file or directory, or a copy of its mounts, at the step's target. The tree is restricted before it is
 * attached, never after: in between a setuid file in it would count (R-M1). */
static void show(const struct stage *stage, const struct step *step, int source, bool directory)
{
    OWNED_FD target = open_target(stage, step, directory);

    if (target < 0) {
        lost(step, errno);
        return;
    }
    if ((step->flags & STEP_UNLESS_SAME) && same_file(source, target))
        return;
    OWNED_FD tree = step->facts.copied ? source : mount_clone(&stage->session, source, directory);
    if (tree < 0 || mount_restrict(tree, attributes_of(step)) < 0)
        stop(errno, "mount %s (%s)", step->source, step->reason);
    if (mount_attach(tree, target) < 0)
        stop(errno, "mount %s on %s (%s)", step->source, step->target, step->reason);
    message_verbose("Binding '%s' to '%s' (%s)", step->source, step->target, step->reason);
}

static void perform_bind(const struct stage *stage, struct step *step)
{
    show(stage, step, step->facts.source_fd, S_ISDIR(step->facts.source_type));
}

static void perform_made_directory(const struct stage *stage, struct step *step)
{
    OWNED_FD made = session_entry(&stage->session, step->source, true, O_RDONLY | O_DIRECTORY);

    if ((step->flags & STEP_STICKY) && fchmod(made, 01777) < 0)
        stop(errno, "session directory: %s", step->source);
    if (*step->target != '\0')
        show(stage, step, made, true);
}

/* 0644 whatever the umask is: it holds what any user of the container may read, and is shown read-only. */
static void perform_file(const struct stage *stage, struct step *step)
{
    OWNED_FD made = openat(stage->session.fd, step->source, O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0644);

    if (made < 0 || fchmod(made, 0644) < 0 || (step->content != NULL && !fd_write(made, step->content, strlen(step->content))))
        stop(errno, "write %s for the container (larger \"sessiondir max size\"?)", step->target);
    show(stage, step, made, false);
    if (step->content == NULL) /* perform_accounts() writes it, without any privilege */
        step->facts.made_fd = fd_give(&made);
}

static void perform_filesystem(const struct stage *stage, struct step *step)
{
    struct new_filesystem filesystem = {.type = step->source, .source = step->source, .options = step->content,
                                        .attributes = attributes_of(step), .privilege = PRIVILEGE_ROOT};
    OWNED_FD target = open_target(stage, step, true);
    OWNED_FD tree = target >= 0 ? mount_new(&stage->session, &filesystem) : -1;

    if (tree < 0) { /* no place for it, or a sandbox around us forbids new kernel file systems */
        lost(step, errno);
        return;
    }
    if (mount_attach(tree, target) < 0)
        stop(errno, "mount %s on %s (%s)", step->source, step->target, step->reason);
    message_verbose("Mounting %s on '%s' (%s)", step->source, step->target, step->reason);
}

static void perform_link(const struct stage *stage, struct step *step)
{
    const char *name;
    OWNED_FD parent = inside_parent(stage->root, step->target, &name);

    if (parent < 0 || (symlinkat(step->source, parent, name) < 0 && errno != EEXIST))
        lost(step, errno);
}

/* A directory that the layer has, or that is made in what an earlier step has mounted. */
static void perform_place(const struct stage *stage, struct step *step)
{
    OWNED_FD target = open_target(stage, step, true);

    if (target < 0)
        lost(step, errno);
}

void perform_steps(struct plan *plan, struct stage *stage)
{
    static void (*const performers[])(const struct stage *, struct step *) = {
        [STEP_BIND] = perform_bind,           [STEP_DIRECTORY] = perform_made_directory, [STEP_FILE] = perform_file,
        [STEP_FILESYSTEM] = perform_filesystem, [STEP_LINK] = perform_link, [STEP_PLACE] = perform_place,
    };

    if (fstat(stage->root, &stage->root_status) < 0)
        stop(errno, "the container's root directory");
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].skipped == NULL)
            performers[plan->steps[i].kind](stage, &plan->steps[i]);
}

/* ---- account files ---- */

void perform_accounts(struct plan *plan, const struct plan_inputs *inputs)
{
    static char text[SMALL_FILE]; /* too large for a stack that may be limited */

    for (uint32_t i = 0; i < plan->step_count; i++) {
        struct step *step = &plan->steps[i];
        if (step->facts.made_fd < 0)
            continue;
        const char *own = read_small_file(step->facts.source_fd, text);
        const char *content = step->flags & STEP_PASSWD ? plan_passwd(plan, inputs, own) : plan_group(plan, inputs, own);
        if (!fd_write(step->facts.made_fd, content, strlen(content)))
            stop(errno, "write %s for the container (larger \"sessiondir max size\"?)", step->target);
        fd_close(&step->facts.source_fd);
        fd_close(&step->facts.made_fd);
    }
}

/* ---- where the program starts ---- */

/* Resolved from the new root, without magic links of /proc: CVE-2024-21626 was a working directory /proc/self/fd/N that led out to
 * the host. getcwd(2) is asked afterwards, since it knows of a directory that is not below the root. */
static bool enter(const char *path)
{
    char here[PATH_MAX];
    OWNED_FD directory = host_open(path, O_PATH | O_DIRECTORY);

    if (directory < 0 || fchdir(directory) < 0)
        return false;
    if (syscall(SYS_getcwd, here, sizeof here) > 0 && here[0] != '/') /* the kernel writes "(unreachable)" before it */
        stop(0, "the working directory %s is not in the container", path);
    return true;
}

void perform_directory(const struct plan *plan)
{
    if (enter(plan->directory))
        return;
    if (plan->directory_asked != NULL)
        stop(errno, "the working directory %s cannot be entered in the container (%s)", plan->directory, plan->directory_asked);
    int number = errno;
    const char *second = enter(plan->home) ? plan->home : "/"; /* pivoting has left us there */
    if (plan->directory_reason != NULL)
        message_warning("%s (%s) cannot be entered: %s, starting in %s", plan->directory, plan->directory_reason,
                        errno_words(number), second);
    else
        message_warning("the current directory is not in the container, starting in %s", second);
}
