/* Which mount points the image lacks, and what is laid over it for them: data only. */
#include "plan.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* Up to about this many entries bound one by one, a launch with an underlay takes no longer than one with an overlay:
 * docs/performance.md has the figures. */
enum { UNDERLAY_ENTRIES = 12 };

#define LACKING "mount points that the image lacks"
#define NO_LAYER "no overlay is possible here, and underlay is off in the configuration"

/* EMFILE and ENFILE end the launch whatever the step: they say nothing of this source, and every later one would be
 * "missing" too. */
static bool judge_source(struct step *step, struct error *error)
{
    if (step->kind != STEP_BIND || step->skipped != NULL)
        return true;
    if ((step->flags & STEP_IS_DIRECTORY) && step->missing_source == LOSS_STOP && S_ISREG(step->facts.source_type))
        return error_set(error, ENOTDIR, "%s (%s)", step->source, step->reason);
    if (step->facts.source_type != 0)
        return true;
    if (step->facts.source_error == EMFILE || step->facts.source_error == ENFILE)
        return error_set(error, step->facts.source_error, "mount source %s", step->source);
    step->skipped = step->facts.source_error == 0 ? "not on the host" : errno_words(step->facts.source_error);
    if (step->missing_source == LOSS_STOP)
        return error_set(error, 0, "mount source %s doesn't exist or cannot be opened: %s (%s%s)", step->source, step->skipped,
                         step->reason, step->facts.source_error == ENOENT ? ": create it on the host, or leave it out" : "");
    if (step->missing_source == LOSS_WARN)
        message_warning("%s is not mounted: %s (%s)", step->source, step->skipped, step->reason);
    return true;
}

bool step_is_directory(const struct step *step)
{
    return step->kind == STEP_DIRECTORY || step->kind == STEP_PLACE || step->kind == STEP_FILESYSTEM || S_ISDIR(step->facts.source_type);
}

/* A file cannot be mounted on a directory, nor the other way round (mount(2): ENOTDIR); that is said by name here,
 * before anything has been mounted. */
static bool judge_target(struct step *step, struct error *error)
{
    if (step->skipped == NULL && (step->flags & (STEP_PASSWD | STEP_GROUP)) && step->facts.source_fd < 0)
        step->skipped = step->facts.covered         ? "another mount shows its own"
                        : !step->facts.target_found ? "not in the image"
                                                    : "the image's file cannot be read";
    if (step->skipped != NULL || *step->target == '\0' || step->facts.covered || step->kind == STEP_LINK)
        return true;
    if (!step->facts.target_found)
        return true;
    if (step->flags & STEP_ONLY_IF_MISSING) {
        step->skipped = "the image has it";
        return true;
    }
    if (S_ISDIR(step->facts.target_type) == step_is_directory(step))
        return true;
    step->skipped = step_is_directory(step) ? "the image has a file there" : "the image has a directory there";
    if (step->missing_target == LOSS_STOP)
        return error_set(error, 0, "%s cannot be mounted on %s: %s (%s: name a %s as the target)", step->source, step->target,
                         step->skipped, step->reason, step_is_directory(step) ? "directory" : "file");
    message_warning("%s is not mounted on %s: %s (%s)", step->source, step->target, step->skipped, step->reason);
    return true;
}

/* Whether a path is this directory or below it. */
static bool lies_in(const char *path, const char *directory)
{
    size_t length = strlen(directory);

    while (length > 0 && directory[length - 1] == '/')
        length--;
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* By text alone, before anything is mounted: what an earlier step will hide must not be looked up in the image, whose
 * files there nobody will see. */
bool step_covered(const struct plan *plan, uint32_t number)
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

bool step_must_be_made(const struct step *step)
{
    return step->skipped == NULL && *step->target != '\0' && !step->facts.covered && !step->facts.target_found &&
           step->kind != STEP_LINK && step->facts.parent != NULL;
}

const char *step_loss(int number)
{
    return number == ENOENT ? "the image lacks it, and it cannot be made there (--no-mount leaves it out)" : errno_words(number);
}

/* Where nothing can be made, what was asked for ends the launch. */
static bool all_there(const struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        if (step_must_be_made(step) && step->missing_target == LOSS_STOP)
            return error_set(error, 0, "%s cannot be mounted: the image has no %s, and mount points cannot be made here "
                             "(%s; \"enable overlay\" and \"enable underlay\" in %s)", step->source, step->target,
                             step->reason, inputs->config->path);
    }
    return true;
}

static bool overlay_asked(const struct plan *plan)
{
    return plan->part_count > 1 || plan->writable_part >= 0;
}

/* The errno is what overlayfs gives: EPERM before Linux 5.11 in user namespaces, ELOOP for layers within each other
 * (fs/overlayfs/super.c). */
