/* Looks at what the plan is to show and where: sources on the host, targets and account files in the image, as the user. */
#include "facts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"

enum { ENTRIES_LIMIT = 64 };

/* ---- sources, on the host ---- */

/* Remembers what a name stands for if root alone can make names in its directory, and in all above it: another file at that path
 * later is then a user's doing. */
static void find_named(struct step *step)
{
    char directory[PATH_MAX], real[PATH_MAX];
    const char *name = strrchr(step->source, '/') + 1;
    struct error error = {0};
    struct stat status;

    snprintf(directory, sizeof directory, "%.*s", (int)(name - step->source), step->source);
    OWNED_FD parent = host_open(directory, O_PATH | O_DIRECTORY);
    OWNED_FD known = parent >= 0 && descriptor_path(parent, real, sizeof real) ? config_open(real, &error) : -1;
    if (known < 0 || fstatat(known, name, &status, 0) < 0)
        return;
    step->facts.named_device = status.st_dev;
    step->facts.named_inode = status.st_ino;
}

void facts_named(struct plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].flags & STEP_ROOT_NAMED)
            find_named(&plan->steps[i]);
}

/* O_PATH: opening has no effect on what is opened, no device notices and no FIFO waits (open(2)). The name is
 * resolved here, with the user's rights, and never again for this mount (R-M2). */
static void survey_source(struct step *step)
{
    struct stat status;

    step->facts.source_fd = host_open(step->source, O_PATH);
    if (step->facts.source_fd < 0 || fstat(step->facts.source_fd, &status) < 0) {
        step->facts.source_error = errno;
        return;
    }
    if (((step->flags & STEP_ROOT_OWNED) && status.st_uid != 0) || ((step->flags & STEP_OWN) && status.st_uid != getuid()) ||
        ((step->flags & STEP_ROOT_NAMED) && (status.st_dev != step->facts.named_device || status.st_ino != step->facts.named_inode))) {
        step->facts.source_error = EPERM;
        return;
    }
    step->facts.source_type = status.st_mode & S_IFMT;
}

void facts_sources(struct plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].kind == STEP_BIND)
            survey_source(&plan->steps[i]);
}

/* ---- targets, in the image ---- */

/* Up to a limit, for the choice between overlay and underlay only; a directory that cannot be listed counts as full,
 * since an underlay could not show what is in it. */
static uint32_t count_entries(int root, const char *path)
{
    OWNED_FD fd = inside_open(root, path, O_RDONLY | O_DIRECTORY);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    uint32_t entries = 0;

    if (directory == NULL)
        return ENTRIES_LIMIT;
    fd = -1;
    while (entries < ENTRIES_LIMIT && readdir(directory) != NULL)
        entries++;
    closedir(directory);
    return entries > 2 ? entries - 2 : 0;
}

static void survey_target(struct plan *plan, uint32_t number, int root)
{
    struct step *step = &plan->steps[number];
    struct missing missing;
    struct stat status;

    if (*step->target == '\0' || step->kind == STEP_LINK || (step->kind == STEP_BIND && step->facts.source_type == 0))
        return;
    step->facts.covered = step_covered(plan, number);
    if (step->facts.covered)
        return;
    OWNED_FD target = inside_open(root, step->target, O_PATH);
    if (target >= 0 && fstat(target, &status) == 0) {
        step->facts.target_found = true;
        step->facts.target_type = status.st_mode & S_IFMT;
        if (step->flags & (STEP_PASSWD | STEP_GROUP)) /* opened before ours hide them, read when no privilege is left */
            step->facts.source_fd = open_small_file(root, step->target);
        return;
    }
    if ((step->flags & STEP_ONLY_IF_FILE) || !inside_missing(root, step->target, &missing))
        return;
    step->facts.parent = plan_text(plan, "%s", missing.parent);
    step->facts.rest = plan_text(plan, "%s", missing.rest);
    step->facts.parent_entries = count_entries(root, missing.parent);
}

/* ---- files of the image ---- */

/* O_NONBLOCK: a FIFO in the image would otherwise keep the launch waiting for a writer (fifo(7)). */
int open_small_file(int root, const char *path)
{
    struct stat status;
    OWNED_FD file = inside_open(root, path, O_RDONLY | O_NONBLOCK);

    return file >= 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size < SMALL_FILE ? fd_give(&file) : -1;
}

const char *read_small_file(int file, char text[SMALL_FILE])
{
    size_t used = 0;

    for (ssize_t size = 1; file >= 0 && size > 0 && used < SMALL_FILE - 1; used += size > 0 ? (size_t)size : 0)
        size = read(file, text + used, SMALL_FILE - 1 - used);
    text[used] = '\0';
    return text;
}

void facts_image(struct plan *plan, const struct plan_inputs *inputs, int root)
{
    facts_oci(plan, inputs, root); /* first: a WORKDIR is a target more, and a USER leaves the account files alone */
    facts_libraries(plan, inputs->request, inputs->caller, root);
    for (uint32_t i = 0; i < plan->step_count; i++)
        survey_target(plan, i, root);
}

/* The container is entered already: its root is this process's root. */
void facts_start(struct plan *plan, const struct plan_inputs *inputs)
{
    OWNED_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        stop(errno, "the container's root directory");
    facts_oci(plan, inputs, root);
}
