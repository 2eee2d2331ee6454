#include "fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../location.h"
#include "inside.h"

int umount2(const char *target, int flags);
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);

enum { SERVER_DEVICE = 3, SERVER_IMAGE = 4, WAIT_MILLISECONDS = 10000 };
static const char mount_place[] = "/tmp"; /* in the server's own mount namespace, seen by nobody else */

struct server {
    const char *program;
    const char *package;
    bool mounts_itself; /* built on libfuse 2, which takes no open device */
};

static struct server server_for(const struct part *part)
{
    if (part->partition.filesystem == FILESYSTEM_EXT)
        return (struct server){"fuse2fs", "fuse2fs", true};
    return (struct server){"squashfuse_ll", "squashfuse", false};
}

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

static void move_descriptor(int from, int to)
{
    if (from == to ? fcntl(from, F_SETFD, 0) < 0 : dup2(from, to) < 0)
        stop(errno, "hand a descriptor to the file system server");
}

static void own_descriptors(int device, int image)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int high_device = fcntl(device, F_DUPFD, 16), high_image = fcntl(image, F_DUPFD, 16);

    if (null < 0 || high_image < 0 || (device >= 0 && high_device < 0))
        stop(errno, "start the file system server");
    for (int fd = 0; fd < 3; fd++)
        if (fd < 2 || message_level_get() < LEVEL_DEBUG)
            move_descriptor(null, fd);
    move_descriptor(high_image, SERVER_IMAGE);
    if (device >= 0)
        move_descriptor(high_device, SERVER_DEVICE);
    for (int fd = SERVER_IMAGE + 1; fd < 1024; fd++)
        close(fd);
    (void)syscall(SYS_close_range, SERVER_IMAGE + 1, ~0U, 0);
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
    if (syscall(SYS_capset, &header, data) < 0 ||
        (mounts_itself && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) < 0) ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        stop(errno, "take the rights of the file system server");
}

static _Noreturn void server_run(const struct part *part, const struct server *server, const char *path)
{
    char options[128], image[32], device[32];
    static char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
    const char *mode = part->writable ? "rw" : "ro";
    int length = snprintf(options, sizeof options, "%s,offset=%llu", mode, (unsigned long long)part->partition.offset);

    snprintf(image, sizeof image, "/proc/self/fd/%d", SERVER_IMAGE);
    snprintf(device, sizeof device, "/dev/fd/%d", SERVER_DEVICE);
    if (server->mounts_itself)
        snprintf(options + length, sizeof options - (size_t)length, ",allow_other,fakeroot%s",
                 part->writable ? "" : ",norecovery");
    char *const arguments[] = {(char *)server->program, "-f", "-o", options, image,
                               server->mounts_itself ? (char *)mount_place : device, NULL};
    execve(path, arguments, environment);
    stop(errno, "%s", path);
}

/* Waits for the word to start; the launcher's end closes the pipe, and then there is nothing to serve. */
static _Noreturn void server_process(const struct part *part, const struct server *server, const char *path, int device,
                                     int go, int ready)
{
    char byte;

    (void)setsid();
    for (int signal_number = 1; signal_number < 32; signal_number++)
        (void)signal(signal_number, SIG_DFL);
    if (server->mounts_itself &&
        (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
         mount("none", mount_place, "tmpfs", 0, "size=4k") < 0)) /* libfuse wants an empty directory */
        stop(errno, "a mount namespace for %s", server->program);
    OWNED_FD namespace = openat(proc_fd(), "self/ns/mnt", O_RDONLY | O_CLOEXEC);
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    if (write(ready, pid, strlen(pid)) < 0 || read(go, &byte, 1) != 1)
        _exit(EXIT_OWN_FAILURE);
    own_descriptors(device, part->fd);
    server_rights(server->mounts_itself);
    server_run(part, server, path);
}

/* ---- in the launcher's process ---- */

static int open_device(const struct part *part)
{
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (device < 0)
        stop(errno, "%s cannot be mounted without privilege: /dev/fuse (ask the administrator for access to it, or "
             "unpack the image with \"singularity build --sandbox\")", part->source);
    return device;
}

