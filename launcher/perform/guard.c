/* What stays outside of a container that writes into a directory of the host: it holds the lock of that directory, and removes
 * what nobody is to keep. The user's own process, without privilege, and not in the setuid program. */
#include "guard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../descriptor.h"

#define LOCK_NAME "lock"
#define MADE_NAME "writable." /* in the directory of --workdir: one for each launch, since no two may write into one */
enum { STALE = 60 /* seconds: until then its launch may not have locked it */ };

/* ---- on the host ---- */

/* 0700: nobody else is to reach it while it is written, or removed. */
static void make_own(struct plan *plan, struct part *part)
{
    char name[64];
    int number = 0;

    do
        snprintf(name, sizeof name, MADE_NAME "%d.%d", (int)getpid(), number++);
    while (mkdirat(part->fd, name, 0700) < 0 && errno == EEXIST);
    int made = openat(part->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (made < 0)
        stop(errno, "make a directory in %s for what the program writes (%s)", part->source, part->reason);
    plan->guard_directory = part->fd;
    plan->guard_removes = plan_text(plan, "%s", name);
    part->fd = made;
    part->source = plan_text(plan, "%s/%s", part->source, name);
}

void guard_lock(struct plan *plan, const struct request *request)
{
    struct part *part = plan->writable_part > 0 ? &plan->parts[plan->writable_part] : NULL;
    struct error error = {0};

    if (part == NULL || part->way != WAY_BIND || plan->dry || plan->join != plan->instance)
        return; /* who shares a container does not wait for its end */
    bool throwaway = false;
    for (uint32_t i = 0; i < request->overlay_count; i++)
        throwaway |= (request->overlay[i].number & OVERLAY_THROWAWAY) != 0;
    if (throwaway)
        make_own(plan, part);
    plan->guard_lock = openat(part->fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (plan->guard_lock < 0) /* somebody else's: whether it can be written is asked later, and said then */
        return;
    if (!image_lock(plan->guard_lock, part->source, true, IMAGE_HOLDER(request->lock_place, getpid()), &error)) {
        if (error.number == 0)
            stop(0, "overlay %s", error.text);
        message_warning("overlay %s", error.text);
    }
}

/* ---- the guard ---- */

/* A directory that is going to be emptied: through no link, and none that something is mounted on. */
static int open_own(int parent, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS};
    struct stat above, status;
    int fd = (int)syscall(SYS_openat2, parent, name, &how, sizeof how);

    if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
        return fd;
    OWNED_FD found = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return found >= 0 && fstat(parent, &above) == 0 && fstat(found, &status) == 0 && status.st_dev == above.st_dev ? fd_give(&found) : -1;
}

/* By descriptors: somebody else may be exchanging names meanwhile. What lies deeper than files can be open stays. */
static void remove_tree(int parent, const char *name)
{
    struct dirent *entry;

    if (unlinkat(parent, name, 0) == 0)
        return;
    int fd = open_own(parent, name);
    if (fd < 0 && errno == EACCES && fchmodat(parent, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
        fd = open_own(parent, name);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    while (directory != NULL && (entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_tree(fd, entry->d_name);
    if (directory != NULL)
        closedir(directory);
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

/* What launches left that were killed with their guards, as batch systems do. Only one's own: root's launch may be writing in a directory
 * of somebody else's. */
static void remove_stale(int place)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET}; /* with all marks of holders */
    int listed = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = listed >= 0 ? fdopendir(listed) : NULL;
    struct dirent *entry;
    struct stat status;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (strncmp(entry->d_name, MADE_NAME, strlen(MADE_NAME)) != 0)
            continue;
        OWNED_FD made = openat(place, entry->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        OWNED_FD file = made >= 0 && fstat(made, &status) == 0 && status.st_uid == geteuid() ?
                        openat(made, LOCK_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (file >= 0 && fstat(file, &status) == 0 && time(NULL) - status.st_mtime > STALE && fcntl(file, F_OFD_SETLK, &whole) == 0)
            remove_tree(place, entry->d_name);
    }
    if (directory != NULL)
        closedir(directory);
}

/* Nobody's output is held open, and Ctrl-C is for the program. */
static void settle(int fds[], int count)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)setsid();
    for (int i = 0; i < count; i++)
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3 + count);
    for (int fd = 0; fd < 3; fd++)
        (void)dup2(null, fd);
    for (int i = 0; i < count; i++)
        if (fds[i] >= 0)
            (void)dup3(fds[i], 3 + i, O_CLOEXEC);
        else
            (void)close(3 + i);
    perform_close(3 + count);
    if (chdir("/") < 0)
        _exit(EXIT_OWN_FAILURE);
    for (int number = 1; number < 32; number++)
        (void)signal(number, SIG_DFL);
    (void)prctl(PR_SET_NAME, "sexec-guard");
}

/* Until the container's root file system is gone from the last mount namespace. A launch that can have no watch, or ends before it has
 * one, ends its container as far as this process can tell. */
static _Noreturn void guard(const struct plan *plan, int go, pid_t launch)
{
    enum { GO = 3, WATCH, LAUNCHER, LOCK, PLACE, COUNT };
    int fds[] = {go, plan->guard_watch, (int)syscall(SYS_pidfd_open, launch, 0), plan->guard_lock,
                 plan->guard_removes != NULL ? plan->guard_directory : -1};
    struct pollfd launcher = {.fd = LAUNCHER, .events = POLLIN};
    struct inotify_event event;
    char watched = 0;

    settle(fds, COUNT - GO);
    if (read(GO, &watched, 1) == 1 && watched == 'w')
        while (read(WATCH, &event, sizeof event) < 0 && errno == EINTR)
            continue;
    else if (watched != 0)
        while (poll(&launcher, 1, -1) < 0 && errno == EINTR)
            continue;
    if (plan->guard_removes != NULL) {
        remove_tree(PLACE, plan->guard_removes);
        remove_stale(PLACE);
    }
    _exit(0);
}

/* Two forks: nobody's child, so that no program in the container meets it in wait(2). */
void guard_start(struct plan *plan)
{
    int go[2];

    if (plan->guard_lock <= 0)
        return;
    plan->guard_watch = inotify_init1(IN_CLOEXEC);
    if (pipe2(go, O_CLOEXEC) < 0)
        stop(errno, "guard what the container writes");
    pid_t launch = getpid(), child = fork();
    if (child < 0)
        stop(errno, "guard what the container writes");
    if (child == 0) {
        close(go[1]);
        if (fork() != 0)
            _exit(0);
        guard(plan, go[0], launch);
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    close(go[0]);
    plan->guard_go = go[1];
}

void guard_watch(const struct plan *plan)
{
    if (plan->guard_lock <= 0)
        return;
    bool watched = plan->guard_watch >= 0 && inotify_add_watch(plan->guard_watch, "/", IN_DELETE_SELF) >= 0;
    if (write(plan->guard_go, watched ? "w" : "p", 1) != 1)
        stop(errno, "guard what the container writes");
}
