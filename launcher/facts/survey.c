/* Looks at what the plan is to show and where, as the user; raises privilege only to copy the mounts of a directory. */
#include "../perform/perform.h"

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

/* Directories of --workdir: made by the user, in his own directory, with his rights. */
static void make_source(const struct step *step)
{
    mode_t mode = step->flags & STEP_STICKY ? 01777 : 0755;
    OWNED_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root >= 0 && inside_make(root, step->source, true, mode) == 0) {
        OWNED_FD made = inside_open(root, step->source, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (made >= 0 && (step->flags & STEP_STICKY))
            (void)fchmod(made, mode);
    }
}

/* Who makes names in a directory of root's alone is root, and so is who says what they stand for. */
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

void survey_first(struct plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].flags & STEP_MAKE_SOURCE)
            make_source(&plan->steps[i]);
        if (plan->steps[i].flags & STEP_ROOT_NAMED)
            find_named(&plan->steps[i]);
    }
}

static void survey_source(struct step *step, const struct session *session)
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
    int tree = S_ISDIR(status.st_mode) && !session->staged ? mount_clone(session, step->facts.source_fd, true) : -1;
    step->facts.copied = tree >= 0;
    if (tree >= 0) {
        close(step->facts.source_fd);
        step->facts.source_fd = tree;
    }
}

void survey_sources(struct plan *plan, const struct session *session)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].kind == STEP_BIND)
            survey_source(&plan->steps[i], session);
}

/* ---- targets, in the image ---- */

static bool lies_in(const char *path, const char *directory)
{
    size_t length = strlen(directory);

    while (length > 0 && directory[length - 1] == '/')
        length--;
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* What an earlier step mounts is looked at when it is there, not now. */
static bool covered(const struct plan *plan, uint32_t number)
{
    const char *target = plan->steps[number].target;

    for (uint32_t i = 0; i < number; i++) {
        const struct step *before = &plan->steps[i];
        bool absent = (before->flags & STEP_ONLY_IF_FILE) && !before->facts.target_found && !before->facts.covered;
        bool missing = before->skipped != NULL || absent || (before->kind == STEP_BIND && before->facts.source_type == 0);
        if (*before->target != '\0' && before->kind != STEP_LINK && !missing && lies_in(target, before->target))
            return true;
    }
    return false;
}

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
    step->facts.covered = covered(plan, number);
    if (step->facts.covered)
        return;
    OWNED_FD target = inside_open(root, step->target, O_PATH);
    if (target >= 0 && fstat(target, &status) == 0) {
        step->facts.target_found = true;
        step->facts.target_type = status.st_mode & S_IFMT;
        return;
    }
    if ((step->flags & STEP_ONLY_IF_FILE) || !inside_missing(root, step->target, &missing))
        return;
    step->facts.parent = plan_text(plan, "%s", missing.parent);
    step->facts.rest = plan_text(plan, "%s", missing.rest);
    step->facts.parent_entries = count_entries(root, missing.parent);
}

/* ---- files of the image ---- */

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

static void survey_accounts(struct plan *plan, int root)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        struct step *step = &plan->steps[i];
        if (!(step->flags & (STEP_PASSWD | STEP_GROUP)) || step->skipped != NULL)
            continue;
        if (step->facts.covered)
            step->skipped = "another mount shows its own";
        else if (!step->facts.target_found)
            step->skipped = "not in the image";
        else if ((step->facts.source_fd = open_small_file(root, step->target)) < 0)
            step->skipped = "the image's file cannot be read";
    }
}

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

void survey(struct plan *plan, const struct plan_inputs *inputs, const struct stage *stage)
{
    survey_oci(plan, inputs, stage->parts[0]);
    survey_libraries(plan, inputs->request, inputs->caller, stage->parts[0]);
    for (uint32_t i = 0; i < plan->step_count; i++)
        survey_target(plan, i, stage->parts[0]);
    survey_accounts(plan, stage->parts[0]);
}

void survey_start(struct plan *plan, const struct plan_inputs *inputs)
{
    OWNED_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        stop(errno, "the container's root directory");
    survey_oci(plan, inputs, root);
}
