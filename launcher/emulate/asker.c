/* The process that waits for an answer: its memory and what its paths lead to, looked at with the rights that it has itself. The current
 * directory is that of /proc here, but within asker_open(). */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../descriptor.h"

enum { NAME_SIZE = 48, STATUS_SIZE = 4096, PAGE = 4096 };

bool asker_waits(const struct asker *asker)
{
    uint64_t id = asker->id;

    return listener_do(asker->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, (uintptr_t)&id);
}

ino_t asker_namespace(pid_t process)
{
    char name[NAME_SIZE];
    struct stat status;

    snprintf(name, sizeof name, process == 0 ? "self/ns/user" : "%d/ns/user", (int)process);
    return stat(name, &status) == 0 ? status.st_ino : 0;
}

/* ---- memory ---- */

/* The descriptor stays that of this very memory, whoever gets the process's number later. */
static bool memory_open(struct asker *asker)
{
    char name[NAME_SIZE];

    snprintf(name, sizeof name, "%d/mem", (int)asker->process);
    if (asker->memory < 0)
        asker->memory = open(name, O_RDWR | O_CLOEXEC);
    return asker->memory >= 0 && asker_waits(asker);
}

/* Page by page: the text may end just before what cannot be read. */
bool asker_text(struct asker *asker, uint64_t from, char *text)
{
    if (!memory_open(asker))
        return false;
    for (size_t used = 0; used < PATH_MAX;) {
        size_t part = PAGE - (size_t)((from + used) % PAGE);
        if (part > PATH_MAX - used)
            part = PATH_MAX - used;
        ssize_t got = pread(asker->memory, text + used, part, (off_t)(from + used));
        if (got <= 0)
            return false;
        if (memchr(text + used, '\0', (size_t)got) != NULL)
            return true;
        used += (size_t)got;
    }
    return false;
}

bool asker_read(struct asker *asker, uint64_t from, void *bytes, size_t size)
{
    return memory_open(asker) && pread(asker->memory, bytes, size, (off_t)from) == (ssize_t)size;
}

bool asker_write(struct asker *asker, uint64_t to, const void *bytes, size_t size)
{
    return memory_open(asker) && pwrite(asker->memory, bytes, size, (off_t)to) == (ssize_t)size;
}

/* ---- paths ---- */

static int own_of(const struct asker *asker, const char *what)
{
    char name[NAME_SIZE];

    snprintf(name, sizeof name, "%d/%s", (int)asker->process, what);
    return open(name, O_PATH | O_CLOEXEC);
}

int asker_descriptor(const struct asker *asker, int number)
{
    char name[NAME_SIZE];

    snprintf(name, sizeof name, "%d/fd/%d", (int)asker->process, number);
    return open(name, O_PATH | O_CLOEXEC);
}

/* "/proc/self/fd/7" and "/dev/fd/7": which of its descriptors that is; -1: neither. */
static int descriptor_named(const char *path)
{
    static const char *const places[] = {"/proc/self/fd/", "/dev/fd/", "/proc/thread-self/fd/"};
    char *end;

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        size_t length = strlen(places[i]);
        if (strncmp(path, places[i], length) != 0 || path[length] < '0' || path[length] > '9')
            continue;
        unsigned long number = strtoul(path + length, &end, 10);
        return *end == '\0' && number <= INT_MAX ? (int)number : -1;
    }
    return -1;
}

/* By the kernel's own walk, after this process has gone where the asker stands: ".." and links end at its root, and nothing of ours is
 * in reach but by the links of /proc that are refused. There is one thread here, and the next question begins with going elsewhere. */
int asker_open(const struct asker *asker, int directory, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)flags | O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
    int named = flags & O_NOFOLLOW ? -1 : descriptor_named(path), result = -1, number = ESRCH;
    OWNED_FD proc = -1;

    if (named >= 0)
        return asker_descriptor(asker, named);
    proc = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    OWNED_FD root = own_of(asker, "root");
    OWNED_FD base = *path == '/' ? -1 : directory == AT_FDCWD ? own_of(asker, "cwd") : asker_descriptor(asker, directory);
    if (proc < 0 || root < 0 || (*path != '/' && base < 0))
        return -1;
    if (!asker_waits(asker)) {
        errno = ESRCH;
        return -1;
    }
    if (fchdir(root) == 0 && chroot(".") == 0 && (base < 0 || fchdir(base) == 0)) {
        do
            result = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
        while (result < 0 && errno == EAGAIN);
        number = errno;
    }
    if (fchdir(proc) < 0)
        _exit(EXIT_FAILURE);
    errno = number;
    return result;
}

/* ---- rights ---- */

/* What stands behind this word in /proc/PID/status, whose first line, the name, has no newline in it; NULL: nothing does. */
static const char *line_of(const struct asker *asker, const char *label, char text[static STATUS_SIZE])
{
    char name[NAME_SIZE];

    snprintf(name, sizeof name, "%d/status", (int)asker->process);
    OWNED_FD file = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, text, STATUS_SIZE - 1) : -1;
    text[length > 0 ? length : 0] = '\0';
    const char *line = strstr(text, label);
    return line != NULL ? line + strlen(label) : NULL;
}

/* Linux 4.7; other masks are seldom. */
mode_t asker_mask(const struct asker *asker)
{
    char text[STATUS_SIZE];
    const char *word = line_of(asker, "\nUmask:", text);

    return word != NULL ? (mode_t)strtoul(word, NULL, 8) & 0777 : 022;
}

/* The last of its user ids is that by which it gets at files. */
bool asker_may(const struct asker *asker, unsigned capability)
{
    const uint64_t wanted = 1ULL << capability | 1ULL << CAP_DAC_OVERRIDE;
    char text[STATUS_SIZE];
    unsigned user;

    if (asker->how.one_id)
        return true;
    const char *ids = line_of(asker, "\nUid:", text);
    if (ids == NULL || sscanf(ids, "%*u %*u %*u %u", &user) != 1 || user != 0)
        return false;
    const char *rights = line_of(asker, "\nCapEff:", text);
    return rights != NULL && (strtoull(rights, NULL, 16) & wanted) == wanted && asker_waits(asker);
}
