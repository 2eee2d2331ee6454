/* Which mounts are wanted, and in which order: data only. */
#include "plan.h"

#include <sched.h>
#include <string.h>
#include <sys/stat.h>

struct step *plan_add(struct plan *plan, enum step_kind kind, const char *source, const char *target, uint32_t flags,
                      const char *reason)
{
    if (plan->step_count == PLAN_STEPS)
        stop(0, "more than %d mounts in one launch", PLAN_STEPS);
    struct step *step = &plan->steps[plan->step_count++];
    *step = (struct step){.kind = kind, .source = source, .target = target, .reason = reason,
                          .flags = flags | (plan->suid ? STEP_SUID : 0),
                          .missing_source = LOSS_WARN, .missing_target = LOSS_WARN, .facts = {.source_fd = -1, .made_fd = -1}};
    return step;
}

static void add_filesystem(struct plan *plan, const char *type, const char *options, const char *target, uint32_t flags,
                           const char *reason)
{
    plan_add(plan, STEP_FILESYSTEM, type, target, flags, reason)->content = options;
}

bool plan_kept_out(const struct request *request, const char *word)
{
    for (uint32_t i = 0; i < request->no_mount_count; i++)
        if (strcmp(request->no_mount[i].first, word) == 0)
            return true;
    return false;
}

/* ---- /dev ---- */

/* A devpts of our own (Documentation/filesystems/devpts.rst): its ptmx is 0000 unless ptmxmode says otherwise, and
 * /dev/ptmx must be a link to it. Group 5 is tty, which a user namespace with one mapped group cannot name: the
 * kernel would refuse the mount. */
static void add_devpts(struct plan *plan, const struct plan_inputs *inputs, const char *reason)
{
    if (!inputs->config->mount_devpts || plan_kept_out(inputs->request, "devpts"))
        return;
    plan_add(plan, STEP_DIRECTORY, "dev/pts", "", 0, reason);
    add_filesystem(plan, "devpts", plan->mode == MODE_USERNS ? "newinstance,mode=0620,ptmxmode=0666"
                                                             : "newinstance,mode=0620,ptmxmode=0666,gid=5",
                   "/dev/pts", STEP_NOEXEC, reason);
    plan_add(plan, STEP_LINK, "pts/ptmx", "/dev/ptmx", 0, reason);
}

/* Nodes of the host are bound one by one: in a user namespace mknod(2) is refused for devices (user_namespaces(7)),
 * and these six give access to no hardware but the caller's own terminal. The links are those that programs expect of
 * a /dev (udev makes the same). */
static void add_staged_dev(struct plan *plan, const struct plan_inputs *inputs, const char *reason)
{
    static const char *const nodes[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}};

    plan->dev_staged = true;
    plan_add(plan, STEP_DIRECTORY, "dev", "/dev", STEP_NOEXEC, reason);
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++)
        plan_add(plan, STEP_BIND, nodes[i], nodes[i], STEP_NOEXEC, reason);
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        plan_add(plan, STEP_LINK, links[i][0], links[i][1], 0, reason);
    add_filesystem(plan, "tmpfs", "mode=1777", "/dev/shm", STEP_NODEV | STEP_NOEXEC, reason);
    add_devpts(plan, inputs, reason);
    if (plan->namespaces & CLONE_NEWIPC)
        add_filesystem(plan, "mqueue", "", "/dev/mqueue", STEP_NODEV | STEP_NOEXEC, reason);
}

static void add_dev(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct config *config = inputs->config;

    if (config->mount_dev == CHOICE_NO || plan_kept_out(inputs->request, "dev"))
        return;
    if (config->mount_dev == CHOICE_MINIMAL)
        add_staged_dev(plan, inputs, "mount dev = minimal");
    else if (inputs->request->contain)
        add_staged_dev(plan, inputs, "--contain");
    else
        plan_add(plan, STEP_BIND, "/dev", "/dev", 0, "default (mount dev)");
}

/* ---- /proc, /sys ---- */

/* A PID namespace needs a proc of its own, or programs would see processes by numbers that are not theirs; a network
 * namespace the same of /sys/class/net. Without these the host's are shown as they are, with their own submounts. In
 * a user namespace the kernel refuses a new proc where parts of the one around it are covered (mount_too_revealing()
 * in fs/namespace.c): then the step is lost with a warning. */
static void add_kernel_filesystems(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct config *config = inputs->config;

    if (config->mount_proc && !plan_kept_out(inputs->request, "proc")) {
        if (plan->namespaces & CLONE_NEWPID)
            add_filesystem(plan, "proc", "", "/proc", STEP_NODEV | STEP_NOEXEC, "the PID namespace");
        else
            plan_add(plan, STEP_BIND, "/proc", "/proc", STEP_NODEV | STEP_NOEXEC, "default (mount proc)");
    }
    if (!config->mount_sys || plan_kept_out(inputs->request, "sys"))
        return;
    if (plan->namespaces & CLONE_NEWNET)
        add_filesystem(plan, "sysfs", "", "/sys", STEP_NODEV | STEP_NOEXEC, "the network namespace");
    else
        plan_add(plan, STEP_BIND, "/sys", "/sys", STEP_NODEV | STEP_NOEXEC, "default (mount sys)");
}

