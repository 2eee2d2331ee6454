/* The setuid starter, installed as sexec-suid: mounts what a user may not. It is the calling user but for single system calls,
 * and leaves what needs no privilege to sexec: launches through a user namespace, and the start of the program. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "descriptor.h"
#include "location.h"
#include "inside.h"
#include "starter.h"

static struct starter starter;

/* The plain starter, opened while the host is there to open it. */
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
static _Noreturn void start_program(int plain, char **argv)
{
    close(plain);
    starter_tell_payload(&starter);
    starter_start_program(&starter, argv);
}
#else

/* The plain starter finds out what the program's variables are and becomes it: close-on-exec, it is not open in there. */
static _Noreturn void start_program(int plain, char **argv)
{
    char number[16];
    struct error error = {0};

    starter_tell_payload(&starter);
    starter.request.payload_stage = true;
    int request = request_send(&starter.request, &error);
    if (request < 0)
        stop(0, "%s", error.text);
    snprintf(number, sizeof number, "%d", request);
    argv[1] = number;
    inherited_restore(&starter.inherited, &starter.request);
    (void)syscall(SYS_execveat, plain, "", argv, starter.inherited.environment, AT_EMPTY_PATH);
    stop(errno, "start the program: the plain starter");
}
#endif

static _Noreturn void become_program(int plain, char **argv)
{
    privilege_end(&starter.caller, 0, true);
    starter_leave_host(&starter, plain);
    perform_follow(&starter.plan);
    perform_init(&starter.plan);
    if (starter.request.new_session)
        perform_session();
    start_program(plain, argv);
}

int main(int argc, char **argv)
{
    bool installed = privilege_begin();

    message_syslog(installed);
    inherited_take(&starter.inherited);
    proc_open();
    caller_read(&starter.caller);
    starter_receive(&starter, argc, argv);
    if (starter.request.payload_stage)
        stop(0, "launch request for a container that is ready: only this program makes those");
    starter_choose_mode(&starter, installed);
    if (starter.plan.mode != MODE_SETUID)
        starter_hand_over(&starter, argv);
    int plain = open_plain_starter();
    starter_plan(&starter);
    starter_make_container(&starter);
    become_program(plain, argv);
}
