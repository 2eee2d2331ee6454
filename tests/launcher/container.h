/* A root directory for the tests of the payload stage, and launches in it: files are written, a launch is described,
 * its output and status are kept. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "payload.h"

static char container_root[] = "/tmp/container.XXXXXX";
static struct request request;
static struct payload payload;
static int exit_status;
static char output[8 << 20];
static size_t output_size;
static char messages[1 << 16];

static inline void container_fail(const char *what)
{
    printf("not ok 0 - %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The path of a file of the container as the test sees it. */
static inline const char *container_path(const char *path)
{
    static char whole[4096];
    snprintf(whole, sizeof whole, "%s%s", container_root, path);
    return whole;
}

static inline void make_directory(const char *path)
{
    char whole[4096];

    snprintf(whole, sizeof whole, "%s%s", container_root, path);
    for (char *slash = whole + strlen(container_root) + 1; *slash != '\0'; slash++)
        if (*slash == '/') {
            *slash = '\0';
            (void)mkdir(whole, 0755);
            *slash = '/';
        }
    if (mkdir(whole, 0755) != 0 && errno != EEXIST)
        container_fail(path);
}

static inline void make_file(const char *path, mode_t mode, const char *text)
{
    char parent[4096];
    int file;

    snprintf(parent, sizeof parent, "%s", path);
    *strrchr(parent, '/') = '\0';
    make_directory(parent);
    file = open(container_path(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(file, mode) != 0 || close(file) != 0)
        container_fail(path);
}

static inline void remove_path(const char *path)
{
    const char *whole = container_path(path);
    if (unlink(whole) != 0 && errno != ENOENT && rmdir(whole) != 0)
        container_fail(path);
}

/* Removes a directory with all that is in it: by busybox, which every container here has outside of its PATH. */
static inline void remove_tree(const char *path)
{
    char whole[4096];
    int status;
    pid_t child;

    snprintf(whole, sizeof whole, "%s%s", container_root, path);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        execl("/bin/rm", "rm", "-rf", "--", whole, (char *)NULL);
        _exit(1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        container_fail(path);
}

/* A static busybox under the names that the tests run; each a link to one file. */
static inline void install_programs(const char *const *names)
{
    static char bytes[8 << 20];
    int file = open("/bin/busybox", O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : read(file, bytes, sizeof bytes);
    char box[4096];
    int copy;

    make_directory("/bin");
    snprintf(box, sizeof box, "%s/busybox", container_root);
    copy = open(box, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    if (size <= 0 || copy < 0 || write(copy, bytes, (size_t)size) != size || close(copy) != 0 || close(file) != 0)
        container_fail("/bin/busybox");
    for (; *names != NULL; names++)
        if (link(box, container_path(*names)) != 0)
            container_fail(*names);
}

/* A fresh description: no variables of the caller, no arguments. */
static inline void launch_begin(enum action action)
{
    static char *const none[] = {NULL};

    memset(&request, 0, sizeof request);
    request.action = action;
    request.bind[0] = (struct request_entry){.first = "/data", .second = ""};
    request.bind[1] = (struct request_entry){.first = "/host/scratch", .second = "/scratch"};
    request.bind_count = 2;
    payload = (struct payload){.request = &request, .caller_environment = none, .arguments = none,
                               .home = "/home/user", .image = "/images/test.sif"};
}

static inline size_t read_back(int file, char *bytes, size_t size)
{
    ssize_t got, used = 0;

    while ((got = pread(file, bytes + used, size - 1 - (size_t)used, used)) > 0)
        used += got;
    bytes[used] = '\0';
    close(file);
    return (size_t)used;
}

/* In a child: leaves the host behind, without the need for root where user namespaces are. */
static inline bool enter_container(void)
{
    if (geteuid() != 0 && unshare(CLONE_NEWUSER) != 0)
        return false;
    return chroot(container_root) == 0 && chdir("/") == 0;
}

/* Performs the launch, `prepare` (may be NULL) in its process before; fills exit_status (128 + n for a signal), output
 * and messages. */
static inline void launch(void (*prepare)(void))
{
    int out = memfd_create("output", MFD_CLOEXEC), err = memfd_create("messages", MFD_CLOEXEC);
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child < 0 || out < 0 || err < 0)
        container_fail("fork");
    if (child == 0) {
        message_begin(LEVEL_INFO, false);
        if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0 || !enter_container())
            _exit(200);
        if (prepare != NULL)
            prepare();
        payload_execute(&payload);
    }
    if (waitpid(child, &status, 0) != child)
        container_fail("waitpid");
    exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    output_size = read_back(out, output, sizeof output);
    (void)read_back(err, messages, sizeof messages);
}

/* What `env -0` printed of the variable; NULL: nothing. */
static inline const char *variable(const char *name)
{
    size_t length = strlen(name);

    for (const char *at = output; at < output + output_size; at += strlen(at) + 1)
        if (strncmp(at, name, length) == 0 && at[length] == '=')
            return at + length + 1;
    return NULL;
}

static inline bool is(const char *name, const char *value)
{
    const char *found = variable(name);
    bool same = value == NULL ? found == NULL : found != NULL && strcmp(found, value) == 0;

    if (!same)
        printf("# %s is %.200s\n# %s", name, found == NULL ? "not there" : found, messages);
    return same;
}

/* Whether test can run here at all; says so when not. */
static inline bool container_possible(void)
{
    int status;
    pid_t child;

    if (access("/bin/busybox", X_OK) != 0) {
        CHECK(true, "there is no /bin/busybox here # SKIP");
        return false;
    }
    if (mkdtemp(container_root) == NULL)
        container_fail(container_root);
    fflush(stdout);
    child = fork();
    if (child == 0)
        _exit(enter_container() ? 0 : 1);
    if (child < 0 || waitpid(child, &status, 0) != child)
        container_fail("fork");
    if (status == 0)
        return true;
    (void)rmdir(container_root);
    CHECK(true, "neither root nor user namespaces here # SKIP");
    return false;
}

#endif
