/* Servers of file systems (our own for squashfs, fuse2fs, erofsfuse, fuse-overlayfs): started as the user, in a user namespace,
 * watched and waited for. Not in the setuid program. */
#include "data_images.h"
#include "fuse_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "../location.h"
#include "../serve/serve.h"

int umount2(const char *target, int flags);
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);

enum { SERVER_DEVICE = 3, SERVER_IMAGE, SERVER_ALIVE, SERVER_LIBRARY, SERVER_TRACE, SERVER_END, WAIT_MILLISECONDS = 10000, LEFT_MILLISECONDS = 100 };
#define PRELOADED "fuse2fs-truncate.so"
static const char mount_place[] = "/tmp"; /* in the server's own mount namespace, seen by nobody else */

struct process {
    struct server *ours; /* forked and not executed; NULL: a program is */
    bool speaks;         /* it has something to say to the user: blocks that are not what was signed */
    const char *program;
    const char *package;
    bool mounts_itself;  /* built on libfuse 2, which takes no open device */
    int trace;           /* where the names are written that are found in the image, or -1 */
    int library;         /* what is loaded into fuse2fs that writes (launcher/preload/fuse2fs.c); of one that speaks the launch's process; or -1 */
    const char *source;  /* for messages */
    int image;           /* SERVER_IMAGE in the server; -1: it lays directories over each other */
    const int *layers;   /* those */
    int layer_count;
    char offset[32];     /* a further option, or "" */
    char options[4096];
};

/* The server of a part. fuse2fs takes the whole file and the offset at which the file system begins. `fakeroot` has
 * fuse2fs take the user for root in its own permission checks (fuse2fs(1)): without it files of root in the image
 * would be closed to the very user who may run it. `norecovery` because a read-only image may not have its journal
 * replayed, which would be a write. erofsfuse leaves such checks to the kernel. */
static struct process server_for(const struct part *part, const struct plan *watched)
{
    const struct partition *partition = &part->partition;
    struct process server = {.program = "fuse2fs", .package = "fuse2fs", .mounts_itself = true, .source = part->source,
                             .image = part->fd, .library = -1, .trace = -1};
    const char *why;

    snprintf(server.options, sizeof server.options, "%s,offset=%llu,allow_other,fakeroot%s", part->writable ? "rw" : "ro",
             (unsigned long long)partition->offset, part->writable ? "" : ",norecovery");
    if (partition->filesystem == FILESYSTEM_EXT)
        return server;
    if (partition->filesystem == FILESYSTEM_EROFS) {
        server.program = "erofsfuse";
        server.package = "erofsfuse, or make it a squashfs: singularity build"; /* Debian 12 has none */
        snprintf(server.options, sizeof server.options, "ro,allow_other,default_permissions");
        if (partition->offset > 0)
            snprintf(server.offset, sizeof server.offset, "--offset=%llu", (unsigned long long)partition->offset);
        return server;
    }
    server.mounts_itself = false;
    server.trace = watched != NULL && watched->trace_fd > 0 ? watched->trace_fd : -1;
    server.speaks = part->seal.tree != 0 || server.trace >= 0 || (watched != NULL && watched->tells_removed);
    server.ours = serve_open(part->fd, partition->offset, partition->size, &part->seal, part->source, &why); /* here, where an error can be told */
    if (server.ours == NULL)
        stop(0, "%s: %s", part->source, why);
    if ((server.trace >= 0 && !trace_begin(server.ours, SERVER_TRACE, watched->trace_file, part->source)) ||
        (watched != NULL && watched->tells_removed && !removed_begin(server.ours)))
        stop(ENOMEM, "%s", part->source);
    return server;
}

/* Our own directory first, so that an installation may bring its servers along. Never by PATH: what the user has in
 * front there would become the server of an image that others share. */
