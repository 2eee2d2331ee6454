/* The setuid starter, installed as sexec-suid: mounts what a user may not. It is the calling user but for single system calls,
 * and leaves what needs no privilege to sexec: launches through a user namespace, and the start of the program. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "descriptor.h"
#include "inside.h"
#include "location.h"
#include "starter.h"

/* The plain starter, opened on the host: from inside the container its path would lead to a file of the image. */
static int open_plain_starter(void)
{
    struct stat status;
    const char *path = location_starter();
    OWNED_FD file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (file < 0 || fstat(file, &status) < 0)
        stop(errno, "%s", path);
    if (!S_ISREG(status.st_mode) || status.st_uid != 0 || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        stop(0, "%s: not root's alone (reinstall singularity)", path);
    return fd_give(&file);
}

#ifdef SANITIZED /* a plain starter with sanitizers needs a loader, which the container has not */
static _Noreturn void start_program(struct launch *launch, int plain, char **argv)
{
    close(plain);
    launch_tell_payload(launch);
    launch_start_program(launch, argv);
}
#else

/* Executes the plain starter, which evaluates the image's variables and executes the program. Its descriptor is close-on-exec:
 * the program cannot reach the file of the host through it (R-L10). */
static _Noreturn void start_program(struct launch *launch, int plain, char **argv)
{
    char number[16];
    struct error error = {0};

    launch_tell_payload(launch);
    launch->request.payload_stage = true;
    int request = request_send(&launch->request, &error);
    if (request < 0)
        stop(0, "%s", error.text);
    snprintf(number, sizeof number, "%d", request);
    argv[1] = number;
    inherited_restore(&launch->inherited, &launch->request);
    (void)syscall(SYS_execveat, plain, "", argv, launch->inherited.environment, AT_EMPTY_PATH);
    stop(errno, "start the program: the plain starter");
}
#endif

static _Noreturn void become_program(struct launch *launch, int plain, char **argv)
{
    privilege_end(&launch->caller, 0, true); /* before the image's paths are looked up and its files read (R-L7) */
    join_stay(&launch->plan, &launch->inputs, &launch->rendezvous); /* by its first process, which has no privilege any more */
    launch_leave_host(launch, plain);
    perform_follow(&launch->plan); /* again: the launcher may have ended while its end was forgotten, within a bracket */
    perform_init(&launch->plan);
    if (launch->request.new_session)
        perform_session();
    start_program(launch, plain, argv);
}

static struct launch launch;
static char **words;

/* What is no image is explained by the plain starter, which finds it again. */
bool image_explain(const uint8_t *head, size_t size, const char *name, struct error *error)
{
    (void)head, (void)size, (void)name, (void)error;
    launch.plan.mode = MODE_USERNS;
    launch.plan.mode_reason = "there is no image to mount";
    launch_hand_over(&launch, words);
}

/* The whole launch. scripts/count_privileged.py takes its text for the order of time: no loop here, privilege_begin() first. */
int main(int argc, char **argv)
{
    bool installed = privilege_begin(); /* from the first call on the user's ids: root's is only the saved one */

    words = argv;
    message_syslog(installed);         /* before anything can be refused */
    inherited_take(&launch.inherited); /* streams are open, variables gone, limits and signals known, before a message is written */
    proc_open();                       /* from here on the kernel is asked of this process through this mount alone */
    caller_read(&launch.caller);       /* from the kernel, before the request: nothing in that says who calls */
    launch_receive(&launch, argc, argv);
    if (launch.request.payload_stage)
        stop(0, "launch request for a container that is ready: only this program makes those");

    launch_find_facts(&launch, installed); /* read-only, as the user: images are opened once, and are these files from now on */
    launch_plan_mode(&launch);             /* all that the configuration refuses, before anything is done */
    if (launch.plan.mode != MODE_SETUID)
        launch_hand_over(&launch, argv);   /* with every right given up: a user namespace needs none of ours */
    launch_check_signatures(&launch);      /* by descriptor: of the files that are mounted, whatever has their names by then */
    int plain = open_plain_starter();      /* while the host's root directory is the root: the image has others of this name */
    launch_plan_mounts(&launch);

    launch_prepare(&launch); /* the last act before the first that needs privilege */
    if (!launch_join(&launch)) { /* first: a container that is shared already needs no image of its own */
        int root = launch_open_image(&launch); /* in a mount namespace of its own, before the first mount (R-M3) */
        if (launch.plan.dry)
            launch_show(&launch, root);
        facts_image(&launch.plan, &launch.inputs, root); /* as late as this: before, the image file showed nothing */
        launch_plan_root(&launch);
        launch_make_root(&launch); /* ends with the host out of sight: pivot_root(2) and umount2(2), before privilege ends */
    }
    become_program(&launch, plain, argv);
}
