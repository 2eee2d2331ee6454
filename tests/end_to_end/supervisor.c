/* Stands between one program and the kernel: every system call of it and its children comes here first (seccomp's user
 * notification), to be counted, told, or answered with an error. Test only; runs as root, which may install a filter without
 * no_new_privs, so that setuid programs stay setuid; the program runs as the ids given.
 *
 *   supervisor UID GID GROUP,... REQUEST-FILE PROGRAM WORD...
 *
 * Jobs on standard input, a line each: "list", "stages", or "fail CALL NUMBER ERRNO" (the CALL that is the NUMBERth of its
 * kind; only such calls come here then). After each: "call" or "stage" lines for the first two, then "done STATUS LEFT FAILED
 * OUT ERR" and so many bytes of its output and messages. What else than the starters is executed is let be. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6; refused before, and slower then */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#endif

enum { REQUEST = 5, OUT = 20, ERR = 21, LISTENER = 40, PROCESSES = 64, GRACE = 5000, LIMIT = 20000, SHOWN = 1 << 20, KEPT = 30 };
enum what { WHAT_FAIL, WHAT_LIST, WHAT_STAGES };
enum left { LEFT_TIMED_OUT = 1, LEFT_PROCESSES = 2, LEFT_MOUNTS = 4 };

struct user { uid_t uid; gid_t gid; gid_t groups[64]; size_t group_count; };
struct job { enum what what; int call; long number; int error; };

/* What is known of a process that makes calls. */
struct known { pid_t pid; bool starter; bool look_again; };

struct watch {
    struct job job;
    struct known processes[PROCESSES];
    size_t process_count;
    dev_t device;         /* of the starters: sexec-suid and sexec beside it */
    ino_t inodes[2];
    long count;           /* of calls that came here */
    bool failed;          /* one of them was answered with the error */
    bool pivoted;
};

static const char *starter;

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(70);
}

static long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* ---- the program's side ---- */

static void put(int fd, int at)
{
    if (fd < 0 || (fd != at && (dup2(fd, at) < 0 || close(fd) < 0)))
        die("descriptor");
}

static void filter_install(const struct job *job)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, job->what == WHAT_FAIL ? UINT32_MAX : 0, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)job->call, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                            SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);

    if (listener != LISTENER) /* the lowest that is free, as it was arranged */
        _exit(98);
}

static _Noreturn void program(const struct job *job, const struct user *user, char **words, const sigset_t *usual)
{
    static char *const environment[] = {"PATH=/bin:/usr/bin", NULL};

    setsid();
    sigprocmask(SIG_SETMASK, usual, NULL);
    put(open("/dev/null", O_RDONLY), 0);
    dup2(OUT, 1);
    dup2(ERR, 2);
    close(OUT);
    close(ERR);
    for (int fd = 3; fd < LISTENER; fd++)
        if (fd != REQUEST)
            dup2(0, fd); /* so that the listener's number is known */
    filter_install(job);
    for (int fd = 3; fd < LISTENER; fd++)
        if (fd != REQUEST && fd != KEPT)
            close(fd);
    if (setgroups(user->group_count, user->groups) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        _exit(97);
    execve(starter, words, environment);
    _exit(99);
}

/* ---- looking at processes ---- */

/* From what the kernel has in memory: the program may lie in a file system whose server waits for an answer from here. */
static bool is_starter(const struct watch *watch, pid_t pid)
{
    char path[64];
    struct statx status;

    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    return statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &status) == 0 &&
           makedev(status.stx_dev_major, status.stx_dev_minor) == watch->device &&
           (status.stx_ino == watch->inodes[0] || status.stx_ino == watch->inodes[1]);
}

static struct known *known_of(struct watch *watch, pid_t pid)
{
    for (size_t i = 0; i < watch->process_count; i++)
        if (watch->processes[i].pid == pid)
            return &watch->processes[i];
    if (watch->process_count == PROCESSES)
        watch->process_count = 0;
    struct known *new = &watch->processes[watch->process_count++];
    *new = (struct known){.pid = pid, .look_again = true};
    return new;
}

static void text_of(pid_t pid, uint64_t address, char *text, size_t size)
{
    struct iovec here = {text, size - 1}, there = {(void *)(uintptr_t)address, size - 1};
    ssize_t length = -1;

    for (size_t more = size - 1; more > 0 && length < 0; more /= 4) { /* it may stand at the end of what is mapped */
        here.iov_len = there.iov_len = more;
        length = process_vm_readv(pid, &here, 1, &there, 1, 0);
    }
    text[length < 0 ? 0 : length] = '\0';
    for (char *byte = text; *byte != '\0'; byte++)
        if (*byte < ' ' || *byte > '~')
            *byte = '?';
}