static int server_namespace(int ready)
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
    return fd;
}

void fuse_prepare(const struct part *part, struct fuse *fuse)
{
    struct server server = server_for(part);
    char path[PATH_MAX];
    int go[2], ready[2];

    if (!find_program(server.program, path))
        stop(0, "%s not found, needed to mount %s without privilege (install %s)", server.program, part->source, server.package);
    OWNED_FD device = open_device(part);
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
        server_process(part, &server, path, server.mounts_itself ? -1 : device, go[0], ready[1]);
    }
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    close(go[0]);
    close(ready[1]);
    fuse->go = go[1];
    fuse->namespace = server_namespace(ready[0]);
    close(ready[0]);
    fuse->device = server.mounts_itself ? -1 : fd_give(&device);
    if (!server.mounts_itself)
        fd_close(&fuse->namespace);
}

static void start(const struct fuse *fuse)
{
    if (write(fuse->go, "", 1) != 1)
        stop(errno, "start the file system server");
}

static int mount_by_device(const struct session *session, const struct part *part, const struct fuse *fuse,
                           const struct caller *caller, bool root_mapped)
{
    char options[256];
    struct new_filesystem filesystem = {.type = "fuse", .source = "squashfuse", .options = options,
                                        .attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};

    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,default_permissions",
             fuse->device, root_mapped ? 0 : (unsigned)caller->uid, root_mapped ? 0 : (unsigned)caller->gid);
    if (!part->writable)
        filesystem.attributes |= MOUNT_ATTR_RDONLY;
    int tree = mount_new(session, &filesystem);
    if (tree < 0)
        stop(errno, "mount %s through FUSE", part->source);
    start(fuse);
    OWNED_FD answer = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (answer < 0)
        stop(errno, "%s: its file system server ended (--debug shows what it said)", part->source);
    return tree;
}

/* The kernel wakes pollers of mountinfo when a mount appears in that namespace. */
static void wait_for_mount(const char *source)
{
    char line[4096];
    OWNED_FD info = openat(proc_fd(), "thread-self/mountinfo", O_RDONLY | O_CLOEXEC);
    FILE *stream = info >= 0 ? fdopen(info, "r") : NULL;

    if (stream == NULL)
        stop(errno, "mountinfo");
    for (int waited = 0; waited < WAIT_MILLISECONDS; waited += 100) {
        rewind(stream);
        while (fgets(line, sizeof line, stream) != NULL)
            if (strstr(line, " /tmp ") != NULL && strstr(line, " - fuse") != NULL) {
                info = -1;
                fclose(stream);
                return;
            }
        struct pollfd change = {.fd = fileno(stream), .events = POLLPRI};
        (void)poll(&change, 1, 100);
    }
    stop(0, "%s: its file system server did not mount it (--debug shows what it said)", source);
}

/* The server's mount is taken over into the container and goes from the server's own namespace. */
static int mount_by_server(const struct part *part, const struct fuse *fuse)
{
    OWNED_FD own = openat(proc_fd(), "self/ns/mnt", O_RDONLY | O_CLOEXEC);

    start(fuse);
    if (own < 0 || setns(fuse->namespace, CLONE_NEWNS) < 0)
        stop(errno, "enter the mount namespace of the file system server");
    wait_for_mount(part->source);
    OWNED_FD place = open(mount_place, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int tree = place < 0 ? -1 : mount_take(place);
    if (tree < 0 || umount2(mount_place, 2) < 0)
        stop(errno, "take over the mount of %s (an ext image without privilege needs Linux 5.2 or newer)", part->source);
    if (setns(own, CLONE_NEWNS) < 0)
        stop(errno, "return to the container's mount namespace");
    return tree;
}

int fuse_mount(const struct session *session, const struct part *part, struct fuse *fuse, const struct caller *caller,
               bool root_mapped)
{
    int tree = fuse->namespace >= 0 ? mount_by_server(part, fuse)
                                    : mount_by_device(session, part, fuse, caller, root_mapped);

    close(fuse->go);
    fd_close(&fuse->device);
    fd_close(&fuse->namespace);
    return tree;
}
