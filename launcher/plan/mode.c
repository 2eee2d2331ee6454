/* May this image be launched here, by which mode and mounted in which way: data only. */
#include "plan.h"

#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

/* Never cut: half a path would be another path. */
static const char *text_append(struct plan *plan, const char *format, va_list arguments)
{
    char *text = plan->text + plan->text_used;
    size_t room = sizeof plan->text - plan->text_used;
    int length = vsnprintf(text, room, format, arguments);

    if (length < 0 || (size_t)length >= room)
        stop(0, "the plan of this launch is too long");
    plan->text_used += (size_t)length + 1;
    return text;
}

const char *plan_text(struct plan *plan, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    const char *text = text_append(plan, format, arguments);
    va_end(arguments);
    return text;
}

void plan_text_more(struct plan *plan, const char *format, ...)
{
    va_list arguments;

    plan->text_used--;
    va_start(arguments, format);
    text_append(plan, format, arguments);
    va_end(arguments);
}

/* ---- by which means each part is mounted ---- */

/* Whether the configuration limits whose images, or images of which places, may run. */
static bool limited(const struct config *config)
{
    return config->limit_container_owners_count + config->limit_container_groups_count + config->limit_container_paths_count > 0;
}

/* "iflimited" is for sites that allow images of certain owners or places alone: only those can then reach the
 * kernel's parser. ext is off by default, as a mounted image that its owner goes on writing is an attack on the
 * kernel (R-I4; CVE-2023-30549); so is EROFS, which decompresses in place and in more ways than squashfs (CVE-2026-45999). */
static bool kernel_mounts(const struct config *config, enum filesystem filesystem)
{
    if (filesystem == FILESYSTEM_EXT)
        return config->setuid_extfs;
    enum config_choice choice = filesystem == FILESYSTEM_EROFS ? config->setuid_erofs : config->setuid_squashfs;
    return choice == CHOICE_YES || (choice == CHOICE_IFLIMITED && (limited(config) || *config->require_signature == '/'));
}

static void part_add(struct plan *plan, const struct image *image, const struct partition *partition, bool writable,
                     const char *source, const char *reason)
{
    if (plan->part_count == PLAN_PARTS)
        stop(0, "more than %d images and overlays in one launch", PLAN_PARTS);
    struct part *part = &plan->parts[plan->part_count++];
    *part = (struct part){.partition = *partition, .fd = image->fd, .writable = writable && !plan->dry, .source = source,
                          .reason = reason}; /* to look into it is enough for a dry run */
    part->way = partition->filesystem == FILESYSTEM_DIRECTORY ? WAY_BIND
                : plan->mode == MODE_USERNS || (plan->mode == MODE_ROOT && partition->no_kernel != NULL) ? WAY_FUSE
                                                                                                         : WAY_KERNEL;
}

/* ---- which mode ---- */

/* The kernel looks into an overlay's layers with the rights of whoever mounted it: below the setuid starter's overlay a
 * directory of the host would be open to users wherever another layer says so. An image's files are whoever can read it's. */
#define DIRECTORY_LAYER "the kernel would look into it with root's rights"

/* Reading such an image waits for a server that may be the user's: a loop device on it would hang everybody who looks at the
 * device (blkid, udev). Where images are limited, image_allowed() refuses it instead. */
static bool served(const struct image *image, const struct image_facts *facts, const struct config *config)
{
    return image->format != FORMAT_DIRECTORY && !limited(config) && facts->served;
}

/* Why the kernel may not mount this file system of an image, or NULL. */
static const char *kernel_obstacle(const struct config *config, const struct partition *partition)
{
    if (partition->filesystem == FILESYSTEM_DIRECTORY || kernel_mounts(config, partition->filesystem))
        return partition->no_kernel;
    return partition->filesystem == FILESYSTEM_EXT     ? "\"allow setuid-mount extfs = no\" in the configuration"
           : partition->filesystem == FILESYSTEM_EROFS ? "\"allow setuid-mount erofs\" in the configuration"
                                                       : "\"allow setuid-mount squashfs\" in the configuration";
}

/* What of an overlay is mounted: a SIF's own overlay partition goes before its root file system. */
static const struct partition *overlay_partition(const struct image *overlay)
{
    return overlay->overlay_count > 0 ? &overlay->overlays[0] : &overlay->root;
}

