/* --linger: an image that stays mounted for a while after its last launch. No privilege: what a keeper has is its user's. */
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "../perform/perform.h"

/* A keeper is bounded in number and has its time to answer, in which its launch mounts the image at first. */
enum { KEEPERS = 16, PATIENCE = 5, TRIES = 1000, KEY_SIZE = 256, NAME_SIZE = 64 };
/* What the keeper's launch has open, in the order of its request's keep_fd. */
enum { KEPT_HAND, KEPT_USER, KEPT_MOUNT, KEPT_FIRST = 3 };

/* What --linger was asked for. */
struct keeping {
    struct request *request;
    uint64_t seconds;
    char **line; /* the command line, for all to see */
};

/* ---- whose, and which image ---- */

/* The file and what is in it: another one of this name is another image. */
static void identity(const struct stat *status, char text[static KEY_SIZE])
{
    snprintf(text, KEY_SIZE, "%llu:%llu %lld %lld.%09ld", (unsigned long long)status->st_dev, (unsigned long long)status->st_ino,
             (long long)status->st_size, (long long)status->st_mtim.tv_sec, status->st_mtim.tv_nsec);
}

/* A mount in a user namespace is for those whose ids it maps in the same way, and who come from where it was made; a keeper is believed
 * where it stands (outside.c). */
static void key_make(const struct request *request, char key[static KEY_SIZE])
{
    struct stat user = {0}, processes = {0};

    (void)stat("/proc/self/ns/user", &user);
    (void)stat("/proc/self/ns/pid", &processes);
    snprintf(key, KEY_SIZE, "uid %u gid %u of %llu in %llu%s%s%s%s", (unsigned)getuid(), (unsigned)getgid(), (unsigned long long)user.st_ino,
             (unsigned long long)processes.st_ino, request->userns ? " without setuid" : "", request->fakeroot ? " as root" : "",
             request->id_ranges != NULL ? " and " : "", request->id_ranges != NULL ? request->id_ranges : "");
}

static void name_begin(char text[static NAME_SIZE])
{
    snprintf(text, NAME_SIZE, "singularity-linger-%u-", (unsigned)getuid());
}

static void meet(struct rendezvous *rendezvous, const struct request *request)
{
    char begin[NAME_SIZE];

    name_begin(begin);
    rendezvous->keeper = getuid();
    rendezvous->outside = &outside_keeper;
    rendezvous->patience = PATIENCE;
    rendezvous->key_size = (size_t)snprintf((char *)rendezvous->key, sizeof rendezvous->key, "%s image %s", request->linger_key,
                                            request->linger_file);
    rendezvous_name(rendezvous, begin);
}

/* ---- a keeper is started ---- */

/* Others may make such names too: then this user's images are kept no longer than they are used. */
static bool too_many(void)
{
    char line[512], begin[NAME_SIZE];
    FILE *stream = fopen("/proc/net/unix", "re");
    int count = 0;

    name_begin(begin);
    while (stream != NULL && fgets(line, sizeof line, stream) != NULL)
        count += strstr(line, begin) != NULL;
    if (stream != NULL)
        fclose(stream);
    return count > KEEPERS; /* ours is among them */
}

/* Nothing of the caller's: who reads the output of a launch waits until nobody has it open any more, and Ctrl-C is for the program. */
static void leave_caller(int *place, int *watch)
{
    int null = open("/dev/null", O_RDWR), moved[] = {fcntl(*place, F_DUPFD, 16), fcntl(*watch, F_DUPFD, 16)};

    for (int fd = 0; fd < KEPT_FIRST; fd++)
        if (dup2(null, fd) < 0)
            _exit(EXIT_OWN_FAILURE);
    for (int i = 0; i < 2; i++)
        if (dup2(moved[i], KEPT_FIRST + i) < 0)
            _exit(EXIT_OWN_FAILURE);
    *place = KEPT_FIRST;
    *watch = KEPT_FIRST + 1;
    perform_close(KEPT_FIRST + 2);
    if (chdir("/") < 0)
        _exit(EXIT_OWN_FAILURE);
    message_begin(LEVEL_FATAL - 1, false);
}

/* The same image by the same way, and nothing else: neither options nor variables of this launch. */
static void become_request(struct request *request, int hand)
{
    const char *image = request->image, *key = request->linger_key, *file = request->linger_file, *ranges = request->id_ranges;
    bool userns = request->userns, fakeroot = request->fakeroot;

    memset(request, 0, offsetof(struct request, text_store));
    request->image = image;
    request->linger_key = key;
    request->linger_file = file;
    request->userns = userns;
    request->fakeroot = fakeroot;
    request->id_ranges = ranges;
    request->action = ACTION_LINGER;
    request->no_oci_defaults = true;
    request->cwd = "/";
    request->keep_fd[request->keep_fd_count++].number = (uint64_t)hand;
}

