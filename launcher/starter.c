/* The stages of a launch that both starters have, from the request to the container's root. Raises no privilege by itself. */
#include "starter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"
#include "inside.h"
#include "location.h"

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

void launch_receive(struct launch *launch, int argc, char **argv)
{
    struct request *request = &launch->request;
    struct error error = {0};

    if (!request_receive(request_descriptor(argc, argv), request, &error))
        stop(0, "%s", error.text);
    message_begin((int)(request->level % 64) - 16, request->colour);
    if (request->image == NULL || request->image[0] != '/')
        stop(0, "launch request without an image");
}

/* ---- the plan ---- */

static _Noreturn void refuse(const struct launch *launch, const struct error *error)
{
    const struct image *image = &launch->images.image;

    privilege_forget(&launch->caller);
    message_log("refused uid=%u gid=%u file=%llu:%llu: %s (image=%.1024s)", (unsigned)launch->caller.uid, (unsigned)launch->caller.gid,
                (unsigned long long)image->device, (unsigned long long)image->inode, error->text, launch->request.image);
    message_syslog(false);
    stop(0, "%s", error->text);
}

static void plan_or_stop(struct launch *launch, bool (*half)(struct plan *, const struct plan_inputs *, struct error *))
{
    struct error error = {0};

    if (!half(&launch->plan, &launch->inputs, &error))
        refuse(launch, &error);
}

void launch_find_facts(struct launch *launch, bool setuid)
{
    struct error error = {0};

    if (!config_read(location_config(), setuid, &launch->config, &error))
        stop(0, "%s", error.text);
    launch->images.image.fd = -1;
    if (!request_enters(&launch->request) && !images_open(&launch->request, &launch->images, &error))
        stop(0, "%s", error.text);
    launch->inputs = (struct plan_inputs){.request = &launch->request, .config = &launch->config, .caller = &launch->caller,
                                          .image = &launch->images.image, .overlays = launch->images.overlays,
                                          .host = &launch->host, .setuid = setuid};
    facts_host(&launch->host, &launch->plan, &launch->inputs);
}

void launch_plan_mode(struct launch *launch)
{
    plan_or_stop(launch, plan_mode);
}

void launch_check_signatures(struct launch *launch)
{
    plan_or_stop(launch, facts_signatures);
}

void launch_plan_mounts(struct launch *launch)
{
    plan_or_stop(launch, plan_steps);
}

void launch_plan_root(struct launch *launch)
{
    plan_or_stop(launch, plan_layers);
}

_Noreturn void launch_hand_over(struct launch *launch, char **argv)
{
    char number[16];
    struct error error = {0};
    struct request *request = &launch->request;
    const char *path = location_starter();

    if (launch->plan.mode == MODE_USERNS) {
        message_verbose("no privilege is used: %s", launch->plan.mode_reason);
        privilege_forget(&launch->caller);
        request->userns = true;
        request->userns_reason = launch->plan.mode_reason;
    }
    int request_fd = request_send(request, &error);
    if (request_fd < 0)
        stop(0, "%s", error.text);
    snprintf(number, sizeof number, "%d", request_fd);
    argv[1] = number;
    inherited_close(request, &request_fd, 1);
    inherited_restore(&launch->inherited, request);
    execve(path, argv, inherited_environment(&launch->inherited));
    stop(errno, "%s", path);
}

/* ---- from plan to root directory ---- */

void launch_prepare(struct launch *launch)
{
    (void)umask(022); /* what is made from here on is the container's: directories that the program passes through */
    if (!launch->plan.dry) {
        perform_make_sources(&launch->plan);
        facts_named(&launch->plan);
    }
    launch->images_locked = images_are_locked(&launch->request, &launch->images);
    if (launch->request.action == ACTION_LINGER && (launch->images_locked || launch->plan.parts[0].way == WAY_BIND))
        _exit(EXIT_OWN_FAILURE); /* nobody is there to be told: a keeper would keep writers out, or has nothing to keep */
    if (launch->plan.join)
        launch->rendezvous_obstacle = rendezvous_prepare(&launch->rendezvous, &launch->plan, &launch->inputs);
    if (launch->config.audit_log) /* a user's text stands last: nothing behind it can be faked */
        message_log("launch uid=%u gid=%u file=%llu:%llu image=%.1024s", (unsigned)launch->caller.uid,
                    (unsigned)launch->caller.gid, (unsigned long long)launch->images.image.device,
                    (unsigned long long)launch->images.image.inode, launch->request.image);
}