/* Why the kernel may not do for this user what the launch needs, or NULL. */
static const char *setuid_obstacle(const struct plan_inputs *inputs)
{
    const struct config *config = inputs->config;
    const struct image *image = inputs->image;
    const char *why = config->allow_setuid ? kernel_obstacle(config, &image->root) : "\"allow setuid = no\" in the configuration";

    for (uint32_t i = 0; why == NULL && i < image->overlay_count; i++)
        why = kernel_obstacle(config, &image->overlays[i]);
    if (why == NULL && !inputs->host->machines_namespace && image->format != FORMAT_DIRECTORY)
        why = "in a user namespace the kernel mounts no images";
    if (why != NULL || request_enters(inputs->request))
        return why;
    if (served(image, &inputs->host->image, config))
        return "the image lies in a FUSE file system";
    if (image->format == FORMAT_DIRECTORY && (inputs->request->overlay_count > 0 || inputs->request->writable_tmpfs))
        return "an overlay on a directory: " DIRECTORY_LAYER;
    for (uint32_t i = 0; i < inputs->request->overlay_count; i++) {
        const struct image *overlay = &inputs->overlays[i];
        if (overlay->format == FORMAT_DIRECTORY)
            return "an overlay directory: " DIRECTORY_LAYER;
        if ((why = kernel_obstacle(config, overlay_partition(overlay))) != NULL)
            return why;
        if (served(overlay, &inputs->host->overlays[i], config))
            return "an overlay image in a FUSE file system";
    }
    return NULL;
}

/* The order is what is needed first: --fakeroot and --userns ask for a user namespace by name; then the setuid
 * program if nothing stands against it; then root's own rights, if they are the machine's and not those of a user
 * namespace. */
static void choose_mode(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;
    const char *obstacle;

    plan->mode = MODE_USERNS;
    if (request->fakeroot)
        plan->mode_reason = plan_asked(inputs, "--fakeroot");
    else if (request->userns)
        plan->mode_reason = request->userns_reason != NULL ? request->userns_reason : plan_asked(inputs, "--userns");
    else if (inputs->setuid && (obstacle = setuid_obstacle(inputs)) != NULL)
        plan->mode_reason = obstacle;
    else if (inputs->setuid)
        plan->mode = MODE_SETUID, plan->mode_reason = "the setuid starter is installed and allowed";
    else if (inputs->host->machines_namespace && inputs->caller->uid == 0)
        plan->mode = MODE_ROOT, plan->mode_reason = "run by root";
    else if (inputs->caller->uid == 0)
        plan->mode_reason = "run by root of a user namespace";
    else
        plan->mode_reason = "started without the setuid starter";
}

/* What is asked for and not allowed is left out with a warning, since no namespace is less isolation and not more
 * rights; a mount namespace there always is (R-M3). */
static void choose_namespaces(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;
    const struct config *config = inputs->config;
    const struct {
        bool wanted, allowed;
        uint64_t flag;
        const char *name, *key;
    } table[] = {
        {plan->mode == MODE_USERNS, true, CLONE_NEWUSER, "user", ""},
        {true, true, CLONE_NEWNS, "mount", ""},
        {request->pid, config->allow_pid_ns, CLONE_NEWPID, "PID", "allow pid ns"},
        {request->ipc, config->allow_ipc_ns, CLONE_NEWIPC, "IPC", "allow ipc ns"},
        {request->uts, config->allow_uts_ns, CLONE_NEWUTS, "UTS", "allow uts ns"},
        {request->net, true, CLONE_NEWNET, "network", ""},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].wanted && !table[i].allowed)
            message_warning("no %s namespace: not allowed here (\"%s = no\" in %s)", table[i].name, table[i].key,
                            config->path);
        else if (table[i].wanted)
            plan->namespaces |= table[i].flag;
    }
    plan->init = (plan->namespaces & CLONE_NEWPID) && !request->no_init;
    plan->hostname = plan->namespaces & CLONE_NEWUTS ? request->hostname : NULL;
    plan->network_ports = plan->mode == MODE_USERNS && request->net ? request->network_ports : NULL;
}

/* A program that must be process 1 cannot share: the keeper is the first process of a shared container. */
static void choose_join(struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;
    bool first_process = (plan->namespaces & CLONE_NEWPID) && request->no_init;

    plan->keeper_fd = -1;
    plan->join = request->join_step != NULL && request->join_reason != NULL; /* each message names it */
    plan->join_reason = request->join_reason;
    plan->instance = request->instance != NULL;
    plan->init &= !plan->instance; /* its keeper */
    if (plan->join && first_process && !request->join_asked && !plan->instance) {
        plan->join = false;
        plan->join_reason = "--no-init: the program is the first process of its container";
    }
}

/* ---- what the configuration allows ---- */