/* The kernel ends it when the image's file is changed, replaced or removed: a signal is what needs no look. */
static void end_with_image(int watch)
{
    struct pollfd seen = {.fd = watch, .events = POLLIN};
    sigset_t none;

    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || fcntl(watch, F_SETOWN, getpid()) < 0 || fcntl(watch, F_SETSIG, SIGTERM) < 0 ||
        fcntl(watch, F_SETFL, O_ASYNC | O_NONBLOCK) < 0 || poll(&seen, 1, 0) != 0)
        _exit(EXIT_OWN_FAILURE);
}

/* The keeper: it has what its launch gives it, and stays outside. */
static _Noreturn void keep(const struct keeping *keeping, struct rendezvous *rendezvous, int place, int hand)
{
    static char *const nothing[] = {NULL};
    static char shown[PATH_MAX + 64];
    int fds[RENDEZVOUS_SPACES];

    snprintf(shown, sizeof shown, "%d\t%llu\t%s", (int)getpid(), (unsigned long long)keeping->seconds, keeping->request->image);
    outside_hide_options(keeping->line, nothing, "sexec"); /* no earlier: the image's name may be one of those words */
    (void)prctl(PR_SET_NAME, "sexec-linger");
    rendezvous->linger = keeping->seconds;
    rendezvous->shown = shown;
    rendezvous->inside = hand;
    size_t count = outside_receive(hand, fds);
    end_with_image(rendezvous->watch);
    rendezvous_keep(rendezvous, place, fds, count);
}

/* Two forks: the keeper's launch is nobody's child either. True in it. */
static bool start(const struct keeping *keeping, struct rendezvous *rendezvous, int place)
{
    int hand, watch = inotify_init1(IN_NONBLOCK);
    pid_t child = -1;

    if (watch >= 0 && inotify_add_watch(watch, keeping->request->image, IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF) >= 0)
        child = fork();
    if (child == 0) {
        if (setsid() < 0 || fork() != 0)
            _exit(0);
        leave_caller(&place, &watch);
        rendezvous->watch = watch;
        if (outside_begin(place, &hand))
            keep(keeping, rendezvous, place, hand);
        if (hand < 0)
            _exit(EXIT_OWN_FAILURE);
        close(place);
        close(watch);
        (void)fcntl(hand, F_SETFD, 0); /* the setuid program has it, too */
        become_request(keeping->request, hand);
        return true;
    }
    fd_close(&watch);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    return false;
}

/* ---- in the front door ---- */

/* What makes it pointless to look for a keeper, or NULL. */
static const char *obstacle_of(const struct request *request, struct stat *image)
{
    struct statfs place;

    if (request->writable)
        return "the image is written";
    if (request->target_uid != 0)
        return "the launch is for another user";
    if (stat(request->image, image) < 0 || !S_ISREG(image->st_mode))
        return "the image is no file";
    if (statfs(request->image, &place) == 0 && place.f_type == FUSE_SUPER_MAGIC) /* whose server may be there for this launch alone */
        return "the image lies in a FUSE file system";
    return NULL;
}

/* The keeper's namespaces, or -1: the launch is mostly in the process of the front door, and need not ask again. */
static int *spaces_got(void)
{
    static int spaces[2] = {-1, -1};

    return spaces;
}

static bool answered(int connection)
{
    char word = 0;

    return rendezvous_receive(connection, &word, 1, spaces_got(), 2) == 1 && word == 'y';
}

/* Who binds the name first starts the keeper; all others, and he himself, connect and wait for its answer, which comes when the
 * image is mounted. 1: there is a keeper. 0: there is none. -1: this process is its launch. */
static int find_keeper(const struct keeping *keeping, struct rendezvous *rendezvous, const char **obstacle)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    bool started = keeping->request->dry_run != DRY_RUN_NO;

    for (int tries = 0; *obstacle == NULL && tries < TRIES; tries++) {
        OWNED_FD connection = rendezvous_ask(rendezvous, obstacle);
        if (connection >= 0 && answered(connection))
            return 1;
        if (connection >= 0 || *obstacle != NULL)
            return 0; /* it has come to its end, or to none in time */
        OWNED_FD place = rendezvous_bind(rendezvous);
        if (place < 0)
            (void)nanosleep(&pause, NULL); /* somebody has the name, and listens in a moment */
        else if (started)
            return 0;
        else if (too_many())
            *obstacle = "there are too many keepers (singularity linger list)";
        else if (started = true, start(keeping, rendezvous, place))
            return fd_give(&place), -1; /* its number is another's now */
    }
    return 0;
}

