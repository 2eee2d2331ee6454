/* What both starters do, from the request to the root directory of the container. Raises no privilege by itself. */
#include "starter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"
#include "location.h"
#include "facts/host_mounts.h"
#include "inside.h"

/* ---- what was asked ---- */

static int request_descriptor(int argc, char **argv)
{
    char *end;

    if (argc < 2 || argv[1][0] < '0' || argv[1][0] > '9')
        stop_with(EXIT_USAGE, 0, "this is the starter of singularity containers: run singularity instead");
    errno = 0;
    unsigned long number = strtoul(argv[1], &end, 10);
    if (errno != 0 || *end != '\0' || number < 3 || number > 1 << 20)
        stop_with(EXIT_USAGE, 0, "this is the starter of singularity containers: run singularity instead");
    return (int)number;
}

void starter_receive(struct starter *starter, int argc, char **argv)
{
    struct request *request = &starter->request;
    struct error error = {0};

    if (!request_receive(request_descriptor(argc, argv), request, &error))
        stop(0, "%s", error.text);
    message_begin((int)(request->level % 64) - 16, request->colour);
    if (request->image == NULL || request->image[0] != '/')
        stop(0, "launch request without an image");
}

/* ---- the plan ---- */

static _Noreturn void refuse(const struct starter *starter, const struct error *error)
{
    const struct image *image = &starter->images.image;

    privilege_forget(&starter->caller);
    message_log("refused uid=%u gid=%u file=%llu:%llu: %s (image=%.1024s)", (unsigned)starter->caller.uid,
                (unsigned)starter->caller.gid, (unsigned long long)image->device, (unsigned long long)image->inode, error->text,
                starter->request.image);
    message_syslog(false);
    stop(0, "%s", error->text);
}

static void plan_or_stop(struct starter *starter, bool (*part)(struct plan *, const struct plan_inputs *, struct error *))
{
    struct error error = {0};

    if (!part(&starter->plan, &starter->inputs, &error))
        refuse(starter, &error);
}

void starter_choose_mode(struct starter *starter, bool setuid)
{
    struct error error = {0};

    if (!config_read(location_config(), setuid, &starter->config, &error))
        stop(0, "%s", error.text);
    if (!images_open(&starter->request, &starter->images, &error))
        stop(0, "%s", error.text);
    starter->inputs = (struct plan_inputs){.request = &starter->request, .config = &starter->config,
                                           .image = &starter->images.image, .overlays = starter->images.overlays,
                                           .caller = &starter->caller, .setuid = setuid};
    plan_or_stop(starter, plan_mode);
}

_Noreturn void starter_hand_over(struct starter *starter, char **argv)
{
    char number[16];
    struct error error = {0};
    struct request *request = &starter->request;
    const char *path = location_starter();

    if (starter->plan.mode == MODE_USERNS) {
        message_verbose("no privilege is used: %s", starter->plan.mode_reason);
        privilege_forget(&starter->caller);
        request->userns = true;
        request->userns_reason = starter->plan.mode_reason;
    }
    int request_fd = request_send(request, &error);
    if (request_fd < 0)
        stop(0, "%s", error.text);
    snprintf(number, sizeof number, "%d", request_fd);
    argv[1] = number;
    inherited_close(request, &request_fd, 1);
    inherited_restore(&starter->inherited, request);
    execve(path, argv, inherited_environment(&starter->inherited));
    stop(errno, "%s", path);
}

void starter_plan(struct starter *starter)
{
    starter->inputs.host_mounts = starter->config.mount_hostfs ? host_mounts(&starter->plan) : NULL;
    plan_or_stop(starter, plan_steps);
    (void)umask(022); /* what is made from here on is the container's: directories that the program passes through */
    survey_first(&starter->plan);
    starter->images_locked = images_are_locked(&starter->request, &starter->images);
    if (starter->plan.join)
        starter->rendezvous_obstacle = rendezvous_prepare(&starter->rendezvous, &starter->plan, &starter->inputs);
    if (starter->config.audit_log)
        message_log("launch uid=%u gid=%u file=%llu:%llu image=%.1024s", (unsigned)starter->caller.uid,
                    (unsigned)starter->caller.gid, (unsigned long long)starter->images.image.device,
                    (unsigned long long)starter->images.image.inode, starter->request.image); /* last what a user has named */
}

