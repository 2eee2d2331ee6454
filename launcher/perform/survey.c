#include "perform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../privilege.h"
#include "inside.h"

enum { ENTRIES_LIMIT = 64, SMALL_LIMIT = 256 * 1024 };

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

static void survey_source(struct step *step)
{
    struct stat status;

    if (step->flags & STEP_MAKE_SOURCE)
        make_source(step);
    step->facts.source_fd = host_open(step->source, O_PATH);
    if (step->facts.source_fd < 0 || fstat(step->facts.source_fd, &status) < 0) {
        step->facts.source_error = errno;
        return;
    }
    if (((step->flags & STEP_ROOT_OWNED) && status.st_uid != 0) || ((step->flags & STEP_OWN) && status.st_uid != getuid())) {
        step->facts.source_error = EPERM;
        return;
    }
    step->facts.source_type = status.st_mode & S_IFMT;
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
    if ((step->flags & STEP_ONLY_IF_FILE) || !inside_missing(root, step->target, &missing) || *missing.rest == '\0')
        return;
    step->facts.parent = plan_text(plan, "%s", missing.parent);
    step->facts.rest = plan_text(plan, "%s", missing.rest);
    step->facts.parent_entries = count_entries(root, missing.parent);
}

/* ---- files of the image ---- */

/* The text of a small file until the next is read; NULL: there is none that can be read. */
static const char *read_small_file(int root, const char *path)
{
    static char text[SMALL_LIMIT]; /* too large for a stack that may be limited */
    OWNED_FD file = inside_open(root, path, O_RDONLY | O_NONBLOCK);
    struct stat status;
    size_t used = 0;

    if (file < 0 || fstat(file, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size >= SMALL_LIMIT)
        return NULL;
    for (ssize_t size = 1; size > 0 && used < sizeof text - 1; used += size > 0 ? (size_t)size : 0)
        size = read(file, text + used, sizeof text - 1 - used);
    text[used] = '\0';
    return text;
}

static void survey_accounts(struct plan *plan, const struct plan_inputs *inputs, int root)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        struct step *step = &plan->steps[i];
        if (!(step->flags & (STEP_PASSWD | STEP_GROUP)))
            continue;
        const char *text = step->facts.target_found ? read_small_file(root, step->target) : NULL;
        if (step->skipped != NULL)
            continue;
        if (step->facts.covered)
            step->skipped = "another mount shows its own";
        else if (text == NULL)
            step->skipped = step->facts.target_found ? "the image's file cannot be read" : "not in the image";
        else
            step->content = step->flags & STEP_PASSWD ? plan_passwd(plan, inputs, text) : plan_group(plan, inputs, text);
    }
}

/* ---- where and as whom the program starts ---- */

/* Why the kernel makes no user namespace with any rights in it, or NULL. A child tries: there is no way back out of one. */
static const char *namespace_obstacle(const struct caller *caller)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        privilege_forget(caller);
        _exit(unshare(CLONE_NEWUSER) < 0 || unshare(CLONE_NEWUTS) < 0 ? EXIT_OWN_FAILURE : 0);
    }
    if (child < 0)
        return "no process could be started";
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return "no process could be waited for";
    return status != 0 ? "the kernel makes no user namespace" : NULL;
}

/* Nothing is read unless it was asked for, or is to be told. */
static void survey_oci(struct plan *plan, const struct plan_inputs *inputs, int root)
{
    const char *text;

    if (!plan->oci_wanted && message_level_get() < LEVEL_VERBOSE)
        return;
    text = read_small_file(root, "/.singularity.d/oci-start");
    if (text == NULL || !plan_oci(plan, inputs, text))
        return;
    plan_oci_passwd(plan, read_small_file(root, "/etc/passwd"));
    plan_oci_group(plan, read_small_file(root, "/etc/group"));
    plan_oci_user(plan, inputs, plan_oci_user_needs_namespace(plan, inputs) ? namespace_obstacle(inputs->caller) : NULL);
}

void survey(struct plan *plan, const struct plan_inputs *inputs, const struct stage *stage)
{
    survey_oci(plan, inputs, stage->parts[0]);
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].kind == STEP_BIND)
            survey_source(&plan->steps[i]);
    survey_libraries(plan, inputs->request, inputs->caller, stage->parts[0]);
    for (uint32_t i = 0; i < plan->step_count; i++)
        survey_target(plan, i, stage->parts[0]);
    survey_accounts(plan, inputs, stage->parts[0]);
}

void survey_start(struct plan *plan, const struct plan_inputs *inputs)
{
    OWNED_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        stop(errno, "the container's root directory");
    survey_oci(plan, inputs, root);
}
