/* The container's namespaces, the session directory, and the file systems of its images. Raises privilege for single calls;
 * the order of those is argued in enter_namespaces() and perform_images(). */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"

/* ---- namespaces ---- */

/* A new network namespace has a loopback interface that is down. A warning only: a program that never talks to itself
 * does not miss it. CAP_NET_ADMIN over the network namespace is what it takes (netdevice(7)). */
static void loopback_up(void)
{
    struct ifreq interface = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    OWNED_FD network = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (network < 0 || PRIVILEGE_RAISED("SIOCSIFFLAGS", PRIVILEGE_NETWORK, ioctl(network, SIOCSIFFLAGS, &interface)) < 0)
        message_warning("the loopback interface stays down: %s", errno_words(errno));
}

void perform_unshare(int flags, const char *why_not)
{
    if (flags != 0 && PRIVILEGE_RAISED("unshare", PRIVILEGE_MOUNT, unshare(flags)) < 0)
        stop(errno, "%s", why_not);
}

/* The user namespace first, for it brings the rights over the others (user_namespaces(7)); then the rest at once; the fork, for
 * only children are in a new PID namespace. Whoever waits for a file system server stays out of the mount namespace, which would
 * keep the server's mount busy. Propagation ends before the first mount, or the host would see it (mount_namespaces(7)). */
static void enter_namespaces(struct plan *plan, const struct caller *caller, struct fuse *servers)
{
    static const char why_not[] = "make the container's namespaces";
    int left = unprivileged_namespaces(plan, caller, servers), later = plan->server_fd > 0 ? left & CLONE_NEWNS : 0;

    perform_unshare(left & ~later, why_not);
    perform_fork(plan, caller);
    perform_unshare(later, why_not);
    if (mount_propagation(plan->propagation_slave) < 0)
        stop(errno, "separate the container's mounts from the host's (the root directory here is no mount: a chroot?)");
    if (plan->namespaces & CLONE_NEWNET)
        loopback_up();
    if (plan->hostname != NULL &&
        PRIVILEGE_RAISED("sethostname", PRIVILEGE_MOUNT, sethostname(plan->hostname, strlen(plan->hostname))) < 0)
        stop(errno, "set the host name %s", plan->hostname);
}

/* ---- the session directory ---- */

/* The configured directory. Without an installation the root directory: what is mounted over it is not in the way of
 * a process that stands below, and nothing of the host is hidden. */
