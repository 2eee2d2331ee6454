/* What is remembered of a file: in an extended attribute of its own, so that it goes where the file goes, through renames and hard links,
 * and ends with it. Owners of files and directories, and which device a file stands for; links and pipes can have none. The file itself is
 * root's, also where there are more ids: what a program that is not root writes there, into a file of its own, is nothing. */
#include "parts.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* "UID GID", and for a device "c MAJOR MINOR" or "b ..."; image/marks.py reads and writes the same. */
const char mark_name[] = "user.singularity.owner";
enum { PATH_SIZE = 32, TEXT_SIZE = 80 };

/* No call takes an attribute of an O_PATH descriptor: /proc has a path to what it is of. */
static const char *path_of(int fd, char path[static PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "self/fd/%d", fd);
    return path;
}

bool mark_read(int fd, struct mark *mark)
{
    char path[PATH_SIZE], text[TEXT_SIZE], kind = '\0';
    struct stat status;
    ssize_t length = getxattr(path_of(fd, path), mark_name, text, sizeof text - 1);

    *mark = (struct mark){.uid = 0};
    if (length < 0 || fstat(fd, &status) < 0 || status.st_uid != 0)
        return false;
    text[length] = '\0'; /* whatever it says: a program can write one too */
    if (sscanf(text, "%u %u %c %u %u", &mark->uid, &mark->gid, &kind, &mark->major, &mark->minor) < 2)
        return false;
    mark->device = kind == 'c' ? S_IFCHR : kind == 'b' ? S_IFBLK : 0;
    return true;
}

bool mark_hidden(int fd, char *names, size_t *size)
{
    char path[PATH_SIZE];
    ssize_t length = listxattr(path_of(fd, path), names, XATTR_LIST_MAX);

    *size = 0;
    for (ssize_t at = 0; at < length;) {
        size_t each = strlen(names + at) + 1;
        if (strcmp(names + at, mark_name) != 0) {
            memmove(names + *size, names + at, each);
            *size += each;
        }
        at += (ssize_t)each;
    }
    return length >= 0;
}

/* 0, or an errno. What says nothing that is not so takes the mark away. */
static int write_mark(int fd, const struct mark *mark)
{
    char path[PATH_SIZE], text[TEXT_SIZE];
    int length = snprintf(text, sizeof text, "%u %u", mark->uid, mark->gid);

    path_of(fd, path);
    if (mark->uid == 0 && mark->gid == 0 && mark->device == 0)
        return removexattr(path, mark_name) < 0 && errno != ENODATA ? errno : 0;
    if (mark->device != 0)
        length = snprintf(text, sizeof text, "%u %u %c %u %u", mark->uid, mark->gid, mark->device == S_IFCHR ? 'c' : 'b', mark->major,
                          mark->minor);
    return setxattr(path, mark_name, text, (size_t)length, 0) < 0 ? errno : 0;
}

int mark_remember(int fd, const struct mark *mark)
{
    int number = write_mark(fd, mark);

    return number == EOPNOTSUPP || number == EPERM || number == EACCES || number == EINVAL ? 0 : -number;
}
