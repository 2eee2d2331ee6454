/* Open descriptors of the caller: which of them the program gets (--keep-fd, PMI_FD), and that 0 to 2 are open. */
#include "front.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEEP_LIMIT = sizeof((struct request *)NULL)->keep_fd / sizeof(struct request_entry) };

/* In the order of their numbers, since open(2) takes the lowest one that is free (R-L3). O_APPEND means nothing to /dev/null: by it singularity/console.py tells what was closed from what was sent there. */
void descriptors_begin(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR | O_APPEND | O_NOCTTY) != fd)
            stop(errno, "/dev/null, in place of a closed standard stream");
}

/* Nine digits at most: no overflow, and no process has so many descriptors. */
static bool number_read(const char *text, int *number)
{
    int value = 0;

    if (*text == '\0' || strlen(text) > 9)
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (*text - '0');
    }
    *number = value;
    return true;
}

/* False: there is no room left. */
static bool add(struct request *request, int fd)
{
    for (uint32_t i = 0; i < request->keep_fd_count; i++)
        if (request->keep_fd[i].number == (uint64_t)fd)
            return true;
    if (request->keep_fd_count == KEEP_LIMIT)
        return false;
    request->keep_fd[request->keep_fd_count++] = (struct request_entry){.number = (uint64_t)fd};
    return true;
}

static bool refuse_more(const struct option_value *use, struct error *error)
{
    return error_set(error, 0, "%.*s: more than %d descriptors", OPTION_NAME(use), (int)KEEP_LIMIT);
}

/* Those without close-on-exec: what the caller meant to hand on. The directory's own descriptor has that flag, so it
 * is not among them. */
static bool keep_all(struct request *request, const struct option_value *use, struct error *error)
{
    DIR *stream = opendir("/proc/self/fd");
    struct dirent *entry;
    struct stat status;
    bool fits = true;
    int fd;

    if (stream == NULL)
        return error_set(error, errno, "%.*s: /proc/self/fd", OPTION_NAME(use));
    while (fits && (entry = readdir(stream)) != NULL) {
        if (!number_read(entry->d_name, &fd) || fd <= STDERR_FILENO || (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0)
            continue;
        if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode))
            message_warning("%.*s: %d is a directory, which would lead out of the container: left out", OPTION_NAME(use), fd);
        else
            fits = add(request, fd);
    }
    closedir(stream);
    return fits || refuse_more(use, error);
}

/* Looked at here for the message, and again by the starter for safety (R-L3): the request could be forged, and
 * another file could have taken the number. */
bool descriptor_keep(struct request *request, const struct option_value *use, const char *text, struct error *error)
{
    struct stat status;
    int fd;

    if (strcmp(text, "all") == 0)
        return keep_all(request, use, error);
    if (!number_read(text, &fd))
        return error_set(error, 0, "%.*s: \"%.60s\" is no descriptor (numbers, or \"all\")", OPTION_NAME(use), text);
    if (fd <= STDERR_FILENO)
        return true;
    if (fstat(fd, &status) < 0)
        return error_set(error, errno, "%.*s: descriptor %d", OPTION_NAME(use), fd);
    if (S_ISDIR(status.st_mode))
        return error_set(error, EISDIR, "%.*s: descriptor %d would lead out of the container", OPTION_NAME(use), fd);
    return add(request, fd) || refuse_more(use, error);
}

/* A socket or pipe to the launcher of ranks (PMI-1): without it an MPI program in the container starts as a job of
 * one. Anything else by that number is a leftover variable. */
void descriptor_keep_pmi(struct request *request, const char *value)
{
    struct stat status;
    int fd;

    if (value == NULL || !number_read(value, &fd) || fd <= STDERR_FILENO || fstat(fd, &status) < 0)
        return;
    if (S_ISSOCK(status.st_mode) || S_ISFIFO(status.st_mode))
        (void)add(request, fd);
}
