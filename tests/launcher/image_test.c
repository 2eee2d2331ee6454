/* Run from the root of the project: the images are made by tests/vectors/make.py. */
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

extern char **environ;

static struct image image;
static struct error error;
static char directory[] = "/tmp/image_test.XXXXXX";
enum { ORDINARY_USER = 65534 };

static bool run(const char *program, const char *first, const char *second)
{
    char *const words[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)first, (char *)(uintptr_t)second, NULL};
    pid_t pid;
    int status;

    return posix_spawnp(&pid, program, NULL, NULL, words, environ) == 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool open_image(const char *path, bool writable)
{
    if (image.fd >= 0)
        close(image.fd);
    memset(&error, 0, sizeof error);
    return image_open(path, writable, &image, &error);
}

static bool says(const char *words)
{
    return strstr(error.text, words) != NULL;
}

/* ---- the table of verdicts ---- */

static size_t show_partition(char *text, size_t size, const struct partition *partition)
{
    static const char *const names[] = {"directory", "squashfs", "ext", "erofs"};

    return (size_t)snprintf(text, size, " %s@%llu+%llu", names[partition->filesystem],
                            (unsigned long long)partition->offset, (unsigned long long)partition->size);
}

static void show_image(char *text, size_t size)
{
    static const char *const names[] = {"directory", "squashfs", "ext", "sif", "erofs"};
    size_t used = (size_t)snprintf(text, size, "%s", names[image.format]);

    if (image.format == FORMAT_DIRECTORY)
        return;
    used += show_partition(text + used, size - used, &image.root);
    if (image.format != FORMAT_SIF)
        return;
    used += (size_t)snprintf(text + used, size - used, " %s", image.architecture[0] ? image.architecture : "-");
    for (uint32_t i = 0; i < image.overlay_count; i++)
        used += show_partition(text + used, size - used, &image.overlays[i]);
}

static void test_verdict(const char *path, const char *name, const char *verdict)
{
    static const char refused[] = "refused: ";
    char text[1024];

    bool accepted = open_image(path, false);
    if (strncmp(verdict, refused, strlen(refused)) == 0) {
        CHECK(!accepted && image.fd == -1 && says(verdict + strlen(refused)) && strncmp(error.text, path, strlen(path)) == 0,
              "R-I7 R-P1 %s is refused: %s", name, accepted ? "accepted" : error.text);
        return;
    }
    if (accepted)
        show_image(text, sizeof text);
    CHECK(accepted && strcmp(text, verdict) == 0, "%s is: %s", name, accepted ? text : error.text);
    CHECK(accepted && (fcntl(image.fd, F_GETFD) & FD_CLOEXEC) != 0, "%s: the descriptor closes on exec", name);
    CHECK(accepted && image.root.no_kernel == NULL, "%s: the kernel mounts it", name);
}

static void test_verdicts(void)
{
    FILE *table = fopen("tests/vectors/verdicts.json", "re");
    char line[2048], name[128], verdict[1024], path[256];
    int lines = 0;

    while (table != NULL && fgets(line, sizeof line, table) != NULL)
        if (sscanf(line, " \"%127[^\"]\": \"%1023[^\"]\"", name, verdict) == 2) {
            snprintf(path, sizeof path, "%s/%s", directory, name);
            test_verdict(path, name, verdict);
            lines++;
        }
    CHECK(lines > 100, "the table has %d verdicts", lines);
    if (table != NULL)
        fclose(table);
}

/* Images made by other programs, where they are beside the checkout. */
static void test_foreign(void)
{
    static const struct {
        const char *path, *verdict;
    } images[] = {
        {"../shared/fixtures/busybox-apptainer-1.4.sif", "sif squashfs@36864+1044480 amd64"},
        {"../shared/fixtures/busybox-signed.sif", "sif squashfs@36864+1044480 amd64"},
        {"../shared/fixtures/busybox-2.2.img.xz", "refused: an xz archive"},
    };

    char path[PATH_MAX]; /* paths of images are absolute: none is found by the current directory */

    for (size_t i = 0; i < sizeof images / sizeof *images; i++)
        if (realpath(images[i].path, path) != NULL)
            test_verdict(path, strrchr(images[i].path, '/') + 1, images[i].verdict);
        else
            CHECK(true, "%s # SKIP not beside the checkout", images[i].path);
}

