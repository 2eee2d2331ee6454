/* The starter: one launch, from the request to the program. Installed as sexec, and setuid root as sexec-suid. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caller.h"
#include "config.h"
#include "images.h"
#include "inherited.h"
#include "location.h"
#include "payload.h"
#include "perform/host_mounts.h"
#include "perform/inside.h"
#include "perform/join.h"
#include "perform/perform.h"
#include "plan/plan.h"

/* Static, since the stack of the caller may be small; untouched pages cost nothing. */
static struct request request;
static struct config config;
static struct caller caller;
static struct plan plan;
static struct images images;
static struct inherited inherited;
static struct meeting meeting;

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

static void receive(int argc, char **argv)
{
    struct error error = {0};

    if (!request_receive(request_descriptor(argc, argv), &request, &error))
        stop(0, "%s", error.text);
    message_begin((int)(request.level % 64) - 16, request.colour);
    if (request.image == NULL || request.image[0] != '/')
        stop(0, "launch request without an image");
}

/* Real root may launch for another user, as batch systems do. */
static bool become_target(void)
{
    if ((request.target_uid == 0) != (request.target_gid == 0))
        stop(0, "SINGULARITY_TARGET_UID and SINGULARITY_TARGET_GID go together");
    if (request.target_uid == 0 || caller.uid != 0)
        return false;
    if (request.target_uid - 1 < 500 || request.target_gid - 1 < 500 || request.target_uid > UINT32_MAX - 1 ||
        request.target_gid > UINT32_MAX - 1)
        stop(0, "SINGULARITY_TARGET_UID and SINGULARITY_TARGET_GID: ids of users are 500 and above");
    privilege_begin_for((uid_t)(request.target_uid - 1), (gid_t)(request.target_gid - 1));
    caller_read(&caller);
    return true;
}

/* ---- the other mode ---- */

/* What needs a user namespace runs without any privilege of ours: the plain starter, with the same request. */
static _Noreturn void hand_over(char **argv)
{
    char number[16];
    struct error error = {0};
    const char *path = location_starter();

    message_verbose("no privilege is used: %s", plan.mode_reason);
    privilege_end(&caller, 0, true);
    request.userns = true;
    request.userns_reason = plan.mode_reason;
    int request_fd = request_send(&request, &error);
    if (request_fd < 0)
        stop(0, "%s", error.text);
    snprintf(number, sizeof number, "%d", request_fd);
    argv[1] = number;
    inherited_close(&request, &request_fd, 1);
    inherited_restore(&inherited, &request);
    execve(path, argv, inherited.environment);
    stop(errno, "%s", path);
}

/* ---- from plan to root directory ---- */

static void plan_or_stop(bool (*stage)(struct plan *, const struct plan_inputs *, struct error *),
                         const struct plan_inputs *inputs)
{
    struct error error = {0};

    if (!stage(&plan, inputs, &error)) {
        message_log("refused uid=%u gid=%u image=%.1024s file=%llu:%llu: %s", (unsigned)caller.uid, (unsigned)caller.gid,
                    request.image, (unsigned long long)images.image.device, (unsigned long long)images.image.inode, error.text);
        message_syslog(false);
        stop(0, "%s", error.text);
    }
}

static void build_root(struct plan_inputs *inputs, struct stage *stage)
{
    survey(&plan, inputs, stage);
    plan_or_stop(plan_layers, inputs);
    if (request.dry_run != DRY_RUN_NO) {
        plan_print(&plan, inputs, request.dry_run == DRY_RUN_JSON, stdout);
        _exit(0);
    }
    inputs->overlay_refused = perform_layer(&plan, stage);
    if (inputs->overlay_refused != 0) {
        message_verbose("the kernel refused the overlay: %s", strerrordesc_np(inputs->overlay_refused));
        plan_or_stop(plan_layers, inputs);
        if (perform_layer(&plan, stage) != 0)
            stop(0, "the root directory cannot be layered");
    }
    perform_steps(&plan, stage);
    perform_root(stage);
    fuse_watch(&plan);
}

static void make_container(struct plan_inputs *inputs)
{
    struct stage stage = {0};
    struct error error = {0};

    if (!images_lock(&request, &images, &error))
        stop(0, "%s", error.text);
    (void)umask(022); /* what is made from here on is the container's: directories that the program passes through */
    perform_ground(&plan, &stage, &caller);
    message_syslog(false);
    build_root(inputs, &stage);
    if (plan.keeper_fd >= 0)
        join_keep(&plan, &caller, &meeting);
}

/* Nothing of the host is open from here on: what an image or a user names is looked up next, and a link of /proc to a
 * descriptor that was left would lead out of the container (the class of CVE-2024-21626). */
static void leave_host(void)
{
    const int waiting[] = {plan.report_fd > 0 ? plan.report_fd : -1, plan.alive_fd > 0 ? plan.alive_fd : -1};

    inherited_close(&request, waiting, 2);
    proc_forget();
}

static _Noreturn void become_program(char **argv)
{
    const struct payload payload = {.request = &request, .caller_environment = inherited.environment, .arguments = argv + 2,
                                    .binds = plan.binds, .home = plan.home, .image = request.image,
                                    .home_yields = plan.home_yields, .path_exact = plan.oci_image};
    const struct ids ids = {plan.user.uid, plan.user.gid, plan.user.groups, plan.user.group_count};

    if (plan.user.way == USER_REAL)
        privilege_become(&ids, plan.keep_capabilities);
    privilege_end(&caller, plan.keep_capabilities, plan.no_new_privs);
    perform_follow(&plan);
    perform_init(&plan);
    if (request.new_session)
        perform_session();
    inherited_restore(&inherited, &request);
    perform_user(&plan, &caller);
    payload_execute(&payload);
}

int main(int argc, char **argv)
{
    struct error error = {0};

    inherited_take(&inherited);
    bool setuid_mode = privilege_begin();
    message_syslog(setuid_mode);
    proc_open();
    caller_read(&caller);
    receive(argc, argv);
    setuid_mode = become_target() || setuid_mode;
    if (!config_read(location_config(), setuid_mode, &config, &error))
        stop(0, "%s", error.text);
    if (!images_open(&request, &images, &error))
        stop(0, "%s", error.text);
    struct plan_inputs inputs = {.request = &request, .config = &config, .image = &images.image, .overlays = images.overlays,
                                 .caller = &caller, .setuid = setuid_mode};
    plan_or_stop(plan_ground, &inputs);
    if (setuid_mode && plan.mode == MODE_USERNS)
        hand_over(argv);
    inputs.host_mounts = config.mount_hostfs ? host_mounts(&plan) : NULL;
    plan_or_stop(plan_steps, &inputs);
    if (config.audit_log)
        message_log("launch uid=%u gid=%u image=%.1024s file=%llu:%llu", (unsigned)caller.uid, (unsigned)caller.gid,
                    request.image, (unsigned long long)images.image.device, (unsigned long long)images.image.inode);
    if (plan.join && request.dry_run == DRY_RUN_NO && join_container(&plan, &inputs, &meeting)) {
        message_syslog(false);
        survey_start(&plan, &inputs);
    } else {
        make_container(&inputs);
    }
    leave_host();
    perform_directory(&plan);
    become_program(argv);
}
