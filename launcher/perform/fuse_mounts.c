/* File systems of the user's own programs: mounted with the user's rights in his own user namespace, and served by programs with no more.
 * Not in the setuid program. */
#include "fuse_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"

enum { DEVICE = 3 };

void fuse_mounts_plan(struct fuse_mounts *mounts, struct plan *plan, const struct plan_inputs *inputs, char *const *environment)
{
    const struct request *request = inputs->request;

    if (request->fuse_count == 0 || request_enters(request) || request->action == ACTION_LINGER)
        return;
    if (!inputs->config->enable_fusemount && inputs->caller->uid != 0)
        stop(0, "--fusemount: not allowed here (\"enable fusemount = no\" in %s)", inputs->config->path);
    for (uint32_t i = 0; i < request->fuse_count && i < FUSE_MOUNTS; i++) {
        mounts->asked[mounts->count] = &request->fuse[i];
        mounts->devices[mounts->count] = mounts->go[mounts->count] = -1;
        mounts->count++;
        struct step *step = plan_add(plan, STEP_BIND, request->fuse[i].first, request->fuse[i].second, STEP_NODEV | STEP_IN_IMAGE,
                                     request->fuse[i].number & FUSE_HOST ? "--fusemount, by a program of the host"
                                                                         : "--fusemount, by a program of the container");
        step->missing_source = step->missing_target = LOSS_STOP;
    }
    mounts->environment = environment;
    mounts->directory = request->cwd;
    mounts->keep_rights = plan->mode == MODE_ROOT;
    plan->fuse_mounts = mounts;
}

/* libfuse (3.3 and newer) takes an open device by this name, and mounts nothing. A program in the foreground is told so. */
void fuse_mounts_words(const struct request_entry *asked, int device, char *words[FUSE_WORDS + 3])
{
    static char name[32], foreground[] = "-f";
    static char text[PATH_MAX];
    int count = 0;

    snprintf(text, sizeof text, "%s", asked->first);
    for (char *next = text; next != NULL && count < FUSE_WORDS;)
        words[count++] = strsep(&next, "\n");
    snprintf(name, sizeof name, "/dev/fd/%d", device);
    words[count++] = name;
    if (!(asked->number & FUSE_DAEMON))
        words[count++] = foreground;
    words[count] = NULL;
}

/* No input, and no signal of the terminal's; what it says is seen with --debug. */
void fuse_mounts_settle(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)setsid();
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        if (fd == 0 || message_level_get() < LEVEL_DEBUG)
            (void)dup2(null, fd);
    for (int number = 1; number < 32; number++)
        (void)signal(number, SIG_DFL);
}

static _Noreturn void become_host_program(const struct fuse_mounts *mounts, uint32_t number, int go)
{
    char *words[FUSE_WORDS + 3], byte;

    if (read(go, &byte, 1) != 1)
        _exit(EXIT_OWN_FAILURE); /* the launch has failed, and says so itself */
    fuse_mounts_settle();
    if ((mounts->devices[number] != DEVICE && dup2(mounts->devices[number], DEVICE) < 0) || fcntl(DEVICE, F_SETFD, 0) < 0 ||
        (mounts->directory != NULL && chdir(mounts->directory) < 0))
        _exit(EXIT_OWN_FAILURE);
    perform_close(DEVICE + 1);
    if (!mounts->keep_rights)
        fuse_drop_rights();
    fuse_mounts_words(mounts->asked[number], DEVICE, words);
    environ = (char **)(uintptr_t)mounts->environment;
    execvp(words[0], words);
    stop(errno, "--fusemount: %s", words[0]);
}

/* Two forks: nobody's child, as our own servers. */
static void start_host_program(struct fuse_mounts *mounts, uint32_t number)
{
    int go[2];
    pid_t child = pipe2(go, O_CLOEXEC) < 0 ? -1 : fork();

    if (child < 0)
        stop(errno, "--fusemount: %s", mounts->asked[number]->second);
    if (child == 0) {
        close(go[1]);
        if (fork() != 0)
            _exit(0);
        become_host_program(mounts, number, go[0]);
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    close(go[0]);
    mounts->go[number] = go[1];
}

void fuse_mounts_prepare(const struct plan *plan)
{
    struct fuse_mounts *mounts = plan->fuse_mounts;

    for (uint32_t i = 0; mounts != NULL && !plan->dry && i < mounts->count; i++) {
        int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (device < 0)
            stop(errno, "--fusemount: /dev/fuse (ask the administrator for access to it)");
        mounts->devices[i] = fcntl(device, F_DUPFD_CLOEXEC, 16); /* where no number of the programs' own is */
        close(device);
        if (mounts->asked[i]->number & FUSE_HOST)
            start_host_program(mounts, i);
    }
}

/* allow_other: a program that has taken another id in its own user namespace sees it too; the namespace is where that ends. */
static int mounted(const struct stage *stage, uint32_t number, int device)
{
    char options[128], name[32];
    struct new_filesystem filesystem = {.type = "fuse", .source = "fusemount", .options = options, .privilege = PRIVILEGE_ROOT,
                                        .attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};

    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other", device, (unsigned)getuid(), (unsigned)getgid());
    snprintf(name, sizeof name, "fuse%u", number);
    int tree = mount_new(&stage->session, &filesystem);
    OWNED_FD place = session_entry(&stage->session, name, true, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    if (tree < 0 || mount_attach(tree, place) < 0)
        stop(errno, "--fusemount: mount a file system through FUSE");
    return tree;
}

void fuse_mounts_make(struct plan *plan, const struct stage *stage)
{
    struct fuse_mounts *mounts = plan->fuse_mounts;

    for (uint32_t i = 0; mounts != NULL && i < mounts->count; i++)
        for (struct step *step = plan->steps; step < plan->steps + plan->step_count; step++) {
            if (!(step->flags & STEP_IN_IMAGE) || step->source != mounts->asked[i]->first || step->target != mounts->asked[i]->second)
                continue;
            fd_close(&step->facts.source_fd);
            step->facts.source_fd = mounted(stage, i, mounts->devices[i]);
            step->facts.source_type = S_IFDIR;
            if (mounts->go[i] >= 0 && write(mounts->go[i], "", 1) != 1)
                stop(errno, "--fusemount: %s", step->target);
            fd_close(&mounts->go[i]);
        }
}

void fuse_mounts_check(const struct plan *plan)
{
    struct fuse_mounts *mounts = plan->fuse_mounts;

    for (uint32_t i = 0; mounts != NULL && i < mounts->count; i++)
        fd_close(&mounts->devices[i]); /* or nobody would notice that a program has ended */
    for (uint32_t i = 0; mounts != NULL && i < mounts->count; i++) {
        OWNED_FD root = host_open(mounts->asked[i]->second, O_RDONLY | O_DIRECTORY);
        if (root < 0 && (errno == ENOTCONN || errno == ECONNABORTED))
            stop(0, "--fusemount: the program for %s ended before it served anything (--debug shows what it said; it must be built on "
                 "libfuse 3.3 or newer)", mounts->asked[i]->second);
    }
}