/* ---- opening ---- */

static const char *inside(const char *name)
{
    static char paths[2][256];
    static int turn;

    turn = !turn;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", directory, name);
    return paths[turn];
}

static void test_squashfs_end(void)
{
    uint8_t bytes[8] = {0};
    uint64_t used = 0;
    int fd = open(inside("squashfs-gzip"), O_RDWR | O_CLOEXEC);

    CHECK(fd >= 0 && pread(fd, bytes, sizeof bytes, 40) == 8, "a squashfs says how long it is");
    for (int i = 7; i >= 0; i--)
        used = used << 8 | bytes[i];
    CHECK(used % 512 != 0 && ftruncate(fd, (off_t)used) == 0, "cut to that, inside a sector");
    CHECK(open_image(inside("squashfs-gzip"), false) && image.root.no_kernel != NULL,
          "it is an image, but not one that a loop device can hold whole");
    CHECK(ftruncate(fd, (off_t)(used + 511) / 512 * 512) == 0 && open_image(inside("squashfs-gzip"), false) &&
          image.root.no_kernel == NULL, "padded to the sector the kernel mounts it");
    close(fd);
}

static void test_facts(void)
{
    struct stat status;

    CHECK(stat(inside("sif"), &status) == 0 && open_image(inside("sif"), false), "an image is opened");
    CHECK(image.device == status.st_dev && image.inode == status.st_ino && image.owner == status.st_uid &&
          image.group == status.st_gid, "R-I5 with the facts of its file");
    CHECK((fcntl(image.fd, F_GETFL) & O_ACCMODE) == O_RDONLY, "R-I2 for reading");
    CHECK(open_image(inside("ext3"), true) && (fcntl(image.fd, F_GETFL) & O_ACCMODE) == O_RDWR,
          "for writing when asked to");
    CHECK(open_image(directory, true) && image.format == FORMAT_DIRECTORY && (fcntl(image.fd, F_GETFL) & O_PATH) != 0,
          "a directory is opened without the right to read it");
    CHECK(symlink("sif", inside("link")) == 0 && open_image(inside("link"), false) && image.inode == status.st_ino,
          "a symbolic link is the image that it leads to");
}

static void test_refused_kinds(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", inside("socket"));
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && !open_image(inside("socket"), false) &&
          says("a socket, not an image"), "R-I1 a socket is refused: %s", error.text);
    close(fd);
    CHECK(mkfifo(inside("pipe"), 0600) == 0 && !open_image(inside("pipe"), false) && says("a named pipe, not an image"),
          "R-I1 a pipe is refused without waiting: %s", error.text);
    CHECK(!open_image(inside("pipe"), true) && says("a named pipe"), "R-I1 for writing too");
    CHECK(!open_image("/dev/null", false) && says("/dev/null: a character device, not an image"),
          "R-I1 a device is refused: %s", error.text);
    CHECK(!open_image("/proc/self/maps", false) && says("an empty file, not an image"), "R-I1 a file of /proc is refused: %s",
          error.text);
    CHECK(!open_image(inside("missing"), false) && says("/missing: no such image") && error.number == ENOENT,
          "what is not there is refused: %s", error.text);
    CHECK(symlink("nowhere", inside("dangling")) == 0 && !open_image(inside("dangling"), false) && says("no such image"),
          "a link to nothing is refused");
    CHECK(!open_image(inside("sif/x"), false) && error.number == ENOTDIR, "a path through a file is refused: %s", error.text);
    CHECK(symlink("loop", inside("loop")) == 0 && !open_image(inside("loop"), false) && error.number == ELOOP,
          "a link to itself is refused: %s", error.text);
    CHECK(!open_image("", false) && error.text[0] != '\0', "an empty path is refused: %s", error.text);
}

