/* A launch without the setuid program: through a user namespace, or root's own; and, for sexec-suid in a container that is ready,
 * the start of the program. launch_here() is the whole launch; sexec_suid.c has the same stages. */
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inside.h"
#include "perform/data_images.h"
#include "perform/fuse_mounts.h"
#include "perform/guard.h"
#include "restrict/restrict.h"
#include "starter.h"
#include "trace.h"

/* Through its bytes, although both are in one process: what is launched is what a request can say, and each text and list is held
 * to the limits of one. Some microseconds, beside half a millisecond for a second program. */
static void take_request(struct launch *launch, const struct request *given)
{
    static uint8_t bytes[REQUEST_LIMIT]; /* too large for a stack that may be limited */
    struct error error = {0};
    size_t size = request_encode(given, bytes, sizeof bytes, &error);

    if (size == 0 || !request_decode(bytes, size, &launch->request, &error))
        stop(0, "%s", error.text);
}

/* Real root may launch for another user, as batch systems do: from here on as if that user had called sexec-suid. */
static bool become_target(struct launch *launch)
{
    const struct request *request = &launch->request;

    if ((request->target_uid == 0) != (request->target_gid == 0))
        stop(0, "SINGULARITY_TARGET_UID and SINGULARITY_TARGET_GID go together");
    if (request->target_uid == 0 || launch->caller.uid != 0)
        return false;
    if (request->target_uid - 1 < 500 || request->target_gid - 1 < 500 || request->target_uid > UINT32_MAX - 1 ||
        request->target_gid > UINT32_MAX - 1)
        stop(0, "SINGULARITY_TARGET_UID and SINGULARITY_TARGET_GID: ids of users are 500 and above");
    privilege_begin_for((uid_t)(request->target_uid - 1), (gid_t)(request->target_gid - 1));
    caller_read(&launch->caller);
    return true;
}

static _Noreturn void become_program(struct launch *launch, char **argv)
{
    struct plan *plan = &launch->plan;
    struct ids ids = {plan->user.uid, plan->user.gid, plan->user.groups, plan->user.group_count};
    bool chosen = restrict_ids(&launch->request, plan->mode != MODE_SETUID, &ids);

    if (chosen && ids.uid != 0) { /* who leaves root's id leaves what is not asked for by name (capabilities(7)) */
        plan->keep_capabilities = launch->request.add_caps;
        plan->no_new_privs |= !plan->suid;
        if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
            stop(errno, "keep capabilities");
    }
    if (chosen || plan->user.way == USER_REAL)
        privilege_become(&ids, plan->keep_capabilities);
    privilege_end(&launch->caller, plan->keep_capabilities, plan->no_new_privs);
    restrict_keep(launch->request.add_caps & plan->keep_capabilities);
    perform_follow(plan); /* again: the kernel forgets PR_SET_PDEATHSIG whenever ids change (prctl(2)) */
    perform_init(plan);   /* with the program's ids, so that it and its init can signal each other */
    if (launch->request.new_session)
        perform_session(); /* in the program's process: the init's would be another session */
    launch_tell_payload(launch);
    launch_start_program(launch, argv);
}

/* What the image server alone sees: that serves the image, and not the kernel. */
static void watch_image(struct launch *launch)
{
    const struct request *request = &launch->request;
    struct partition *root = &launch->images.image.root;

    if (request_enters(request) || (request->trace == NULL && !request->names_removed))
        return;
    if (root->filesystem == FILESYSTEM_SQUASHFS)
        root->no_kernel = request->trace != NULL ? "--trace: the image server sees which names are used"
                                                 : "the image server tells which of the names are missed that build --only has removed";
    else if (request->trace != NULL)
        stop(0, "--trace: %s is no SIF or squashfs file, and of others nobody sees which names are used (singularity build NEW.sif %s makes "
             "one)", request->image, request->image);
}

/* As the user, and before the container's mounts hide it. */
static void watch_begin(struct launch *launch)
{
    const struct request *request = &launch->request;
    struct plan *plan = &launch->plan;
    const char *why;

    plan->tells_removed = request->names_removed && !plan->dry;
    if (request->trace == NULL || plan->dry || request_enters(request))
        return;
    plan->trace_file = request->trace;
    mode_t own = umask(launch->inherited.mask); /* the caller's file, as he has his files */
    plan->trace_fd = trace_open(request->trace, &why);
    (void)umask(own);
    if (plan->trace_fd < 0)
        stop(errno, "--trace %s: %s", request->trace, why);
}

/* A program of the container that serves a file system in it: started as the program of the launch is, with its environment and its
 * restrictions, and one descriptor more. */
