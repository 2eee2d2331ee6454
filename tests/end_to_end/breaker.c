/* A program in a container that tries to get around what it is to do without. Each way is a line: its name, and "done" or the errno.
 *
 *   breaker write DIRECTORY     ways to change DIRECTORY/kept, a file of the caller's, and the directory itself
 *   breaker mark DIRECTORY      what belongs to DIRECTORY/kept but its content
 *   breaker read DIRECTORY NAME ways to read DIRECTORY/NAME
 *   breaker network             sockets of each kind, by each way that a processor has
 *   breaker abstract NAME       connects to a socket without a file
 *   breaker borrow PID FD       takes what another process has open, or its memory
 *   breaker call NAME           mkdir, unshare, ptrace or chroot once
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { OPENAT2 = 437, IO_URING_SETUP = 425, PIDFD_OPEN = 434, PIDFD_GETFD = 438, X32 = 0x40000000 };

static void say(const char *way, long result)
{
    printf("%s %s\n", way, result >= 0 ? "done" : strerrorname_np(errno));
    fflush(stdout);
}

static long opened(int directory, const char *path, int flags)
{
    int fd = openat(directory, path, flags | O_NONBLOCK, 0600);
    int number = errno;

    if (fd >= 0)
        close(fd);
    errno = number;
    return fd;
}

static const char *joined(const char *before, const char *directory, const char *name)
{
    static char path[64][4096]; /* more than are made in a run */
    static int next;
    char *text = path[next++ % 64];

    snprintf(text, sizeof path[0], "%s%s/%s", before, directory, name);
    return text;
}

static void in_child(const char *way, const char *path, int flags)
{
    int status;

    if (fork() == 0) {
        setsid();
        _exit(opened(AT_FDCWD, path, flags) >= 0 ? 0 : errno);
    }
    wait(&status);
    errno = WEXITSTATUS(status);
    say(way, errno == 0 ? 0 : -1);
}

static const char *thread_path;
static void *thread(void *flags)
{
    say("thread", opened(AT_FDCWD, thread_path, (int)(intptr_t)flags));
    return NULL;
}

static void in_thread(const char *path, int flags)
{
    pthread_t id;

    thread_path = path;
    pthread_create(&id, NULL, thread, (void *)(intptr_t)flags);
    pthread_join(id, NULL);
}

/* The same file by other names. */
static void other_ways(const char *directory, const char *name, int flags)
{
    uint64_t how[3] = {(uint64_t)flags, 0, 0};
    int place = open(directory, O_PATH | O_DIRECTORY);
    char link[64];

    say("openat2", syscall(OPENAT2, AT_FDCWD, joined("", directory, name), how, sizeof how));
    say("descriptor", opened(place, name, flags));
    say("own-root", opened(AT_FDCWD, joined("/proc/self/root", directory, name), flags));
    if (fchdir(place) == 0)
        say("directory", opened(AT_FDCWD, name, flags));
    snprintf(link, sizeof link, "/tmp/breaker.%d", (int)getpid());
    if (symlink(joined("", directory, name), link) == 0) {
        say("link", opened(AT_FDCWD, link, flags));
        unlink(link);
    }
    in_child("child", joined("", directory, name), flags);
    in_thread(joined("", directory, name), flags);
}

static void write_all(const char *directory)
{
    const char *kept = joined("", directory, "kept");

    say("open", opened(AT_FDCWD, kept, O_WRONLY));
    say("append", opened(AT_FDCWD, kept, O_RDWR | O_APPEND));
    other_ways(directory, "kept", O_WRONLY);
    say("create", opened(AT_FDCWD, joined("", directory, "made"), O_WRONLY | O_CREAT));
    say("nameless", opened(AT_FDCWD, directory, O_TMPFILE | O_WRONLY));
    say("mkdir", mkdir(joined("", directory, "directory"), 0700));
    say("fifo", mkfifo(joined("", directory, "fifo"), 0600));
    say("symlink", symlink("kept", joined("", directory, "symlink")));
    say("hardlink", link(kept, joined("", directory, "hardlink")));
    say("rename", rename(kept, joined("", directory, "renamed")));
    say("back", rename(joined("", directory, "renamed"), kept));
    say("out", rename(kept, "/tmp/breaker.out"));
    say("truncate", truncate(kept, 0));
    say("shorten", opened(AT_FDCWD, kept, O_WRONLY | O_TRUNC));
    say("unlink", unlink(kept));
}

static void mark_all(const char *directory)
{
    const char *kept = joined("", directory, "kept");
    const struct timespec times[2] = {{1, 0}, {1, 0}};

    say("chmod", chmod(kept, 0644));
    say("utimensat", utimensat(AT_FDCWD, kept, times, 0));
    say("setxattr", setxattr(kept, "user.breaker", "x", 1, 0));
    say("chown", chown(kept, getuid(), getgid()));
}

static void read_all(const char *directory, const char *name)
{
    say("open", opened(AT_FDCWD, joined("", directory, name), O_RDONLY));
    other_ways(directory, name, O_RDONLY);
    say("list", opened(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY));
    say("execute", fork() == 0 ? (execl(joined("", directory, name), name, NULL), _exit(errno), 0) : 0);
    int status;
    wait(&status);
    printf("executed %s\n", strerrorname_np(WEXITSTATUS(status)));
}