/* Until it is killed: one name is now an image, now another one, now a pipe. */
static _Noreturn void replace_forever(void)
{
    static const char *const targets[] = {"sif", "ext2", "pipe"};

    for (unsigned turn = 0;; turn++)
        if (symlink(targets[turn % 3], inside("next")) < 0 || rename(inside("next"), inside("changing")) < 0)
            _exit(1);
}

static void test_replaced(void)
{
    struct stat status;
    int opened = 0, wrong = 0, noticed = 0;
    CHECK(symlink("sif", inside("changing")) == 0, "a name for a changing file");
    pid_t child = fork();

    if (child == 0)
        replace_forever();
    for (int i = 0; i < 30000; i++) {
        if (open_image(inside("changing"), false)) {
            opened++;
            wrong += fstat(image.fd, &status) < 0 || status.st_ino != image.inode || !S_ISREG(status.st_mode);
        } else {
            noticed += says("replaced by another file while it was opened");
            wrong += !says("replaced by another file") && !says("a named pipe");
        }
    }
    CHECK(child > 0 && kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child && opened > 0 && wrong == 0,
          "R-I1 the facts are those of the open file while its name changes (%d opened, %d times noticed)", opened, noticed);
}

static void test_long_name(void)
{
    char path[3000];

    memset(path, '/', sizeof path);
    snprintf(path + 2000, sizeof path - 2000, "%s", inside("text"));
    CHECK(!open_image(path, false) && says(": unknown format"), "a long path leaves room for the reason");
    memset(path + 1, 'a', sizeof path - 2);
    path[sizeof path - 1] = '\0';
    CHECK(!open_image(path, false) && error.number == ENAMETOOLONG, "a name longer than can be is refused");
}

/* As an ordinary user, whom permissions bind. */
static void test_permissions(void)
{
    bool root = geteuid() == 0;

    CHECK(mkdir(inside("closed"), 0700) == 0 && chmod(directory, 0755) == 0 && chmod(inside("ext2"), 0600) == 0 &&
          chmod(inside("ext3"), 0444) == 0, "files with other permissions");
    if (!root)
        CHECK(chmod(inside("closed"), 0) == 0 && chmod(inside("ext2"), 0) == 0, "closed even to their owner");
    if (root && seteuid(ORDINARY_USER) < 0)
        perror("seteuid");
    CHECK(!open_image(inside("ext2"), false) && says("you may not read it: Permission denied"),
          "R-I1 an image that the user may not read: %s", error.text);
    CHECK(!open_image(inside("ext3"), true) && says("you may not write to it (--writable-tmpfs in place of --writable"),
          "R-I2 an image that the user may not write: %s", error.text);
    CHECK(open_image(inside("ext3"), false), "can be opened for reading");
    CHECK(!open_image(inside("closed"), false) && says("you may not enter this directory"),
          "R-I6 a directory that the user may not enter: %s", error.text);
    CHECK(!open_image(inside("closed/x"), false) && says("a directory above it is closed to you"),
          "R-I1 an image below it: %s", error.text);
    if (root && seteuid(0) < 0)
        perror("seteuid");
    CHECK(chmod(inside("closed"), 0700) == 0, "opened again");
}

int main(void)
{
    alarm(120);
    image.fd = -1;
    if (mkdtemp(directory) == NULL || !run("python3", "tests/vectors/make.py", directory)) {
        CHECK(false, "python3 tests/vectors/make.py makes the images");
        run("rm", "-rf", directory);
        return checks_end();
    }
    test_verdicts();
    test_foreign();
    test_squashfs_end();
    test_facts();
    test_refused_kinds();
    test_replaced();
    test_long_name();
    test_permissions();
    open_image("", false);
    CHECK(run("rm", "-rf", directory), "nothing is left");
    return checks_end();
}