static _Noreturn void become_fuse_program(struct launch *launch, uint32_t number)
{
    char *words[2 + FUSE_WORDS + 3] = {(char[]){"sexec"}, (char[]){""}};
    struct fuse_mounts *mounts = launch->plan.fuse_mounts;
    int device = mounts->devices[number];

    for (uint32_t i = 0; i < launch->plan.step_count; i++)
        launch->plan.steps[i].facts.made_fd = -1; /* account files, which the launch itself will write */
    launch->plan.init = launch->plan.emulates = launch->request.new_session = false;
    launch->plan.report_fd = launch->plan.alive_fd = 0;
    launch->plan.directory = launch->request.cwd = "/"; /* the caller's may be in what this program is to serve */
    launch->plan.directory_asked = launch->request.target_cwd = NULL;
    launch->request.action = ACTION_EXEC, launch->request.app = NULL;
    launch->request.instance = NULL, launch->request.instance_starts = false; /* nobody is told of this one */
    launch->request.keep_fd[0].number = (uint64_t)device, launch->request.keep_fd_count = 1;
    fuse_mounts_settle();
    if (fcntl(device, F_SETFD, 0) < 0)
        stop(errno, "--fusemount: /dev/fuse");
    fuse_mounts_words(mounts->asked[number], device, words + 2);
    launch_leave_host(launch, -1);
    become_program(launch, words);
}

/* Two forks: nobody's child, so that the program does not meet it in wait(2). */
static void start_fuse_programs(struct launch *launch)
{
    const struct fuse_mounts *mounts = launch->plan.fuse_mounts;

    for (uint32_t i = 0; mounts != NULL && i < mounts->count; i++) {
        if (mounts->asked[i]->number & FUSE_HOST)
            continue;
        pid_t child = fork();
        if (child < 0)
            stop(errno, "--fusemount: %s", mounts->asked[i]->second);
        if (child == 0) {
            if (fork() != 0)
                _exit(0);
            become_fuse_program(launch, i);
        }
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    fuse_mounts_check(&launch->plan);
}

_Noreturn void launch_here(const struct request *given, char **line, int argc, char **argv)
{
    static struct launch launch;
    static struct data_images data;
    static struct fuse_mounts fuse_mounts;

    inherited_take(&launch.inherited); /* first: messages need open streams, and the caller's signals and timers must not end us */
    if (privilege_begin())
        stop(0, "the plain starter is not to be setuid: sexec-suid is (reinstall it)");
    caller_read(&launch.caller);
    if (given != NULL) {
        take_request(&launch, given);
        /* all users of the machine can read argv, and processes of this launch wait as long as its program runs: nobody is shown its
         * options, which may be secrets (proc_pid_cmdline(5)); no earlier, for the texts of the request were those of the command line */
        outside_hide_options(line, argv + 2, argv[0]);
    } else {
        launch_receive(&launch, argc, argv);
    }
    if (launch.request.payload_stage) /* the container is ready and all privilege gone: nothing below is wanted */
        launch_start_program(&launch, argv);
    proc_open(); /* from here on the kernel is asked of this process through this mount, whatever lies over /proc later */
    bool setuid_mode = become_target(&launch); /* before the first path is opened: what root may read is not what the user may */

    launch_find_facts(&launch, setuid_mode); /* read-only: nothing above or in it has changed the host */
    watch_image(&launch);
    launch_plan_mode(&launch);
    if (setuid_mode && launch.plan.mode == MODE_USERNS)
        launch_hand_over(&launch, argv); /* here: a user namespace is made by a process that never had more rights */
    launch_check_signatures(&launch);
    launch_plan_mounts(&launch);
    data_images_open(&data, &launch.plan, &launch.inputs);
    fuse_mounts_plan(&fuse_mounts, &launch.plan, &launch.inputs, inherited_environment(&launch.inherited));

    watch_begin(&launch);
    launch_prepare(&launch);
    linger_use(&launch.plan, &launch.inputs); /* in place of a server of its own */
    launch.rendezvous.outside = launch.plan.mode == MODE_USERNS ? &outside_keeper : NULL; /* root's id proves enough */
    if (!launch_join(&launch)) { /* first: a container that is shared already needs no image of its own */
        guard_lock(&launch.plan, &launch.request); /* on the host, which is out of sight next */
        int root = launch_open_image(&launch);
        if (launch.plan.dry)
            launch_show(&launch, root);
        data_images_find(&launch.plan, &launch.stage); /* sources that no directory of the host has; so are the next */
        fuse_mounts_make(&launch.plan, &launch.stage);
        facts_image(&launch.plan, &launch.inputs, root); /* as late as this: before, the image file showed nothing */
        launch_plan_root(&launch);
        launch_make_root(&launch);
        start_fuse_programs(&launch);
    }
    if (launch.request.action == ACTION_LINGER)
        linger_prepare(&launch.plan, &launch.request);
    launch.plan.emulates = launch.plan.root_mapped;
    launch.plan.one_id = launch.plan.root_mapped && user_namespace_maps_one(); /* here: the next line but one forgets /proc */
    fuse_watch(&launch.plan);       /* here: it watches "/", which is the container's now; so does the next */
    guard_watch(&launch.plan);
    join_stay(&launch.plan, &launch.inputs, &launch.rendezvous);
    launch_leave_host(&launch, -1); /* before a file of the image is read: nothing that is open leads out (CVE-2024-21626) */
    become_program(&launch, argv);
}
