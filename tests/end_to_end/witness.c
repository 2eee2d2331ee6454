/* What a program in a container is and what it reaches, for an oracle outside: a line each, the last one "end". Test only.
 * It stands at every name that a launch may execute in the images of the tests, and always says the same, but for "reach",
 * where it says of each path that follows what can be done with it. Words that begin with "/" are tried as paths, those that
 * begin with "+" below every mount. Needs no /proc; says more with one. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DEPTH = 6, ENTRIES_OF_ONE = 500, SECRET_SIZE = 64 };
#define SECRET "secret-"

/* ---- what it is ---- */

static void say_ids(void)
{
    uid_t uid[3];
    gid_t gid[3], groups[256];
    int count = getgroups(256, groups);

    getresuid(&uid[0], &uid[1], &uid[2]);
    getresgid(&gid[0], &gid[1], &gid[2]);
    printf("uids %u %u %u %d\ngids %u %u %u %d\ngroups", uid[0], uid[1], uid[2], setfsuid((uid_t)-1), gid[0], gid[1], gid[2],
           setfsgid((gid_t)-1));
    for (int i = 0; i < count; i++)
        printf(" %u", groups[i]);
    printf("\n");
}

static void say_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    unsigned long long bounding = 0, ambient = 0;

    syscall(SYS_capget, &header, data);
    for (unsigned long number = 0; number < 64; number++) {
        bounding |= prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1 ? 1ULL << number : 0;
        ambient |= prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, number, 0, 0) == 1 ? 1ULL << number : 0;
    }
    printf("effective %x%08x\npermitted %x%08x\ninheritable %x%08x\nbounding %llx\nambient %llx\n", data[1].effective,
           data[0].effective, data[1].permitted, data[0].permitted, data[1].inheritable, data[0].inheritable, bounding, ambient);
    printf("no_new_privs %d\nsecurebits %d\nseccomp %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECUREBITS),
           prctl(PR_GET_SECCOMP));
    /* only a capability over the whole machine makes this possible, not one in a user namespace */
    errno = 0;
    printf("whole_machine %s\n", nice(-1) == -1 && errno != 0 ? "no" : "yes");
}

static void say_descriptors(void)
{
    for (int fd = 0; fd < 1024; fd++) {
        struct stat status;
        if (fstat(fd, &status) == 0)
            printf("fd %d %o %llu:%llu %d\n", fd, status.st_mode & S_IFMT, (unsigned long long)status.st_dev,
                   (unsigned long long)status.st_ino, fcntl(fd, F_GETFL) & O_PATH ? 1 : 0);
    }
}

static void say_root(void)
{
    char here[8192];
    struct stat root, top;
    struct statvfs file_system;

    if (stat("/", &root) == 0)
        printf("root %llu:%llu\n", (unsigned long long)root.st_dev, (unsigned long long)root.st_ino);
    if (statvfs("/", &file_system) == 0)
        printf("root_nosuid %d\n", (file_system.f_flag & ST_NOSUID) != 0);
    printf("cwd %s\n", syscall(SYS_getcwd, here, sizeof here) > 0 ? here : strerrorname_np(errno));
    int depth = 0;
    while (depth++ < 128 && chdir("..") == 0)
        continue;
    if (stat(".", &top) == 0 && (top.st_dev != root.st_dev || top.st_ino != root.st_ino) && access(".", X_OK) == 0)
        printf("top %llu:%llu\n", (unsigned long long)top.st_dev, (unsigned long long)top.st_ino);
}

static void say_namespaces(void)
{
    static const char *const names[] = {"user", "mnt", "pid", "net", "uts", "ipc"};
    char path[64], text[4096];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat status;
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        if (stat(path, &status) == 0)
            printf("namespace %s %llu\n", names[i], (unsigned long long)status.st_ino);
    }
    FILE *map = fopen("/proc/self/uid_map", "re");
    if (map != NULL && fgets(text, sizeof text, map) != NULL)
        printf("uid_map %s", text);
}

/* ---- what it reaches ---- */