static bool format_allowed(const struct image *image, const struct config *config, struct error *error)
{
    static const char *const keys[] = {"dir", "squashfs", "extfs", "sif", "erofs"};
    const bool allowed[] = {config->allow_container_dir, config->allow_container_squashfs,
                            config->allow_container_extfs, config->allow_container_sif, config->allow_container_erofs};

    return allowed[image->format] ||
           error_set(error, 0, "images of this format are not allowed here (\"allow container %s = no\" in %s)",
                     keys[image->format], config->path);
}

/* An instance ends by the end of its first process, so that nothing of it is left; who enters one has no other container. */
static bool instance_possible(const struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    const struct request *request = inputs->request;

    if (plan->instance && (!plan->join || (plan->dry && request_enters(request))))
        return error_set(error, 0, "launch request for an instance without one");
    return !plan->instance || (plan->namespaces & CLONE_NEWPID) ||
           error_set(error, 0, "an instance needs a PID namespace, which is not allowed here (\"allow pid ns = no\" in %s)",
                     inputs->config->path);
}

/* The rules on formats are for everyone; those on owners, groups and places bind where they can be enforced: in SUID mode. */
static bool image_allowed(const struct plan *plan, const struct image *image, const struct image_facts *facts,
                          const struct config *config, struct error *error)
{
    if (!format_allowed(image, config, error))
        return false;
    if (plan->mode != MODE_SETUID || !limited(config))
        return true;
    if (facts->served)
        return error_set(error, 0, "the image lies in a FUSE file system, whose owners and paths are what its server says, and "
                         "images are limited here (\"limit container ...\" in %s): copy it to another place", config->path);
    if (!facts->owner_listed)
        return error_set(error, 0, "the image belongs to uid %u, whose images are not allowed here "
                         "(\"limit container owners\" in %s)", (unsigned)image->owner, config->path);
    if (!facts->group_listed)
        return error_set(error, 0, "the image belongs to gid %u, whose images are not allowed here "
                         "(\"limit container groups\" in %s)", (unsigned)image->group, config->path);
    return facts->place_listed ||
           error_set(error, 0, "images are not allowed in this place (\"limit container paths\" in %s)", config->path);
}

static bool images_allowed(const struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    if (!image_allowed(plan, inputs->image, &inputs->host->image, inputs->config, error))
        return false;
    for (uint32_t i = 0; i < inputs->request->overlay_count; i++)
        if (!image_allowed(plan, &inputs->overlays[i], &inputs->host->overlays[i], inputs->config, error))
            return false;
    return true;
}

/* ---- which file systems make the root ---- */

/* A SIF is never written where the root file system is: its writable place is an overlay partition, the last one of
 * the file, which is topmost. */
static bool image_parts(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    const struct request *request = inputs->request;
    const struct image *image = inputs->image;
    bool sif = image->format == FORMAT_SIF;

    plan->image_writable = request->writable && !sif;
    if (request->writable && (request->writable_tmpfs || request->overlay_count > 0))
        return error_set(error, 0, "%s does not go with %s", plan_asked(inputs, "--writable"),
                         request->writable_tmpfs ? plan_asked(inputs, "--writable-tmpfs") : plan_asked(inputs, "--overlay"));
    if (request->writable && !sif && filesystem_read_only(image->root.filesystem))
        return error_set(error, 0, "%s: %s image cannot be written (%s: --writable-tmpfs instead lets the program "
                         "write into memory, --overlay into a directory or what \"singularity overlay create FILE\" makes)",
                         request->image, image->format == FORMAT_EROFS ? "an EROFS" : "a squashfs", plan_asked(inputs, "--writable"));
    if (request->writable && sif && (image->overlay_count == 0 || filesystem_read_only(image->overlays[image->overlay_count - 1].filesystem)))
        return error_set(error, 0, "no SIF writable overlay partition found in %s (%s: \"singularity overlay create IMAGE\" "
                         "adds one, --writable-tmpfs instead lets the program write into memory)", request->image,
                         plan_asked(inputs, "--writable"));
    part_add(plan, image, &image->root, plan->image_writable, request->image, "the image");
    for (uint32_t i = 0; i < image->overlay_count; i++) {
        bool writable = request->writable && i + 1 == image->overlay_count;
        if (writable)
            plan->writable_part = (int)plan->part_count;
        part_add(plan, image, &image->overlays[i], writable, request->image, "overlay partition of the image");
    }
    return true;
}