/* ---- file systems of the host, bind path ---- */

static void add_host_mounts(struct plan *plan, const struct plan_inputs *inputs)
{
    const char *const *mounts = inputs->host->mounts;

    if (mounts == NULL || inputs->request->contain || plan_kept_out(inputs->request, "hostfs"))
        return;
    for (; *mounts != NULL; mounts++) {
        struct step *step = plan_add(plan, STEP_BIND, *mounts, *mounts, STEP_NODEV, "mount hostfs");
        step->missing_source = step->missing_target = LOSS_QUIET;
    }
}

/* The name of the host and its time zone, without which programs would be wrong about where they are; neither says
 * anything of the user. */
static bool kept_with_contain(const char *source)
{
    return strcmp(source, "/etc/hosts") == 0 || strcmp(source, "/etc/localtime") == 0;
}

/* An entry is "source" or "source:target"; blanks beside the colon are the file's, not the path's. The reason names
 * the line, so that users can ask about it. */
static void add_config_binds(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct config *config = inputs->config;

    for (uint32_t i = 0; i < config->bind_path_count; i++) {
        const char *text = config->bind_path[i].text, *colon = strchr(text, ':');
        int length = colon != NULL ? (int)(colon - text) : (int)strlen(text);
        while (length > 0 && text[length - 1] == ' ')
            length--;
        const char *source = plan_text(plan, "%.*s", length, text);
        const char *target = colon != NULL ? colon + 1 + strspn(colon + 1, " ") : source;
        bool everyday = kept_with_contain(source);
        if (plan_kept_out(inputs->request, "bind-paths") || plan_kept_out(inputs->request, source) ||
            (inputs->request->contain && !everyday))
            continue;
        struct step *step = plan_add(plan, STEP_BIND, source, target, STEP_NODEV,
                                     plan_text(plan, "bind path, line %u of the configuration", config->bind_path[i].line));
        if (everyday)
            step->missing_source = step->missing_target = LOSS_QUIET;
    }
}

/* ---- home, tmp, scratch ---- */

/* STEP_OWN where users may bind nothing: the home directory is named by the front door, and a forged request may name
 * any directory (R-I9). */
static void add_home(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;
    const char *home = request->fakeroot ? "/root" : request->account_home;
    const char *source = request->account_home;
    struct step *step = NULL;

    if (request->home_source != NULL) {
        source = request->home_source;
        home = request->home_target != NULL ? request->home_target : source;
    }
    plan->home = home != NULL ? home : "";
    if (request->no_home || !inputs->config->mount_home || plan_kept_out(request, "home") || home == NULL)
        return;
    if (strcmp(home, "/") == 0) {
        message_verbose("no home directory is mounted: it would be \"/\"");
        return;
    }
    if (request->home_source == NULL && request->contain && request->workdir != NULL)
        step = plan_add(plan, STEP_BIND, plan_text(plan, "%s/home", request->workdir), home, STEP_NODEV | STEP_MAKE_SOURCE,
                        plan_text(plan, "--contain, %s", plan_asked(inputs, "--workdir")));
    else if (request->home_source == NULL && request->contain)
        plan_add(plan, STEP_DIRECTORY, "home", home, STEP_NODEV, "--contain");
    else if (source != NULL) /* --fakeroot without an account: nothing to show as /root */
        step = plan_add(plan, STEP_BIND, source, home, STEP_NODEV | STEP_IS_DIRECTORY | (request->home_readonly ? STEP_READONLY : 0),
                        request->home_source != NULL ? plan_asked(inputs, "--home") : "default (mount home)");
    if (step != NULL && !inputs->config->user_bind_control && plan->mode == MODE_SETUID) { /* who forges a request names any */
        step->flags |= STEP_OWN;
        step->skipped = inputs->host->home == NULL || strcmp(inputs->host->home, source) == 0
                            ? NULL : "/etc/passwd names another home directory";
    }
    if (step != NULL && (request->home_source != NULL || (request->contain && request->workdir != NULL)))
        step->missing_source = step->missing_target = LOSS_STOP;
}