static bool find_program(const char *name, char path[PATH_MAX])
{
    const char *const directories[] = {location_libexec(), "/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin",
                                       "/usr/sbin", "/sbin"};

    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
        snprintf(path, PATH_MAX, "%s/%s", directories[i], name);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

/* ---- in the server's process ---- */

/* dup2(2) clears close-on-exec on the copy but does nothing at all when both numbers are the same, so that the flag
 * goes by hand then. */
static void move_descriptor(int from, int to)
{
    if (from == to ? fcntl(from, F_SETFD, 0) < 0 : dup2(from, to) < 0)
        stop(errno, "hand a descriptor to the file system server");
}

/* A descriptor out of the way of the places that are about to be filled: dup2(2) onto a place closes what was there. */
static int above(int limit, int fd)
{
    int moved = fcntl(fd, F_DUPFD, limit);

    if (moved < 0)
        stop(errno, "hand a descriptor to the file system server");
    return moved;
}

/* These stay open, from SERVER_DEVICE on; -1 stands for /dev/null. What a server says is seen with --debug, or where it `speaks`. */
static void own_descriptors(const int *fds, int count, bool speaks)
{
    int moved[SERVER_END - SERVER_DEVICE + FUSE_LAYERS];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        stop(errno, "start the file system server");
    for (int i = 0; i < count; i++)
        moved[i] = above(SERVER_DEVICE + count, fds[i] >= 0 ? fds[i] : null);
    for (int fd = 0; fd < 3; fd++)
        if (fd < 2 || (message_level_get() < LEVEL_DEBUG && !speaks))
            move_descriptor(null, fd);
    for (int i = 0; i < count; i++)
        move_descriptor(moved[i], SERVER_DEVICE + i);
    perform_close(SERVER_DEVICE + count);
}

/* In the order of their names, and then the layers of an overlay. */
static void server_descriptors(const struct process *server, int device, int alive)
{
    int fds[SERVER_END - SERVER_DEVICE + FUSE_LAYERS] = {device, server->image, alive, server->library, server->trace};

    for (int i = 0; i < server->layer_count; i++)
        fds[FUSE_LAYERS_FIRST - SERVER_DEVICE + i] = server->layers[i];
    own_descriptors(fds, FUSE_LAYERS_FIRST - SERVER_DEVICE + server->layer_count, server->speaks);
}

/* A server that mounts by itself needs the right to, in the user namespace and its own mount namespace; no other. */
static void server_rights(bool mounts_itself)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    unsigned mask = mounts_itself ? 1U << CAP_SYS_ADMIN : 0;

    data[0].effective = data[0].permitted = data[0].inheritable = mask;
    for (unsigned long capability = 0; capability <= CAP_LAST_CAP; capability++)
        if (!(mounts_itself && capability == CAP_SYS_ADMIN))
            (void)prctl(PR_CAPBSET_DROP, capability);
    /* ambient (Linux 4.3): the right outlives an execve(2) of a file without capabilities of its own
     * (capabilities(7)); it must be permitted and inheritable before */
    if (syscall(SYS_capset, &header, data) < 0 ||
        (mounts_itself && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) < 0) ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        stop(errno, "take the rights of the file system server");
}

void fuse_drop_rights(void)
{
    server_rights(false);
}

/* libfuse 3.3 and newer takes an open device as the mount point "/dev/fd/N" and mounts nothing then. The environment
 * is made from nothing: what the user has in LD_PRELOAD or PATH is not for a server that others may depend on. */
static _Noreturn void server_run(const struct process *server, const char *path)
{
    char image[32], device[32], preload[48], proof[32];
    char *const environment[] = {"PATH=/usr/bin:/bin", server->library >= 0 ? preload : NULL, proof, NULL};
    char *arguments[8] = {(char *)server->program, "-f", "-o", (char *)server->options, (char *)server->offset};
    int count = *server->offset != '\0' ? 5 : 4;

    snprintf(image, sizeof image, "/proc/self/fd/%d", SERVER_IMAGE);
    snprintf(device, sizeof device, "/dev/fd/%d", SERVER_DEVICE);
    snprintf(preload, sizeof preload, "LD_PRELOAD=/proc/self/fd/%d", SERVER_LIBRARY); /* its path may hold a separator */
    snprintf(proof, sizeof proof, "FUSE2FS_TRUNCATES=%d", SERVER_ALIVE);
    if (server->image >= 0)
        arguments[count++] = image;
    arguments[count] = server->mounts_itself ? (char *)mount_place : device;
    execve(path, arguments, environment);
    stop(errno, "%s", path);
}