bool launch_join(struct launch *launch)
{
    if (!launch->plan.join || launch->plan.dry ||
        !join_container(&launch->plan, &launch->inputs, &launch->rendezvous, launch->rendezvous_obstacle))
        return false;
    message_syslog(false);
    facts_start(&launch->plan, &launch->inputs);
    return true;
}

/* In a child, since waiting for a lock of another user's process is not for a process that could raise privilege. The lock is one
 * of the open file (Linux 3.15), which parent and child share. */
static _Noreturn void lock(const void *question, int to)
{
    const struct launch *launch = question;
    struct error error = {0};

    privilege_forget(&launch->caller);
    (void)images_lock(&launch->request, &launch->images, getppid(), &error);
    _exit(fd_write(to, &error, sizeof error) ? 0 : EXIT_OWN_FAILURE);
}

static void lock_images(const struct launch *launch)
{
    struct error error = {0};

    if (launch->images_locked && !ask(lock, launch, &error, sizeof error))
        stop(0, "the image could not be locked");
    error.text[sizeof error.text - 1] = '\0';
    if (error.text[0] != '\0')
        stop(0, "%s", error.text);
}

int launch_open_image(struct launch *launch)
{
    if (launch->plan.dry && launch->plan.parts[0].way == WAY_BIND)
        return launch->images.image.fd;
    lock_images(launch);
    perform_images(&launch->plan, &launch->stage, &launch->caller);
    message_syslog(false); /* its socket is one of the host's */
    return launch->stage.parts[0];
}

static _Noreturn void refuse_overlay(const struct launch *launch, int number)
{
    privilege_forget(&launch->caller);
    struct error error = {0};
    (void)plan_refused_overlay(&launch->plan, &launch->inputs, number, &error);
    refuse(launch, &error);
}

void launch_make_root(struct launch *launch)
{
    int number = perform_layer(&launch->plan, &launch->stage);

    if (number != 0)
        refuse_overlay(launch, number);
    perform_steps(&launch->plan, &launch->stage);
    if (mount_pivot(launch->stage.root) < 0) /* the container's tree takes the place of the host's, which is gone from this namespace */
        stop(errno, "make the container's root directory the root");
    if (launch->plan.keeper_fd >= 0 && !launch->plan.instance)
        join_keep(&launch->plan, &launch->inputs, &launch->rendezvous);
}

/* ---- in the container ---- */

/* What an image or a user names is looked up next, and a link of /proc to a descriptor that was left would lead out of the
 * container (the class of CVE-2024-21626). */
void launch_leave_host(struct launch *launch, int also)
{
    const struct plan *plan = &launch->plan;
    perform_accounts(&launch->plan, &launch->inputs);
    const int waiting[] = {plan->report_fd > 0 ? plan->report_fd : -1, plan->alive_fd > 0 ? plan->alive_fd : -1, also};

    inherited_close(&launch->request, waiting, sizeof waiting / sizeof waiting[0]);
    proc_forget();
    perform_directory(plan);
}

void launch_tell_payload(struct launch *launch)
{
    const struct plan *plan = &launch->plan;
    struct request *request = &launch->request;
    bool shown = plan->user.way == USER_NAMESPACE;

    request->home = plan->home;
    request->home_yields = plan->home_yields;
    request->path_exact = plan->oci_image;
    request->user_uid = shown ? UINT64_C(1) + plan->user.uid : 0;
    request->user_gid = shown ? UINT64_C(1) + plan->user.gid : 0;
    request->user_spec = plan->user.spec;
    request->bind_count = plan->binds_ignored ? 0 : request->bind_count;
    request->mounted_count = request->restriction_count > 0 ? plan->step_count : 0; /* whatever a forged request has of it */
    for (uint32_t i = 0; i < request->mounted_count; i++)
        request->mounted[i] = (struct request_entry){plan->steps[i].target, "", plan->steps[i].skipped != NULL};
}