/* ---- from plan to root directory ---- */

/* A dry run ends here. */
static _Noreturn void print(const struct starter *starter)
{
    privilege_forget(&starter->caller);
    plan_print(&starter->plan, &starter->inputs, starter->request.dry_run == DRY_RUN_JSON, stdout);
    _exit(0);
}

static void build_root(struct starter *starter, struct stage *stage)
{
    struct plan *plan = &starter->plan;

    survey(plan, &starter->inputs, stage);
    plan_or_stop(starter, plan_layers);
    if (starter->request.dry_run != DRY_RUN_NO)
        print(starter);
    starter->inputs.overlay_refused = perform_layer(plan, stage);
    if (starter->inputs.overlay_refused != 0) {
        message_verbose("the kernel refused the overlay: %s", strerrordesc_np(starter->inputs.overlay_refused));
        plan_or_stop(starter, plan_layers);
        if (perform_layer(plan, stage) != 0)
            stop(0, "the root directory cannot be layered");
    }
    perform_steps(plan, stage);
    perform_root(stage);
}

/* The open file has the lock, and with it this process; its child waits for it. */
static _Noreturn void lock(const void *question, int to)
{
    const struct starter *starter = question;
    struct error error = {0};

    privilege_forget(&starter->caller);
    (void)images_lock(&starter->request, &starter->images, &error);
    _exit(fd_write(to, &error, sizeof error) ? 0 : EXIT_OWN_FAILURE);
}

static void lock_images(const struct starter *starter)
{
    struct error error = {0};

    if (starter->images_locked && !ask(lock, starter, &error, sizeof error))
        stop(0, "the image could not be locked");
    error.text[sizeof error.text - 1] = '\0';
    if (error.text[0] != '\0')
        stop(0, "%s", error.text);
}

void starter_make_container(struct starter *starter)
{
    struct stage stage = {0};
    struct plan *plan = &starter->plan;

    if (plan->join && starter->request.dry_run == DRY_RUN_NO &&
        join_container(plan, &starter->inputs, &starter->rendezvous, starter->rendezvous_obstacle)) {
        message_syslog(false);
        survey_start(plan, &starter->inputs);
        return;
    }
    lock_images(starter);
    perform_images(plan, &stage, &starter->caller);
    message_syslog(false);
    build_root(starter, &stage);
    if (plan->keeper_fd >= 0)
        join_keep(plan, &starter->inputs, &starter->rendezvous);
}

/* ---- in the container ---- */

/* What an image or a user names is looked up next, and a link of /proc to a descriptor that was left would lead out of the
 * container (the class of CVE-2024-21626). */
void starter_leave_host(struct starter *starter, int also)
{
    const struct plan *plan = &starter->plan;
    perform_accounts(&starter->plan, &starter->inputs);
    const int waiting[] = {plan->report_fd > 0 ? plan->report_fd : -1, plan->alive_fd > 0 ? plan->alive_fd : -1, also};

    inherited_close(&starter->request, waiting, sizeof waiting / sizeof waiting[0]);
    proc_forget();
    perform_directory(plan);
}

void starter_tell_payload(struct starter *starter)
{
    const struct plan *plan = &starter->plan;
    struct request *request = &starter->request;
    bool shown = plan->user.way == USER_NAMESPACE;

    request->home = plan->home;
    request->home_yields = plan->home_yields;
    request->path_exact = plan->oci_image;
    request->user_uid = shown ? UINT64_C(1) + plan->user.uid : 0;
    request->user_gid = shown ? UINT64_C(1) + plan->user.gid : 0;
    request->user_spec = plan->user.spec;
    request->bind_count = plan->binds_ignored ? 0 : request->bind_count;
}