bool plan_refused_overlay(const struct plan *plan, const struct plan_inputs *inputs, int number, struct error *error)
{
    if (!overlay_asked(plan))
        return all_there(plan, inputs, error);
    if (number == EPERM)
        return error_set(error, 0, "this kernel does not let users mount an overlay (Linux 5.11 or newer does): "
                         "--overlay, --writable-tmpfs and images on a base need one");
    if (number == ELOOP)
        return error_set(error, 0, "overlays and image may not lie in one another: use a directory of its own for each");
    return error_set(error, number, "the kernel takes no overlay in such a file system (\"overlay create\" makes images for it)");
}

/* One entry a directory, however many mount points are missing in it. */
static void underlay_add(struct plan *plan, const struct step *step)
{
    for (uint32_t i = 0; i < plan->layer_count; i++)
        if (strcmp(plan->layers[i].target, step->facts.parent) == 0)
            return;
    if (plan->layer_count == PLAN_LAYERS)
        stop(0, "bind points in more than %d directories that the image lacks (create some of them in the image)", PLAN_LAYERS);
    struct step *layer = &plan->layers[plan->layer_count];
    *layer = (struct step){.kind = STEP_DIRECTORY, .target = step->facts.parent, .reason = step->reason};
    layer->source = plan_text(plan, "under/%u", plan->layer_count++);
    layer->facts.parent_entries = step->facts.parent_entries;
}

/* Never over a directory of the host with the setuid starter's rights: see DIRECTORY_LAYER in mode.c. */
static bool overlay_possible(const struct plan *plan, const struct plan_inputs *inputs)
{
    return !(plan->mode == MODE_SETUID && plan->parts[0].way == WAY_BIND) && inputs->config->enable_overlay != CHOICE_NO &&
           !inputs->request->underlay && !inputs->request->disable_overlay;
}

/* What must be made where; returns how many entries an underlay would bind. */
static uint32_t collect(struct plan *plan)
{
    uint32_t entries = 0;

    plan->layer_count = 0;
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (step_must_be_made(&plan->steps[i]))
            underlay_add(plan, &plan->steps[i]);
    for (uint32_t i = 0; i < plan->layer_count; i++)
        entries += plan->layers[i].facts.parent_entries;
    steps_sort(plan->layers, plan->layer_count);
    return entries;
}

/* An underlay binds every entry of a directory by itself, so it takes time by their number; an overlay takes the same
 * time whatever there is, but some kernels and file systems refuse it. Hence the count, and hence the second choice. */
static bool choose_layer(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    uint32_t entries = collect(plan);
    bool overlay = overlay_possible(plan, inputs);
    bool underlay = inputs->config->enable_underlay != CHOICE_NO || inputs->request->underlay;
    bool preferred = inputs->config->enable_underlay == CHOICE_PREFERRED || inputs->request->underlay;
    /* of a file of an overlay the kernel itself knows that it answers no ioctl(2), where it would ask the image's server each time: a
     * quarter of what an import in Python asks, which wants to know of each file whether it is a terminal */
    bool served = overlay && !preferred && plan->parts[0].way == WAY_FUSE && plan->parts[0].partition.filesystem != FILESYSTEM_EXT;

    if (overlay_asked(plan)) {
        plan->layer = LAYER_OVERLAY;
        for (uint32_t i = 1; i < plan->part_count; i++) /* fuse-overlayfs has written it, whose marks of what was removed the kernel passes over */
            if (plan->parts[i].way == WAY_FUSE && plan->parts[i].partition.filesystem == FILESYSTEM_EXT)
                plan->layer = LAYER_OVERLAY_FUSE;
        plan->layer_reason = plan->writable_part == 0 ? plan_asked(inputs, "--writable-tmpfs") : "overlays were asked for";
        return inputs->config->enable_overlay != CHOICE_NO ||
               error_set(error, 0, "overlays are not allowed here (\"enable overlay = no\" in %s)", inputs->config->path);
    }
    plan->second = underlay ? LAYER_UNDERLAY : LAYER_NONE; /* only by trying can it be known that the kernel refuses an overlay */
    plan->second_possible = underlay || all_there(plan, inputs, &(struct error){0});
    if ((plan->layer_count == 0 && !served) || plan->image_writable)
        plan->layer = LAYER_NONE, plan->layer_reason = plan->image_writable ? "--writable" : "the image has every mount point";
    else if (underlay && !served && (preferred || !overlay || entries <= UNDERLAY_ENTRIES))
        plan->layer = LAYER_UNDERLAY, plan->layer_reason = LACKING;
    else if (overlay)
        plan->layer = LAYER_OVERLAY, plan->layer_reason = plan->layer_count > 0 ? LACKING : "fewer questions to the image's server";
    else
        plan->layer = LAYER_NONE, plan->layer_reason = NO_LAYER;
    return plan->layer != LAYER_NONE || plan->image_writable || all_there(plan, inputs, error);
}

bool plan_layers(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (!judge_source(&plan->steps[i], error) || !judge_target(&plan->steps[i], error))
            return false;
    return choose_layer(plan, inputs, error);
}