/* A mount namespace of its own: to mount in, or, for an overlay, to see its layers without holding the container's. */
static void server_namespace_own(const struct process *server)
{
    if (server->ours != NULL)
        return;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        (server->mounts_itself && mount("none", mount_place, "tmpfs", 0, "size=4k") < 0)) /* libfuse wants it empty */
        stop(errno, "a mount namespace for %s", server->program);
}

/* Whether a line of mountinfo shows a FUSE mount at the server's place. A copy of the descriptor, for fclose(3)
 * closes it; the position is common to both, hence the lseek(2). */
static bool mount_seen(int info)
{
    char line[4096];
    bool seen = false;
    OWNED_FD copy = lseek(info, 0, SEEK_SET) == 0 ? fcntl(info, F_DUPFD_CLOEXEC, 3) : -1;
    FILE *stream = copy >= 0 ? fdopen(copy, "r") : NULL;

    if (stream == NULL)
        return false;
    copy = -1;
    while (!seen && fgets(line, sizeof line, stream) != NULL)
        seen = strstr(line, " /tmp ") != NULL && strstr(line, " - fuse") != NULL;
    fclose(stream);
    return seen;
}

/* Beside a server that mounts by itself: when the launcher has become the program, or is gone, the server's own mount goes
 * too, so that the container's is the only one and the server ends with it. A launcher waits for the mount: one that went
 * before is gone, and nobody will ever use what the server is about to mount. What is written is let go by the launcher
 * itself, who says so with a second byte. Nothing but `go` is held when the launcher goes on: the image is free as soon as
 * its server has ended. */
static _Noreturn void let_go(int go, int ready, pid_t server)
{
    enum { GO = SERVER_DEVICE, INFO = SERVER_IMAGE, READY = SERVER_ALIVE };
    struct pollfd launcher = {.fd = GO};
    char pid[16], byte;
    OWNED_FD info = openat(proc_fd(), "thread-self/mountinfo", O_RDONLY | O_CLOEXEC);

    own_descriptors((const int[]){go, info, ready}, 3, false);
    snprintf(pid, sizeof pid, "%d", (int)server);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != server || write(READY, pid, strlen(pid)) < 0)
        _exit(EXIT_OWN_FAILURE);
    close(READY);
    while (poll(&launcher, 1, -1) < 0 && errno == EINTR)
        continue;
    if (read(GO, &byte, 1) == 1)
        _exit(0);
    if (mount_seen(INFO))
        _exit(umount2(mount_place, 2) < 0 ? EXIT_OWN_FAILURE : 0);
    (void)kill(server, SIGKILL);
    _exit(EXIT_OWN_FAILURE);
}

/* Waits for the word to start; the launcher's end closes the pipe, and then there is nothing to serve. */
static _Noreturn void server_process(const struct process *server, const char *path, int device, int go, int ready)
{
    char byte;
    pid_t self = getpid();

    /* no signal of the caller's terminal reaches the server: Ctrl-C is for the program, which may still have files
     * open */
    (void)setsid();
    for (int signal_number = 1; signal_number < 32; signal_number++)
        (void)signal(signal_number, SIG_DFL);
    server_namespace_own(server);
    /* before the word to start, so that there is no moment in which the server has mounted and nobody watches the
     * launcher's end */
    pid_t beside = server->mounts_itself ? fork() : self;
    if (beside == 0)
        let_go(go, ready, self);
    if (beside < 0 || read(go, &byte, 1) != 1)
        _exit(EXIT_OWN_FAILURE);
    server_descriptors(server, device, ready);
    server_rights(server->mounts_itself);
    if (server->ours != NULL)
        serve_run(server->ours, SERVER_DEVICE, SERVER_IMAGE, SERVER_ALIVE, server->library >= 0 ? SERVER_LIBRARY : -1);
    server_run(server, path);
}

/* ---- in the launcher's process ---- */

static int open_device(const char *source)
{
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (device < 0)
        stop(errno, "%s cannot be mounted without privilege: /dev/fuse (ask the administrator for access to it, or "
             "unpack the image with \"singularity build --sandbox\")", source);
    return device;
}