static bool overlay_parts(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    const struct request *request = inputs->request;

    plan->foreign_hint = request->fakeroot ? "with --fakeroot use one that \"singularity overlay create --fakeroot\" made, or append :ro"
                                           : "use it as its owner, with --fakeroot where it was made for that, or append :ro";
    if (request->overlay_count > 0 && inputs->config->enable_overlay == CHOICE_NO)
        return error_set(error, 0, "%s: not allowed here (\"enable overlay = no\" in %s)", plan_asked(inputs, "--overlay"),
                         inputs->config->path);
    for (uint32_t i = request->overlay_count; i-- > 0;) { /* the first named is topmost */
        const struct image *overlay = &inputs->overlays[i];
        const struct partition *partition = overlay_partition(overlay);
        bool writable = !(request->overlay[i].number & OVERLAY_READONLY) && !filesystem_read_only(partition->filesystem);
        if (writable && (plan->writable_part > 0 || request->writable_tmpfs))
            return error_set(error, 0, "overlay %s: only one overlay of a launch can be writable (append :ro to the others)",
                             request->overlay[i].first);
        if (writable)
            plan->writable_part = (int)plan->part_count;
        part_add(plan, overlay, partition, writable, request->overlay[i].first,
                 plan_asked(inputs, request->overlay[i].number & OVERLAY_THROWAWAY ? "--writable-tmpfs" : "--overlay"));
    }
    return true;
}

/* no_new_privs for everybody but real root: nothing in the container may gain rights by executing a file (R-L5;
 * Documentation/userspace-api/no_new_privs.rst). With --fakeroot the capabilities are those of the user namespace and
 * reach nothing outside of it (user_namespaces(7)). */
static bool choose_rights(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    const struct request *request = inputs->request;
    bool root = plan->mode == MODE_ROOT;

    plan->no_new_privs = !root || request->no_privs;
    plan->root_mapped = request->fakeroot, plan->id_ranges = request->id_ranges;
    plan->suid = root && request->allow_setuid;
    if (request->fakeroot || (root && !request->no_privs && (request->keep_privs || inputs->config->root_capabilities == CHOICE_FULL)))
        plan->keep_capabilities = UINT64_MAX & ~request->drop_caps;
    plan->keep_capabilities |= request->add_caps;
    if (!root && (request->allow_setuid || (request->keep_privs && !request->fakeroot)))
        return error_set(error, 0, "%s: for root alone", plan_asked(inputs, request->allow_setuid ? "--allow-setuid" : "--keep-privs"));
    return plan->mode != MODE_SETUID || request->add_caps == 0 ||
           error_set(error, 0, "%s: users get none in SUID mode (--userns gives them in a user namespace)", plan_asked(inputs, "--add-caps"));
}

/* The mode first, for the limits of the configuration bind only where they can be enforced; then what may not run,
 * before anything is said of how it would. */
bool plan_mode(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    plan->dry = inputs->request->dry_run != DRY_RUN_NO;
    plan->writable_part = inputs->request->writable_tmpfs ? 0 : -1;
    plan->oci_wanted = (inputs->request->oci_defaults || inputs->config->oci_defaults) && !inputs->request->no_oci_defaults;
    choose_mode(plan, inputs);
    if (plan->mode == MODE_USERNS && !inputs->config->allow_user_ns)
        return error_set(error, 0, "user namespaces are not allowed here (\"allow user ns = no\" in %s), and the setuid "
                         "starter cannot run this: %s", inputs->config->path, plan->mode_reason);
    if (!request_enters(inputs->request) && !images_allowed(plan, inputs, error))
        return false;
    if (!inputs->host->runs)
        return error_set(error, 0, "%s: the image's architecture (%s) could not run on the host's (%s)",
                         inputs->request->image, inputs->image->architecture, inputs->host->architecture);
    if (*inputs->config->sessiondir_prefix != '\0')
        message_verbose("\"sessiondir prefix\" has no use: what a launch needs is kept in memory");
    choose_namespaces(plan, inputs);
    choose_join(plan, inputs);
    if (!instance_possible(plan, inputs, error) || !choose_rights(plan, inputs, error))
        return false;
    plan->propagation_slave = inputs->config->mount_slave;
    plan->container_dir = inputs->config->container_dir;
    plan->loops_shared = inputs->config->shared_loop_devices;
    plan->loop_devices = (uint32_t)inputs->config->max_loop_devices;
    plan->session_size = inputs->config->sessiondir_max_size > 0
                             ? plan_text(plan, "%lluM", (unsigned long long)inputs->config->sessiondir_max_size) : "50%";
    return request_enters(inputs->request) || (image_parts(plan, inputs, error) && overlay_parts(plan, inputs, error));
}
