/* Mounts that the user asks for: binds, scratch directories, libraries of the host. Data only. */
#include "plan.h"

#include <string.h>
#include <sys/stat.h>

/* By insertion: the lists are short, and equal targets must keep their order, of which the last one shows. */
void steps_sort(struct step *steps, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct step step = steps[i];
        uint32_t place = i;
        for (; place > 0 && strcmp(steps[place - 1].target, step.target) > 0; place--)
            steps[place] = steps[place - 1];
        steps[place] = step;
    }
}

const char *plan_asked(const struct plan_inputs *inputs, const char *option)
{
    const struct request *request = inputs->request;

    for (uint32_t i = 0; i < request->variable_count; i++)
        if (strcmp(request->variable[i].second, option) == 0)
            return request->variable[i].first;
    return option;
}

static const char *bind_reason(const struct request *request, const struct request_entry *bind)
{
    uint64_t variable = bind->number >> BIND_VARIABLE;

    if (variable > 0 && variable <= request->variable_count)
        return request->variable[variable - 1].first;
    return bind->number & BIND_MOUNT ? "--mount" : "--bind";
}

/* Sorted by target, so that "/a" is mounted before "/a/b" and does not hide it. Only /dev keeps device nodes:
 * anywhere else a directory of the user's could bring one along (R-M1). */
static void add_binds(struct plan *plan, const struct request *request)
{
    uint32_t first = plan->step_count;

    for (uint32_t i = 0; i < request->bind_count; i++) {
        const struct request_entry *bind = &request->bind[i];
        const char *target = *bind->second != '\0' ? bind->second : bind->first;
        struct step *step = plan_add(plan, STEP_BIND, bind->first, target,
                                     STEP_NODEV | (bind->number & BIND_READONLY ? STEP_READONLY : 0),
                                     bind_reason(request, bind));
        step->missing_source = step->missing_target = LOSS_STOP;
        if (strcmp(target, "/dev") == 0 || strncmp(target, "/dev/", 5) == 0)
            step->flags &= ~(uint32_t)STEP_NODEV;
    }
    steps_sort(plan->steps + first, plan->step_count - first);
}

bool plan_has_target(const struct plan *plan, const char *target)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (strcmp(plan->steps[i].target, target) == 0)
            return true;
    return false;
}

/* Devices only where /dev is one of ours: the host's /dev has them already. */
static void add_library(struct plan *plan, const struct request_entry *library, uint32_t flags)
{
    const char *option = library_option(library->number);

    if (strncmp(library->second, "/dev/", strlen("/dev/")) != 0) {
        struct step *step = plan_add(plan, STEP_BIND, library->first, library->second, flags, option);
        step->library = library->number;
        if ((library->number & LIBRARY_OBJECT) || library->number >> LIBRARY_SET != 0)
            step->flags |= STEP_LIBRARY;
    } else if (plan->dev_staged) {
        plan_add(plan, STEP_BIND, library->first, library->second,
                 STEP_NOEXEC | (flags & (STEP_ROOT_OWNED | STEP_ROOT_NAMED)), option);
    }
}

/* Where users may bind nothing each library must be on a list of the site, belong to root, and be named by root all
 * the way up: the request alone is no reason to show a file (R-I9). In a user namespace it is: the user could bind
 * the file by himself. */
static void add_libraries(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;
    bool any_owner = inputs->config->user_bind_control || plan->mode == MODE_USERNS; /* where root's files show as nobody's */
    uint32_t usual = STEP_READONLY | STEP_NODEV | (any_owner ? 0 : STEP_ROOT_OWNED);
    bool fabric = false;

    if (request->library_count == 0)
        return;
    plan_add(plan, STEP_DIRECTORY, "libs", LIBRARIES_INSIDE, STEP_NODEV, "host libraries")->missing_target = LOSS_WARN;
    for (size_t i = 0; plan->mode == MODE_SETUID && i <= LIBRARY_FABRIC; i++)
        if (*inputs->host->lists[i].error.text != '\0')
            message_warning("%s", inputs->host->lists[i].error.text);
    for (uint32_t i = 0; i < request->library_count; i++) {
        const struct request_entry *library = &request->library[i];
        enum listed found = any_owner || plan->mode == MODE_ROOT ? LISTED_PATH : listed(library, inputs->host->lists);
        if (found == LISTED_NOT) {
            message_verbose("%s: %s is on no list of this site, and users may bind nothing here",
                            library_option(library->number), library->first);
            continue;
        }
        fabric |= (library->number & LIBRARY_OPTION) == LIBRARY_FABRIC;
        add_library(plan, library, usual | (found == LISTED_NAME ? STEP_ROOT_NAMED : 0));
    }
    if (fabric && !plan_has_target(plan, "/sys"))
        message_warning("--fabric: /sys is not mounted, so programs will not find the devices (/sys/class/infiniband)");
}