/* STEP_UNLESS_SAME: "mount hostfs" may have shown a /tmp that is a file system of its own. */
static void add_tmp(struct plan *plan, const struct plan_inputs *inputs)
{
    static const char *const names[][2] = {{"/tmp", "tmp"}, {"/var/tmp", "var_tmp"}};
    const struct request *request = inputs->request;

    if (!inputs->config->mount_tmp || plan_kept_out(request, "tmp"))
        return;
    for (size_t i = 0; i < 2; i++) {
        struct step *step;
        if (!request->contain)
            step = plan_add(plan, STEP_BIND, names[i][0], names[i][0], STEP_NODEV | STEP_UNLESS_SAME, "default (mount tmp)");
        else if (request->workdir != NULL)
            step = plan_add(plan, STEP_BIND, plan_text(plan, "%s/%s", request->workdir, names[i][1]), names[i][0],
                            STEP_NODEV | STEP_MAKE_SOURCE | STEP_STICKY,
                            plan_text(plan, "--contain, %s", plan_asked(inputs, "--workdir")));
        else
            step = plan_add(plan, STEP_DIRECTORY, names[i][1], names[i][0], STEP_NODEV | STEP_STICKY, "--contain");
        step->missing_source = request->contain ? LOSS_STOP : LOSS_QUIET;
        step->missing_target = request->contain && request->workdir != NULL ? LOSS_STOP : LOSS_QUIET;
    }
}

static void add_scratch(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;

    if (request->scratch_count > 0 && !inputs->config->user_bind_control && inputs->caller->uid != 0) {
        message_warning("%s: ignored, not allowed here (\"user bind control = no\" in %s)", plan_asked(inputs, "--scratch"),
                        inputs->config->path);
        return;
    }
    for (uint32_t i = 0; i < request->scratch_count; i++) {
        const char *target = request->scratch[i].first;
        const char *name = target + strspn(target, "/");
        struct step *step =
            request->workdir != NULL
                ? plan_add(plan, STEP_BIND, plan_text(plan, "%s/scratch/%s", request->workdir, name), target,
                           STEP_NODEV | STEP_MAKE_SOURCE,
                           plan_text(plan, "%s, %s", plan_asked(inputs, "--scratch"), plan_asked(inputs, "--workdir")))
                : plan_add(plan, STEP_DIRECTORY, plan_text(plan, "scratch/%s", name), target, STEP_NODEV,
                           plan_asked(inputs, "--scratch"));
        step->missing_source = step->missing_target = LOSS_STOP;
    }
}

/* ---- files of /etc ---- */

static struct step *add_file(struct plan *plan, const char *name, const char *target, uint32_t flags, const char *reason)
{
    struct step *step = plan_add(plan, STEP_FILE, name, target, flags | STEP_NODEV | STEP_READONLY, reason);
    step->missing_target = LOSS_QUIET;
    return step;
}

static const char *nameservers(struct plan *plan, const char *addresses)
{
    const char *text = plan_text(plan, "%s", "");

    while (*addresses != '\0') {
        size_t length = strcspn(addresses, ",");
        plan_text_more(plan, "nameserver %.*s\n", (int)length, addresses);
        addresses += length + (addresses[length] == ',' ? 1 : 0);
    }
    return text;
}

/* Not while root writes the image: what is bound over /etc/passwd would take changes by useradd(8) away from the file
 * that is to be changed. */
static void add_files(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;
    const struct config *config = inputs->config;
    bool root = inputs->caller->uid == 0 && !request->fakeroot;

    if (config->config_passwd && !(root && request->writable))
        add_file(plan, "passwd", "/etc/passwd", STEP_PASSWD | STEP_ONLY_IF_FILE, "config passwd");
    if (config->config_group && !(root && request->writable))
        add_file(plan, "group", "/etc/group", STEP_GROUP | STEP_ONLY_IF_FILE, "config group");
    if (request->dns != NULL) {
        struct step *step = add_file(plan, "resolv.conf", "/etc/resolv.conf", 0, plan_asked(inputs, "--dns"));
        step->content = nameservers(plan, request->dns);
        step->missing_target = LOSS_STOP;
    } else if (config->config_resolv_conf && !plan_kept_out(request, "/etc/resolv.conf")) {
        struct step *step = plan_add(plan, STEP_BIND, "/etc/resolv.conf", "/etc/resolv.conf", STEP_NODEV, "config resolv_conf");
        step->missing_source = step->missing_target = LOSS_QUIET;
    }
    if (plan->hostname != NULL)
        add_file(plan, "hostname", "/etc/hostname", 0, "--hostname")->content = plan_text(plan, "%s\n", plan->hostname);
}

/* This order is the order of mounts and is fixed here, never by the user's words (R-M9): what stands later lies on
 * top. /dev comes before what is mounted below it, the user's own binds come last so that they are not hidden. */
bool plan_steps(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    plan->home = "", plan->directory = "/";
    if (inputs->request->action == ACTION_LINGER) /* nobody looks at it, and nothing of the host is to be kept busy */
        return true;
    add_dev(plan, inputs);
    add_host_mounts(plan, inputs);
    add_kernel_filesystems(plan, inputs);
    add_config_binds(plan, inputs);
    add_tmp(plan, inputs);
    add_home(plan, inputs);
    add_scratch(plan, inputs);
    add_files(plan, inputs);
    return plan_user_steps(plan, inputs, error);
}