#if defined __x86_64__
static long compat(long number, long a, long b, long c)
{
    long result;

    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    if (result < 0)
        errno = (int)-result, result = -1;
    return result;
}

/* In a child: a kernel without such programs ends it by a signal. */
static void compat_try(const char *way, long number, long a, long b, long c)
{
    int status;

    if (fork() == 0)
        _exit(compat(number, a, b, c) >= 0 ? 0 : errno);
    wait(&status);
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : ENOSYS;
    say(way, errno == 0 ? 0 : -1);
}
#endif

static void network(void)
{
    static const struct { const char *name; int family, type; } kinds[] = {
        {"tcp", AF_INET, SOCK_STREAM}, {"udp", AF_INET, SOCK_DGRAM}, {"tcp6", AF_INET6, SOCK_STREAM}, {"udp6", AF_INET6, SOCK_DGRAM},
        {"raw", AF_INET, SOCK_RAW}, {"ping", AF_INET, SOCK_DGRAM}, {"packet", AF_PACKET, SOCK_RAW}, {"netlink", AF_NETLINK, SOCK_RAW},
        {"vsock", AF_VSOCK, SOCK_STREAM}, {"alg", AF_ALG, SOCK_SEQPACKET}, {"mptcp", AF_INET, SOCK_STREAM}};
    char ring[256] = {0};
    int pair[2];

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        int protocol = strcmp(kinds[i].name, "ping") == 0 ? 1 : strcmp(kinds[i].name, "mptcp") == 0 ? 262 : 0;
        say(kinds[i].name, socket(kinds[i].family, kinds[i].type, protocol));
    }
    say("high-bits", syscall(SYS_socket, 0x100000000L | AF_INET, SOCK_DGRAM, 0));
    say("io_uring", syscall(IO_URING_SETUP, 4, ring));
#if defined __x86_64__
    say("x32", syscall(X32 | SYS_socket, AF_INET, SOCK_DGRAM, 0));
    compat_try("compat", 359, AF_INET, SOCK_DGRAM, 0);
    compat_try("socketcall", 102, 1, 0, 0);
#endif
    say("unix", socket(AF_UNIX, SOCK_STREAM, 0));
    say("pair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

static void abstract(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strncpy(address.sun_path + 1, name, sizeof address.sun_path - 2);
    say("abstract", connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))));
}

static void borrow(int process, int fd)
{
    char byte = 0, path[64];
    unsigned long address = 0;
    FILE *maps;

    snprintf(path, sizeof path, "/proc/%d/maps", process);
    if ((maps = fopen(path, "r")) == NULL || fscanf(maps, "%lx", &address) != 1)
        address = 0x400000; /* then that is refused already */
    struct iovec here = {&byte, 1}, there = {(void *)address, 1};

    say("pidfd_getfd", syscall(PIDFD_GETFD, (int)syscall(PIDFD_OPEN, process, 0), fd, 0));
    say("process_vm_readv", process_vm_readv(process, &here, 1, &there, 1, 0));
    snprintf(path, sizeof path, "/proc/%d/mem", process);
    say("mem", opened(AT_FDCWD, path, O_RDWR));
    snprintf(path, sizeof path, "/proc/%d/fd/%d", process, fd);
    say("fd", opened(AT_FDCWD, path, O_RDONLY));
    long attached = ptrace(PTRACE_ATTACH, process, NULL, NULL);
    say("ptrace", attached);
    if (attached == 0) {
        waitpid(process, NULL, 0);
        ptrace(PTRACE_DETACH, process, NULL, NULL); /* or it would stay stopped */
    }
}

static void call(const char *name)
{
    if (strcmp(name, "mkdir") == 0)
        say(name, mkdir("/tmp/breaker.directory", 0700));
    else if (strcmp(name, "unshare") == 0)
        say(name, unshare(CLONE_NEWUSER));
    else if (strcmp(name, "mount") == 0)
        say(name, mount("none", "/tmp", "tmpfs", 0, NULL));
    else if (strcmp(name, "chroot") == 0)
        say(name, chroot("/"));
    else if (strcmp(name, "personality") == 0)
        say(name, syscall(SYS_personality, 0x0400000));
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "write") == 0 && argc > 2)
        write_all(argv[2]);
    else if (strcmp(what, "mark") == 0 && argc > 2)
        mark_all(argv[2]);
    else if (strcmp(what, "read") == 0 && argc > 3)
        read_all(argv[2], argv[3]);
    else if (strcmp(what, "network") == 0)
        network();
    else if (strcmp(what, "abstract") == 0 && argc > 2)
        abstract(argv[2]);
    else if (strcmp(what, "borrow") == 0 && argc > 3)
        borrow(atoi(argv[2]), atoi(argv[3]));
    else if (strcmp(what, "call") == 0 && argc > 2)
        call(argv[2]);
    else
        return 2;
    return 0;
}