/* Which argument of a call is a path; -1: none. */
static int path_argument(int call)
{
    switch (call) {
    case SYS_execve: case SYS_chdir: case SYS_umount2: case SYS_chroot: case SYS_fsopen:
#ifdef SYS_open
    case SYS_open: case SYS_stat: case SYS_lstat: case SYS_access: case SYS_readlink: case SYS_mkdir:
#endif
        return 0;
    case SYS_openat: case SYS_openat2: case SYS_mkdirat: case SYS_newfstatat: case SYS_faccessat: case SYS_faccessat2:
    case SYS_readlinkat: case SYS_symlinkat: case SYS_statx:
        return 1;
    default:
        return -1;
    }
}

static void tell(const char *word, const struct watch *watch, const struct seccomp_notif *notice)
{
    char text[512] = "";
    int which = path_argument(notice->data.nr);

    if (which >= 0)
        text_of((pid_t)notice->pid, notice->data.args[which], text, sizeof text);
    printf("%s %u %d %d %s\n", word, notice->pid, notice->data.nr, watch->pivoted ? 1 : 0, text);
}

/* Whether this mount is one of the namespace that the process is in. */
static bool mounted_inside(pid_t pid, unsigned mount)
{
    char path[64], *row = NULL;
    size_t room = 0;
    bool inside = false;

    snprintf(path, sizeof path, "/proc/%d/mountinfo", pid);
    FILE *mounts = fopen(path, "re");
    while (mounts != NULL && getline(&row, &room, mounts) > 0)
        inside |= (unsigned)strtoul(row, NULL, 10) == mount;
    free(row);
    if (mounts != NULL)
        fclose(mounts);
    return inside;
}

static void tell_descriptor(pid_t pid, int fd)
{
    char path[64], target[512], line[256];
    unsigned mount = 0, flags = 0;

    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = '\0';
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fd);
    FILE *info = fopen(path, "re");
    while (info != NULL && fgets(line, sizeof line, info) != NULL)
        if (sscanf(line, "mnt_id: %u", &mount) != 1)
            sscanf(line, "flags: %o", &flags);
    if (info != NULL)
        fclose(info);
    printf("fd %d %d %d %s\n", fd, mounted_inside(pid, mount), (flags & O_CLOEXEC) != 0, target);
}

static void tell_descriptors(pid_t pid)
{
    char path[64];
    struct dirent *one;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    while (directory != NULL && (one = readdir(directory)) != NULL)
        if (one->d_name[0] != '.')
            tell_descriptor(pid, atoi(one->d_name));
    if (directory != NULL)
        closedir(directory);
}

/* ---- the supervisor's side ---- */

/* 0, or the error that this call is to meet. */
static int judge(struct watch *watch, const struct seccomp_notif *notice)
{
    struct known *process = known_of(watch, (pid_t)notice->pid);
    int call = notice->data.nr;

    if (process->look_again)
        process->starter = is_starter(watch, process->pid);
    process->look_again = call == SYS_execve;
    if (!process->starter)
        return 0;
    if (watch->job.what == WHAT_LIST)
        tell("call", watch, notice);
    if (watch->job.what == WHAT_STAGES) {
        tell("stage", watch, notice);
        if (watch->pivoted)
            tell_descriptors((pid_t)notice->pid);
    }
    watch->pivoted |= call == SYS_pivot_root;
    if (watch->job.what != WHAT_FAIL || call != watch->job.call || ++watch->count != watch->job.number)
        return 0;
    watch->failed = true;
    return watch->job.error;
}

static void answer(struct watch *watch, int listener)
{
    static struct seccomp_notif notice; /* larger than the kernel's would matter; smaller cannot be */
    struct seccomp_notif_resp response = {0};

    memset(&notice, 0, sizeof notice);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notice) < 0)
        return; /* it was killed meanwhile */
    int error = judge(watch, &notice);
    response.id = notice.id;
    response.error = -error;
    response.flags = error == 0 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static int listener_of(pid_t child)
{
    int process = (int)syscall(SYS_pidfd_open, child, 0), listener = -1;
    const struct timespec pause = {.tv_nsec = 200000};

    for (long limit = now() + GRACE; process >= 0 && listener < 0 && now() < limit;) {
        listener = (int)syscall(SYS_pidfd_getfd, process, LISTENER, 0);
        if (listener < 0)
            nanosleep(&pause, NULL);
    }
    close(process);
    if (listener < 0)
        die("listener");
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    return listener;
}