bool linger_begin(struct request *request, uint64_t seconds, char **line, struct text_store *store)
{
    static struct rendezvous rendezvous; /* too large for a stack that may be limited */
    const struct keeping keeping = {request, seconds, line};
    char text[KEY_SIZE];
    struct stat image;
    const char *obstacle = obstacle_of(request, &image);
    int found = 0;

    if (obstacle == NULL) {
        key_make(request, text);
        request->linger_key = text_copy(store, text, strlen(text));
        identity(&image, text);
        request->linger_file = text_copy(store, text, strlen(text));
        meet(&rendezvous, request);
        found = find_keeper(&keeping, &rendezvous, &obstacle);
    }
    if (found < 0)
        return true;
    if (found > 0)
        snprintf(text, sizeof text, "yes (mounted already, and for %llu s after its last use)", (unsigned long long)seconds);
    else if (obstacle == NULL && request->dry_run != DRY_RUN_NO)
        snprintf(text, sizeof text, "no (not mounted yet: a launch would have it kept for %llu s)", (unsigned long long)seconds);
    else
        snprintf(text, sizeof text, "no (%s)", obstacle != NULL ? obstacle : "its keeper did not start: no image that is only read?");
    message_verbose("--linger: %s", text);
    request->linger_reason = text_copy(store, text, strlen(text));
    if (found == 0)
        request->linger_key = request->linger_file = NULL;
    return false;
}

/* ---- in a launch ---- */

void linger_use(struct plan *plan, const struct plan_inputs *inputs)
{
    static struct rendezvous rendezvous;
    const struct request *request = inputs->request;
    struct part *part = &plan->parts[0];
    const char *obstacle = NULL;
    char file[KEY_SIZE];
    struct stat image;
    int *spaces = spaces_got();

    if (request->linger_key == NULL || request->linger_file == NULL || part->way != WAY_FUSE || plan->dry || plan->join ||
        fstat(part->fd, &image) < 0)
        return;
    identity(&image, file);
    bool same = strcmp(file, request->linger_file) == 0; /* or another file has taken its name meanwhile */
    if (request->action == ACTION_LINGER && !same)
        _exit(EXIT_OWN_FAILURE); /* a keeper has what its name says, or is none */
    if (request->action == ACTION_LINGER || !same)
        return;
    meet(&rendezvous, request);
    OWNED_FD connection = spaces[0] < 0 ? rendezvous_ask(&rendezvous, &obstacle) : -1;
    if (spaces[0] < 0 && (connection < 0 || !rendezvous_answered(connection, spaces, 2, &obstacle))) {
        message_verbose("--linger: mounting the image anew: %s", obstacle != NULL ? obstacle : "its keeper has come to its end");
        return;
    }
    plan->kept_user = spaces[0];
    plan->kept_mount = spaces[1];
    part->way = WAY_KEPT;
    message_verbose("--linger: using the mount that the keeper of %s has", part->source);
}

/* ---- in the keeper's launch ---- */

void linger_prepare(const struct plan *plan, struct request *request)
{
    static const char *const names[] = {"self/ns/user", "self/ns/mnt"};

    for (size_t i = 0; plan->mode == MODE_USERNS && i < 2; i++) {
        int space = openat(proc_fd(), names[i], O_RDONLY | O_CLOEXEC);
        if (space < 0)
            stop(errno, "keep the image mounted (%s)", names[i]);
        request->keep_fd[request->keep_fd_count++].number = (uint64_t)space;
    }
}

_Noreturn void linger_keep(const struct request *request, const struct caller *caller)
{
    static const struct rendezvous rendezvous = {.shown = ""};
    const struct request_entry *kept = request->keep_fd;
    uint32_t count = request->keep_fd_count;

    if (count != KEPT_USER && count != KEPT_MOUNT + 1)
        stop(0, "launch request of a keeper without its descriptors");
    privilege_forget(caller);
    const int spaces[2] = {(int)kept[KEPT_USER].number, (int)kept[KEPT_MOUNT].number};
    outside_keeper.keep(&rendezvous, (int)kept[KEPT_HAND].number, spaces, count - KEPT_USER);
    _exit(EXIT_OWN_FAILURE);
}