/* Of the process too: that it has ended says more than the pipe's end does, which may come before the image is closed. Before
 * Linux 5.3 there is only the pipe. */
static int server_namespace(int ready, int *process)
{
    char pid[16], path[48];
    ssize_t length = read(ready, pid, sizeof pid - 1);

    if (length <= 0)
        stop(0, "the file system server did not start");
    pid[length] = '\0';
    snprintf(path, sizeof path, "%s/ns/mnt", pid);
    int fd = openat(proc_fd(), path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        stop(errno, "the mount namespace of the file system server");
    *process = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
    return fd;
}

/* Two forks: the grandchild belongs to the machine's init (or the nearest subreaper) and never shows up in a wait(2)
 * of the program, which would not know what it is (R-L16). Its parent is collected here at once. */
static void server_start(const struct process *server, struct fuse *fuse)
{
    char path[PATH_MAX];
    int go[2], ready[2];

    if (server->ours == NULL && !find_program(server->program, path))
        stop(0, "%s not found, needed to mount %s without privilege (install %s)", server->program, server->source,
             server->package);
    OWNED_FD device = open_device(server->source);
    if (pipe2(go, O_CLOEXEC) < 0 || pipe2(ready, O_CLOEXEC) < 0)
        stop(errno, "start the file system server");
    pid_t child = fork();
    if (child < 0)
        stop(errno, "start the file system server");
    if (child == 0) {
        close(go[1]);
        close(ready[0]);
        pid_t server_id = fork(); /* a grandchild: never a child of the program in the container */
        if (server_id != 0)
            _exit(server_id < 0 ? EXIT_OWN_FAILURE : 0);
        server_process(server, path, server->mounts_itself ? -1 : device, go[0], ready[1]);
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    close(go[0]);
    close(ready[1]);
    *fuse = (struct fuse){.go = go[1], .alive = ready[0], .process = -1, .namespace = -1, .device = -1};
    if (server->mounts_itself)
        fuse->namespace = server_namespace(ready[0], &fuse->process);
    else
        fuse->device = fd_give(&device);
}

bool fuse_needed(const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->part_count; i++)
        if (plan->parts[i].way == WAY_FUSE)
            return true;
    return (plan->data != NULL || plan->fuse_mounts != NULL) && !plan->dry;
}

void fuse_prepare_part(const struct part *part, const struct plan *watched, struct fuse *fuse)
{
    struct process server = server_for(part, watched);
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/" PRELOADED, location_libexec());
    OWNED_FD library = server.mounts_itself && part->writable ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (server.mounts_itself && part->writable && library < 0)
        stop(errno, "%s cannot be written: %s (the installation is incomplete: install again)", part->source, path);
    OWNED_FD launch = server.speaks ? (int)syscall(SYS_pidfd_open, getpid(), 0) : -1; /* Linux 5.3 */
    server.library = server.speaks ? launch : library;
    server_start(&server, fuse);
}

void fuse_prepare(struct plan *plan, struct fuse *servers)
{
    for (uint32_t i = 0; i < plan->part_count; i++) {
        if (plan->parts[i].way != WAY_FUSE)
            continue;
        fuse_prepare_part(&plan->parts[i], i == 0 ? plan : NULL, &servers[i]);
        if ((!plan->parts[i].writable && (i > 0 || plan->trace_fd <= 0)) || plan->keeper_fd >= 0) /* who shares a container does not wait for its end */
            continue;
        plan->server_fd = servers[i].process >= 0 ? servers[i].process : servers[i].alive;
        plan->unmounted_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (plan->unmounted_fd < 0) /* too many of them: nothing will be told */
            plan->unmounted_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
}

static void start(const struct fuse *fuse)
{
    if (write(fuse->go, "", 1) != 1)
        stop(errno, "start the file system server");
}

/* ---- a server that ends before its launch is done ---- */

/* In its own words, where it had time for some. */
static _Noreturn void stop_ended(const char *source, int alive)
{
    struct pollfd said = {.fd = alive, .events = POLLIN};
    char words[128];
    ssize_t length = poll(&said, 1, LEFT_MILLISECONDS) > 0 ? read(alive, words, sizeof words - 1) : 0;

    words[length > 0 ? length : 0] = '\0';
    if (length > 0)
        stop(0, "%s: %s", source, words);
    stop(0, "%s: its file system server ended while the container was set up: killed, or out of memory? (try again; --debug shows what it "
         "said)", source);
}

/* For a signal handler: the first server that was started, the image's where that is served. */
static const char *guarded_source;
static int guarded_fd = -1;

static void guard_end(int number, siginfo_t *info, void *context)
{
    struct pollfd end = {.fd = guarded_fd};

    (void)number, (void)context;
    if (info->si_code > 0 && poll(&end, 1, 0) == 1 && (end.revents & POLLHUP))
        stop_ended(guarded_source, guarded_fd);
}

/* A server that ends while the container is put together ends the launch in one line, before anything is complained about that is found
 * no more: the kernel closes what a process has open from the highest number down, so that this is told before the mount is gone. It
 * ends with the other descriptors of the host; what is missing then is program_check_image()'s. Who ignores the signal, which a program
 * inherits, goes without. */
static void guard(const char *source, int alive)
{
    const struct sigaction action = {.sa_sigaction = guard_end, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction before;
    struct pollfd end = {.fd = alive};

    if (guarded_fd >= 0 || sigaction(SIGIO, NULL, &before) < 0 || before.sa_handler == SIG_IGN || sigaction(SIGIO, &action, NULL) < 0)
        return;
    guarded_source = source;
    guarded_fd = fcntl(alive, F_DUPFD_CLOEXEC, 0);
    if (guarded_fd < 0 || fcntl(guarded_fd, F_SETOWN, getpid()) < 0 || fcntl(guarded_fd, F_SETSIG, SIGIO) < 0 ||
        fcntl(guarded_fd, F_SETFL, O_ASYNC) < 0)
        return;
    if (poll(&end, 1, 0) == 1 && (end.revents & POLLHUP))
        stop_ended(source, alive);
}

/* The kernel's side of a FUSE mount is made here and handed over open (Documentation/filesystems/fuse/fuse.rst: fd,
 * rootmode, user_id and group_id are required). In a user namespace allowed from Linux 4.18 on. `allow_other` ends at
 * the user namespace; without it a program that has taken another id in it would see nothing. `default_permissions`
 * has the kernel check modes, as for any other file system. The server starts after the mount, since its first
 * request, FUSE_INIT, comes from the kernel when the mount is made. */
static int mount_by_device(const struct session *session, const char *source, const char *type, struct fuse *fuse,
                           uint64_t attributes)
{
    char options[256];
    struct new_filesystem filesystem = {.type = "fuse", .source = type, .options = options,
                                        .attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | attributes,
                                        .privilege = PRIVILEGE_ROOT};

    /* "ro" of the file system itself: else the kernel asks for the time of access after each read */
    snprintf(options, sizeof options, "%sfd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,default_permissions",
             attributes & MOUNT_ATTR_RDONLY ? "ro," : "", fuse->device, (unsigned)getuid(), (unsigned)getgid());
    int tree = mount_new(session, &filesystem);
    if (tree < 0)
        stop(errno, "mount %s through FUSE", source);
    start(fuse);
    fd_close(&fuse->device); /* or nobody would notice that the server ended */
    guard(source, fuse->alive);
    OWNED_FD answer = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (answer < 0 && (errno == ENOTCONN || errno == ECONNABORTED)) /* of other errors who looks at the image says more */
        stop_ended(source, fuse->alive);
    return tree;
}

/* The kernel wakes pollers of mountinfo when a mount appears in that namespace. */
static void wait_for_mount(const char *source, int alive)
{
    OWNED_FD info = openat(proc_fd(), "thread-self/mountinfo", O_RDONLY | O_CLOEXEC);

    if (info < 0)
        stop(errno, "mountinfo");
    for (int waited = 0; waited < WAIT_MILLISECONDS; waited += 100) {
        struct pollfd changes[] = {{.fd = info, .events = POLLPRI}, {.fd = alive}};
        if (mount_seen(info))
            return;
        (void)poll(changes, 2, 100);
        if ((changes[1].revents & POLLHUP) && !mount_seen(info))
            stop(0, "%s: its file system server could not mount it: damaged? (--debug shows what it said)", source);
    }
    stop(0, "%s: its file system server did not mount it within %d s", source, WAIT_MILLISECONDS / 1000);
}

/* The server answers once the kernel has greeted it, and the greeting has gone through what was loaded into it. */
static void check_truncates(const char *source, int alive, int tree)
{
    struct stat status;
    struct pollfd proof = {.fd = alive, .events = POLLIN};

    if (fstat(tree, &status) == 0 && poll(&proof, 1, 0) == 1 && (proof.revents & POLLIN))
        return;
    stop(0, "%s cannot be written: fuse2fs did not load " PRELOADED ", without which some versions lose data (install the "
         "distribution's fuse2fs, linked dynamically)", source);
}

/* The server's mount is taken over into the container. The order is: start the server, enter its mount namespace,
 * wait, copy the mount, take the server's own mount away, come back. The copy is what keeps the file system alive in
 * between. setns(2) into a mount namespace needs CAP_SYS_ADMIN in the user namespace that owns it, which is ours
 * (setns(2)). */
static int mount_by_server(const struct part *part, const struct fuse *fuse)
{
    OWNED_FD own = openat(proc_fd(), "self/ns/mnt", O_RDONLY | O_CLOEXEC);

    start(fuse);
    if (own < 0 || setns(fuse->namespace, CLONE_NEWNS) < 0)
        stop(errno, "enter the mount namespace of the file system server");
    wait_for_mount(part->source, fuse->alive);
    OWNED_FD place = open(mount_place, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int tree = place < 0 ? -1 : mount_take(place);
    if (tree < 0)
        stop(errno, "take over the mount of %s (an ext image without privilege needs Linux 5.2 or newer)", part->source);
    if (part->writable) {
        check_truncates(part->source, fuse->alive, tree);
        if (umount2(mount_place, 2) < 0 || write(fuse->go, "", 1) != 1)
            stop(errno, "let %s be the container's alone", part->source);
    }
    if (setns(own, CLONE_NEWNS) < 0)
        stop(errno, "return to the container's mount namespace");
    return tree;
}

/* `go` stays open until the launcher becomes the program: it is close-on-exec. */
static void fuse_close(struct fuse *fuse)
{
    fd_close(&fuse->device);
    fd_close(&fuse->namespace);
    fd_close(&fuse->alive);
}

int fuse_mount(const struct session *session, const struct part *part, struct fuse *fuse)
{
    int tree = fuse->namespace >= 0
                   ? mount_by_server(part, fuse)
                   : mount_by_device(session, part->source, "squashfs", fuse, part->writable ? 0 : MOUNT_ATTR_RDONLY);

    fuse_close(fuse);
    return tree;
}

int fuse_overlay(const struct session *session, const char *options, const int *layers, int count)
{
    struct process server = {.program = "fuse-overlayfs", .package = "fuse-overlayfs", .source = "the overlay", .image = -1,
                            .library = -1, .trace = -1, .layers = layers, .layer_count = count};
    struct fuse fuse;

    snprintf(server.options, sizeof server.options, "%s", options);
    server_start(&server, &fuse);
    int tree = mount_by_device(session, server.source, "fuse-overlayfs", &fuse, 0);
    fuse_close(&fuse);
    return tree;
}

void fuse_watch(const struct plan *plan)
{
    if (plan->server_fd > 0) /* that the file system is gone is told unasked */
        (void)inotify_add_watch(plan->unmounted_fd, "/", IN_DELETE_SELF);
}

void fuse_await(int server, int unmounted)
{
    const struct timespec now = {0};
    struct pollfd end = {.fd = server, .events = POLLIN};
    struct inotify_event event;
    sigset_t all;

    sigfillset(&all);
    while (sigtimedwait(&all, NULL, &now) > 0) /* what came before the program's end was for the program */
        continue;
    (void)sigprocmask(SIG_UNBLOCK, &all, NULL);
    int patience = read(unmounted, &event, sizeof event) > 0 ? -1 : LEFT_MILLISECONDS;
    while (poll(&end, 1, patience) < 0 && errno == EINTR)
        continue;
}