/* Names that begin like this are only in directories that the user may not list. */
static void look_through(int directory, const char *path, int depth, int *left)
{
    int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *one;

    if (stream == NULL)
        return;
    while (*left > 0 && (one = readdir(stream)) != NULL) {
        char below[4096];
        if (strcmp(one->d_name, ".") == 0 || strcmp(one->d_name, "..") == 0)
            continue;
        --*left;
        snprintf(below, sizeof below, "%s/%s", path, one->d_name);
        if (strncmp(one->d_name, SECRET, strlen(SECRET)) == 0)
            printf("seen %s\n", below);
        if (depth == 0 || (one->d_type != DT_DIR && one->d_type != DT_UNKNOWN))
            continue;
        int inner = openat(directory, one->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (inner >= 0) {
            look_through(inner, below, depth - 1, left);
            close(inner);
        }
    }
    closedir(stream);
}

static void look_below(const char *path, char **words)
{
    int left = ENTRIES_OF_ONE, directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0)
        return;
    for (; *words != NULL; words++)
        if (**words == '+' && faccessat(directory, *words + 1, F_OK, AT_EACCESS) == 0)
            printf("seen %s/%s\n", path, *words + 1);
    look_through(directory, strcmp(path, "/") == 0 ? "" : path, DEPTH, &left);
    close(directory);
}

static void unescape(char *text)
{
    char *out = text;

    for (; *text != '\0'; out++) {
        unsigned value;
        bool escaped = text[0] == '\\' && sscanf(text + 1, "%3o", &value) == 1;
        *out = escaped ? (char)value : *text;
        text += escaped ? 4 : 1;
    }
    *out = '\0';
}

static void say_mounts(char **words)
{
    static const char *const kernel[] = {" - proc ", " - sysfs ", " - cgroup", " - devpts ", " - mqueue ", " - securityfs "};
    static char line[16384], point[4096];
    FILE *file = fopen("/proc/self/mountinfo", "re");

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        bool skip = sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1;
        printf("mount %s", line);
        for (size_t i = 0; i < sizeof kernel / sizeof *kernel; i++)
            skip |= strstr(line, kernel[i]) != NULL;
        if (skip)
            continue;
        unescape(point);
        look_below(point, words);
    }
    if (file != NULL)
        fclose(file);
    else
        look_below("/", words);
}

/* r opened for reading, w for writing, l listed, x searched (its entry "x" is found); - not even reached. */
static void say_reach(const char *path)
{
    char below[8192];
    struct stat status;
    char can[8] = "", *end = can;
    int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &status) < 0) {
        printf("reach - 0:0 %s\n", path);
        return;
    }
    close(fd);
    bool directory = S_ISDIR(status.st_mode);
    dev_t device = status.st_dev;
    ino_t inode = status.st_ino;
    if ((fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | (directory ? O_DIRECTORY : 0))) >= 0) {
        char bytes[SECRET_SIZE];
        *end++ = directory ? 'l' : read(fd, bytes, sizeof bytes) >= 0 ? 'r' : '?';
        close(fd);
    }
    snprintf(below, sizeof below, "%s/x", path);
    if (!directory && (fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY)) >= 0) {
        *end++ = 'w';
        close(fd);
    }
    if (directory && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0)
        *end++ = 'w';
    if (directory ? lstat(below, &status) == 0 : faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0)
        *end++ = 'x';
    *end = '\0';
    printf("reach =%s %llu:%llu %s\n", can, (unsigned long long)device, (unsigned long long)inode, path);
}

int main(int argc, char **argv)
{
    static char room[1 << 16];

    setvbuf(stdout, room, _IOFBF, sizeof room);
    printf("witness\n");
    if (argc > 1 && strcmp(argv[1], "reach") == 0) {
        for (int i = 2; i < argc; i++)
            say_reach(argv[i]);
        printf("end\n");
        return 0;
    }
    say_ids();
    say_capabilities();
    say_descriptors();
    say_namespaces();
    say_mounts(argv);
    for (int i = 1; i < argc; i++)
        if (argv[i][0] == '/') {
            say_reach(argv[i]);
            look_below(argv[i], argv);
        }
    say_root();
    printf("end\n");
    return 0;
}