static int session_place(const struct plan *plan, const char *otherwise)
{
    int place = open(plan->container_dir, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (place < 0 && plan->mode != MODE_SETUID)
        place = open(otherwise, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (place < 0)
        stop(errno, "container dir %s (make it, owned by root)", plan->container_dir);
    return place;
}

/* tmpfs: in memory, so that a launch leaves nothing behind however it ends (R-B1), and owned by the user, who makes
 * directories in it with his own rights. Its size is limited, since no quota of the user's counts it. It is the
 * current directory from here on, which keeps it reachable when its mount point is covered. */
static void mount_session(const struct plan *plan, struct stage *stage, const struct caller *caller)
{
    char options[128];
    bool mapped = plan->root_mapped;
    struct new_filesystem filesystem = {.type = "tmpfs", .source = "singularity", .options = options,
                                        .attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, .privilege = PRIVILEGE_MOUNT};
    OWNED_FD place = session_place(plan, "/");

    snprintf(options, sizeof options, "mode=0755,uid=%u,gid=%u,size=%s", mapped ? 0 : (unsigned)caller->uid,
             mapped ? 0 : (unsigned)caller->gid, plan->session_size);
    stage->session.fd = mount_new(&stage->session, &filesystem);
    if (stage->session.fd < 0 && errno == ENOSYS) {
        OWNED_FD visible = session_place(plan, "/mnt");
        stage->session.fd = mount_first(visible, &filesystem);
    } else if (stage->session.fd >= 0 && mount_attach(stage->session.fd, place) < 0)
        stop(errno, "attach the session directory to %s", plan->container_dir);
    if (stage->session.fd < 0 || fchdir(stage->session.fd) < 0)
        stop(errno, "mount the session directory");
}

/* ---- the parts ---- */

static uint64_t part_attributes(const struct plan *plan, const struct part *part)
{
    return (plan->suid ? 0 : MOUNT_ATTR_NOSUID) | MOUNT_ATTR_NODEV | (part->writable ? 0 : MOUNT_ATTR_RDONLY);
}

/* ext: `noload` leaves the journal alone, which read-only images must (their replay would write); `errors=remount-ro`
 * in place of a panic, since the superblock of the image says what happens on an error and anybody may have written
 * it (R-I4; CVE-2023-30549 is why setuid launches mount no ext by default). squashfs: `errors=continue` for the same
 * reason; on blocks of a page's size, since only then the kernel keeps the tables that it has read (Linux 6.3; else an import
 * of Python reads each some thirty times, its own cache being eight blocks): never the last bytes of an image of other size.
 * EROFS has none of these: it stops at nothing, and keeps what it reads. */
static const struct {
    const char *type, *options; /* of one that is not written */
} kernel_types[] = {[FILESYSTEM_SQUASHFS] = {"squashfs", "ro,errors=continue"},
                    [FILESYSTEM_EXT] = {"ext4", "ro,errors=remount-ro,noload"},
                    [FILESYSTEM_EROFS] = {"erofs", "ro"}};

/* Who finds the file unchanged need not read all of it again. */
static void remember(const struct part *part)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, SEALS_KNOWN "%s", part->seal.known);
    OWNED_FD file = PRIVILEGE_RAISED("open", PRIVILEGE_ROOT, open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
}

static int mount_kernel(const struct plan *plan, const struct stage *stage, const struct part *part)
{
    bool squashfs = part->partition.filesystem == FILESYSTEM_SQUASHFS;
    struct loop_request request = {.file = part->fd, .offset = part->partition.offset, .size = part->partition.size,
                                   .writable = part->writable, .shared = plan->loops_shared, .devices = plan->loop_devices,
                                   .block = squashfs && part->partition.size % 4096 == 0 ? 4096 : 0};
    struct loop loop;

    if (part->seal.remember)
        remember(part);
    if (part->seal.tree != 0)
        request.size = part->seal.end - request.offset;
    if (!loop_attach(&request, &loop))
        stop(errno, "attach %s to a loop device%s", part->source,
             errno == ENOSPC ? " (\"max loop devices\" in the configuration)" : "");
    if (part->seal.tree != 0 && !loop_seal(&part->seal, &loop))
        stop(errno, "check what is read of %s by dm-verity (has the kernel it? modprobe dm_verity)", part->source);
    OWNED_FD device = loop.fd;
    struct new_filesystem filesystem = {.type = kernel_types[part->partition.filesystem].type, .source = loop.path,
                                        .attributes = part_attributes(plan, part), .privilege = PRIVILEGE_ROOT};
    filesystem.options = part->writable ? "errors=remount-ro" : kernel_types[part->partition.filesystem].options;
    int tree = mount_new(&stage->session, &filesystem);
    if (tree < 0 && errno == EINVAL && squashfs) { /* before Linux 5.17 squashfs knows no "errors" */
        filesystem.options = "ro";
        tree = mount_new(&stage->session, &filesystem);
    }
    if (tree < 0)
        stop(errno, "mount %s (damaged, or of a kind or compressed in a way that this kernel does not read?)", part->source);
    struct stat root, block; /* between the two calls the device could have been freed and taken by another launch */
    if (fstat(tree, &root) < 0 || fstat(device, &block) < 0 || root.st_dev != block.st_rdev)
        stop(0, "%s: the kernel mounted another device", part->source);
    return tree;
}

/* nosuid and nodev by a second call on the detached tree: mount(2) with MS_BIND ignores them. */
int part_bind(const struct plan *plan, const struct stage *stage, const struct part *part, int here)
{
    int tree = mount_clone(&stage->session, here, true);

    if (tree < 0 || mount_restrict(tree, part_attributes(plan, part)) < 0)
        stop(errno, "mount the directory %s", part->source);
    return tree;
}

/* The image's own directory, or what the plain starter alone has: overlay directories, and file systems that are served. */
static int mount_other(const struct plan *plan, const struct stage *stage, uint32_t number, int here, struct fuse *servers)
{
    const struct part *part = &plan->parts[number];

    return part->way == WAY_BIND && number == 0 ? part_bind(plan, stage, part, here)
                                                : unprivileged_part(plan, stage, part, &servers[number]);
}

/* A directory image is reached by the current directory, which moves into a new mount namespace with its process (unshare(2));
 * a descriptor from before would stay with the old one's mounts. */
void perform_images(struct plan *plan, struct stage *stage, const struct caller *caller)
{
    struct fuse servers[PLAN_PARTS];
    static int trees[PLAN_PARTS];

    session_begin(&stage->session);
    if (plan->parts[0].way == WAY_BIND && fchdir(plan->parts[0].fd) < 0)
        stop(errno, "%s", plan->parts[0].source);
    enter_namespaces(plan, caller, servers);
    OWNED_FD here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    /* the sources are found no earlier, since open_tree(2) copies no mounts of another namespace, and copied no later, since the
     * session is mounted on the host's tree next and would be in the copies (Linux 5.12) */
    if (!plan->dry)
        perform_sources(plan, &stage->session);
    for (uint32_t i = 0; i < plan->part_count; i++)
        trees[i] = plan->parts[i].way == WAY_BIND && !stage->session.staged ? mount_other(plan, stage, i, here, servers) : -1;
    mount_session(plan, stage, caller);
    for (uint32_t i = 0; i < plan->part_count; i++) {
        const struct part *part = &plan->parts[i];
        int tree = part->way == WAY_KERNEL ? mount_kernel(plan, stage, part)
                   : trees[i] >= 0         ? trees[i]
                                           : mount_other(plan, stage, i, here, servers);
        char name[32];
        snprintf(name, sizeof name, "part%u", i);
        /* O_NOFOLLOW although the session directory is ours alone: nothing that is mounted should ever depend on what a link says */
        OWNED_FD place = session_entry(&stage->session, name, true, O_PATH | O_DIRECTORY | O_NOFOLLOW);
        bool served = part->way == WAY_FUSE || part->way == WAY_KEPT;
        if (mount_attach(tree, place) < 0 || (served && mount_restrict(tree, part_attributes(plan, part)) < 0))
            stop(errno, "attach %s", part->source);
        /* a damaged image is told once, here, and not by every mount that it lacks */
        OWNED_FD directory = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0 && errno != EACCES)
            stop(errno, "%s: its root directory cannot be read (damaged?)", part->source);
        stage->parts[i] = tree;
    }
    stage->root = stage->parts[0];
}