/* The caller's directory, unless it is the system's own or already there. The system's own directories are the
 * image's business: to show the host's /usr because somebody stands there would replace the image. */
static void add_cwd(struct plan *plan, const struct plan_inputs *inputs)
{
    static const char *const system[] = {"/", "/etc", "/bin", "/mnt", "/usr", "/var", "/opt", "/sbin", "/lib", "/lib64"};
    static const char *const kernel[] = {"/sys", "/proc", "/dev"};
    const struct request *request = inputs->request;
    const char *cwd = request->cwd;

    if (cwd == NULL || cwd[0] != '/' || request->contain || plan_kept_out(request, "cwd"))
        return;
    for (size_t i = 0; i < sizeof system / sizeof system[0]; i++)
        if (strcmp(cwd, system[i]) == 0)
            return;
    for (size_t i = 0; i < sizeof kernel / sizeof kernel[0]; i++)
        if (strncmp(cwd, kernel[i], strlen(kernel[i])) == 0 && strchr("/", cwd[strlen(kernel[i])]) != NULL)
            return;
    struct step *step = plan_add(plan, STEP_BIND, cwd, cwd, STEP_NODEV | STEP_UNLESS_SAME, "the current directory");
    step->missing_source = step->missing_target = LOSS_QUIET;
}

/* --home and --workdir end the launch, since the program would write to other places than the user thinks; binds are
 * left out with a warning, as scripts have always had it. */
static bool bind_control(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    const struct request *request = inputs->request;
    const char *path = inputs->config->path;

    if (request->home_source != NULL)
        return error_set(error, 0, "%s: not allowed here (\"user bind control = no\" in %s)", plan_asked(inputs, "--home"), path);
    if (request->workdir != NULL)
        return error_set(error, 0, "%s: not allowed here (\"user bind control = no\" in %s)", plan_asked(inputs, "--workdir"), path);
    if (request->bind_count > 0)
        message_warning("%s: ignored, not allowed here (\"user bind control = no\" in %s)",
                        bind_reason(request, &request->bind[0]), path);
    plan->binds_ignored = true;
    return true;
}

static void choose_directory(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;

    plan->directory_asked = request->target_cwd != NULL ? plan_asked(inputs, "--cwd") : NULL;
    plan->directory = request->target_cwd != NULL                 ? request->target_cwd
                      : request->contain && *plan->home != '\0' ? plan->home
                      : request->cwd != NULL                      ? request->cwd
                                                                  : "";
}

void plan_oci_directory(struct plan *plan, const char *workdir, bool placed)
{
    plan->directory = workdir;
    plan->directory_reason = "WORKDIR of the image";
    if (placed) /* quiet: a warning comes when the directory cannot be entered */
        plan_add(plan, STEP_PLACE, "-", workdir, STEP_NODEV | STEP_ONLY_IF_MISSING, plan->directory_reason)->missing_target = LOSS_QUIET;
}

bool path_climbs(const char *path)
{
    for (const char *at = path; (at = strstr(at, "..")) != NULL; at += 2)
        if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == '\0'))
            return true;
    return false;
}

/* ".." in a target would be resolved by the kernel after links of the image: where that is nobody can say in advance
 * (R-M4; CVE-2018-15664 and CVE-2021-30465 were such races in other runtimes). */
static bool targets_plain(const struct plan *plan, struct error *error)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const char *target = plan->steps[i].target;
        if (*target != '\0' && (target[0] != '/' || path_climbs(target) || target[strspn(target, "/")] == '\0'))
            return error_set(error, 0, "mount point %s: a path in the container is absolute, without \"..\", and not the "
                             "root itself (%s)", target, plan->steps[i].reason);
    }
    return true;
}

/* The front door makes them absolute: what a forged request names otherwise would depend on where the starter stands. */
static bool sources_absolute(const struct request *request, struct error *error)
{
    for (uint32_t i = 0; i < request->bind_count; i++)
        if (request->bind[i].first[0] != '/')
            return error_set(error, 0, "mount source %s: a path of the host is absolute (%s)", request->bind[i].first,
                             bind_reason(request, &request->bind[i]));
    return true;
}

bool plan_user_steps(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    choose_directory(plan, inputs);
    add_libraries(plan, inputs);
    if (!inputs->config->user_bind_control && inputs->caller->uid != 0)
        return bind_control(plan, inputs, error) && targets_plain(plan, error);
    add_binds(plan, inputs->request);
    add_cwd(plan, inputs);
    return sources_absolute(inputs->request, error) && targets_plain(plan, error);
}
