/* The starter without privilege: launches through a user namespace, root's own launches, and, called by sexec-suid in a
 * container that is ready, the start of the program. */
#include "inside.h"
#include "starter.h"

static struct starter starter;

/* Real root may launch for another user, as batch systems do: from here on as if that user had called sexec-suid. */
static bool become_target(void)
{
    const struct request *request = &starter.request;

    if ((request->target_uid == 0) != (request->target_gid == 0))
        stop(0, "SINGULARITY_TARGET_UID and SINGULARITY_TARGET_GID go together");
    if (request->target_uid == 0 || starter.caller.uid != 0)
        return false;
    if (request->target_uid - 1 < 500 || request->target_gid - 1 < 500 || request->target_uid > UINT32_MAX - 1 ||
        request->target_gid > UINT32_MAX - 1)
        stop(0, "SINGULARITY_TARGET_UID and SINGULARITY_TARGET_GID: ids of users are 500 and above");
    privilege_begin_for((uid_t)(request->target_uid - 1), (gid_t)(request->target_gid - 1));
    caller_read(&starter.caller);
    return true;
}

static _Noreturn void become_program(char **argv)
{
    struct plan *plan = &starter.plan;
    const struct ids ids = {plan->user.uid, plan->user.gid, plan->user.groups, plan->user.group_count};

    if (plan->user.way == USER_REAL)
        privilege_become(&ids, plan->keep_capabilities);
    privilege_end(&starter.caller, plan->keep_capabilities, plan->no_new_privs);
    perform_follow(plan);
    perform_init(plan);
    if (starter.request.new_session)
        perform_session();
    starter_tell_payload(&starter);
    starter_start_program(&starter, argv);
}

int main(int argc, char **argv)
{
    inherited_take(&starter.inherited);
    if (privilege_begin())
        stop(0, "the plain starter is not to be setuid: sexec-suid is (reinstall it)");
    caller_read(&starter.caller);
    starter_receive(&starter, argc, argv);
    if (starter.request.payload_stage)
        starter_start_program(&starter, argv);
    proc_open();
    bool setuid_mode = become_target();
    starter_choose_mode(&starter, setuid_mode);
    if (setuid_mode && starter.plan.mode == MODE_USERNS)
        starter_hand_over(&starter, argv);
    starter_plan(&starter);
    starter_make_container(&starter);
    fuse_watch(&starter.plan);
    starter_leave_host(&starter, -1);
    become_program(argv);
}