/* Until nothing that came of the program is left; its wait status. */
static int supervise(struct watch *watch, pid_t child, int listener, int *left)
{
    long limit = now() + LIMIT;
    int status = 0, one;
    pid_t pid, first = child;

    for (;;) {
        struct pollfd poll_for = {.fd = listener, .events = POLLIN};
        if (poll(&poll_for, 1, 5) > 0 && (poll_for.revents & POLLIN)) {
            answer(watch, listener);
            if (now() < limit)
                continue;
        }
        while ((pid = waitpid(-1, &one, WNOHANG)) > 0)
            if (pid == child) {
                status = one;
                child = 0;
                limit = now() + GRACE;
            }
        if (pid < 0 && errno == ECHILD)
            return status;
        if (now() <= limit)
            continue;
        *left |= child > 0 ? LEFT_TIMED_OUT : LEFT_PROCESSES;
        if (child == 0 && first == 0)
            return status;
        kill(-first, SIGKILL);
        limit = now() + GRACE;
        first = child > 0 ? first : 0;
    }
}

static uint64_t mounts_known(void)
{
    uint64_t mixed = UINT64_C(14695981039346656037);
    FILE *file = fopen("/proc/self/mountinfo", "re");

    for (int byte; file != NULL && (byte = getc(file)) != EOF;)
        mixed = (mixed ^ (unsigned)byte) * UINT64_C(1099511628211);
    fclose(file);
    return mixed;
}

static void supply(const char *request)
{
    char bytes[65536];
    int file = open(request, O_RDONLY | O_CLOEXEC);
    ssize_t size = read(file, bytes, sizeof bytes);

    close(file);
    put(memfd_create("request", MFD_ALLOW_SEALING), REQUEST);
    if (size <= 0 || write(REQUEST, bytes, (size_t)size) != size ||
        fcntl(REQUEST, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        die(request);
}

static void run(const struct job *job, const struct user *user, const char *request, char **words, const sigset_t *usual)
{
    static char out[SHOWN], err[SHOWN];
    struct watch watch = {.job = *job};
    struct stat status;
    char other[4096];
    int left = 0;
    uint64_t mounts = mounts_known();

    snprintf(other, sizeof other, "%.*s/sexec", (int)(strrchr(starter, '/') - starter), starter);
    if (stat(starter, &status) < 0)
        die(starter);
    watch.device = status.st_dev;
    watch.inodes[0] = status.st_ino;
    watch.inodes[1] = stat(other, &status) == 0 ? status.st_ino : 0;
    supply(request);
    put(memfd_create("out", 0), OUT);
    put(memfd_create("err", 0), ERR);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        program(job, user, words, usual);
    close(REQUEST);
    int listener = listener_of(child);
    int ended = supervise(&watch, child, listener, &left);
    close(listener);
    left |= mounts_known() != mounts ? LEFT_MOUNTS : 0;
    ssize_t outs = pread(OUT, out, sizeof out, 0), errs = pread(ERR, err, sizeof err, 0);
    close(OUT);
    close(ERR);
    printf("done %d %d %d %zd %zd\n", ended, left, watch.failed, outs, errs);
    fwrite(out, 1, (size_t)outs, stdout);
    fwrite(err, 1, (size_t)errs, stdout);
    fflush(stdout);
}

static bool job_read(struct job *job)
{
    char line[128], word[16];

    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    *job = (struct job){0};
    int found = sscanf(line, "%15s %d %ld %d", word, &job->call, &job->number, &job->error);
    job->what = found < 1 || strcmp(word, "fail") == 0 ? WHAT_FAIL : strcmp(word, "list") == 0 ? WHAT_LIST : WHAT_STAGES;
    return true;
}

int main(int argc, char **argv)
{
    struct user user = {0};
    struct job job;
    sigset_t ended, usual;

    if (argc < 7)
        return 64;
    user.uid = (uid_t)atoi(argv[1]);
    user.gid = (gid_t)atoi(argv[2]);
    for (char *word = strtok(argv[3], ","); word != NULL && user.group_count < 64; word = strtok(NULL, ","))
        user.groups[user.group_count++] = (gid_t)atoi(word);
    starter = argv[5];
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, &usual);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        die("orphans");
    while (job_read(&job))
        run(&job, &user, argv[4], argv + 6, &usual);
    return 0;
}
