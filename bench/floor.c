/* The least that a container costs: the kernel's work and nothing else. Nothing is decided or checked twice.

   floor ROOT PATH... -- PROGRAM [ARGUMENT...]

   Each PATH of the host is bound to the same place below ROOT: a directory, entered in a user namespace, or, where this
   program is setuid root, a squashfs file, mounted through a loop device on the directory "mnt" beside it. */
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int stop(const char *what)
{
    perror(what);
    return 255;
}

static bool put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    close(fd);
    return done;
}

static bool enter_user_namespace(void)
{
    char users[64], groups[64];

    snprintf(users, sizeof users, "%u %u 1", getuid(), getuid());
    snprintf(groups, sizeof groups, "%u %u 1", getgid(), getgid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && put("/proc/self/setgroups", "deny") &&
           put("/proc/self/gid_map", groups) && put("/proc/self/uid_map", users);
}

/* A loop device of the file that lasts as long as something uses it; `name` becomes its path. */
static int attach(const char *file, char name[static 32])
{
    struct loop_config config = {.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    config.fd = (__u32)open(file, O_RDONLY | O_CLOEXEC);
    for (int tries = 0; tries < 100; tries++) {
        snprintf(name, 32, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
        int device = open(name, O_RDONLY | O_CLOEXEC);
        if (ioctl(device, LOOP_CONFIGURE, &config) == 0)
            return device;
        close(device);
    }
    return -1;
}

static bool mount_squashfs(const char *file, char root[static 4096])
{
    char device[32];
    const char *slash = strrchr(file, '/');
    int held = attach(file, device);

    snprintf(root, 4096, "%.*s/mnt", slash == NULL ? 1 : (int)(slash - file), slash == NULL ? "." : file);
    return held >= 0 && mount(device, root, "squashfs", MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0 &&
           close(held) == 0;
}

static bool bind_all(const char *root, char **paths)
{
    char target[8192];

    for (; *paths != NULL && strcmp(*paths, "--") != 0; paths++) {
        snprintf(target, sizeof target, "%s%s", root, *paths);
        if (mount(*paths, target, NULL, MS_BIND | MS_REC, NULL) < 0)
            return false;
    }
    return true;
}

static bool enter(const char *root, const char *directory)
{
    return chdir(root) == 0 && syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 &&
           chdir(directory) == 0;
}

int main(int argc, char **argv)
{
    char root[4096], directory[4096];
    bool privileged = geteuid() == 0 && getuid() != 0;
    int program = 2;

    while (program < argc && strcmp(argv[program], "--") != 0)
        program++;
    if (program + 1 >= argc || getcwd(directory, sizeof directory) == NULL)
        return stop("usage: floor ROOT PATH... -- PROGRAM [ARGUMENT...]");
    snprintf(root, sizeof root, "%s", argv[1]);
    if (!(privileged ? unshare(CLONE_NEWNS) == 0 : enter_user_namespace()))
        return stop("namespaces");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return stop("propagation");
    if (!(privileged ? mount_squashfs(argv[1], root) : mount(root, root, NULL, MS_BIND, NULL) == 0))
        return stop(argv[1]);
    if (!bind_all(root, argv + 2) || !enter(root, directory))
        return stop(root);
    if (privileged && (setresgid(getgid(), getgid(), getgid()) < 0 || setresuid(getuid(), getuid(), getuid()) < 0))
        return stop("the user");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    execv(argv[program + 1], argv + program + 1);
    return stop(argv[program + 1]);
}
