/* What is remembered of a file: in an extended attribute of its own, so that it goes where the file goes, through renames, hard links and
 * copies, and ends with it. Owners of files and directories, and which device a file stands for; links and pipes can have none. */
#include "parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* "UID GID", and for a device "c MAJOR MINOR" or "b ..."; image/marks.py reads and writes the same. */
static const char name[] = "user.singularity.owner";
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
    ssize_t length = getxattr(path_of(fd, path), name, text, sizeof text - 1);

    *mark = (struct mark){.uid = 0};
    if (length < 0)
        return false;
    text[length] = '\0'; /* whatever it says: a program can write one too */
    if (sscanf(text, "%u %u %c %u %u", &mark->uid, &mark->gid, &kind, &mark->major, &mark->minor) < 2)
        return false;
    mark->device = kind == 'c' ? S_IFCHR : kind == 'b' ? S_IFBLK : 0;
    return true;
}

int mark_write(int fd, const struct mark *mark)
{
    char path[PATH_SIZE], text[TEXT_SIZE];
    int length = snprintf(text, sizeof text, "%u %u", mark->uid, mark->gid);

    path_of(fd, path);
    if (mark->uid == 0 && mark->gid == 0 && mark->device == 0)
        return removexattr(path, name) < 0 && errno != ENODATA ? errno : 0;
    if (mark->device != 0)
        length = snprintf(text, sizeof text, "%u %u %c %u %u", mark->uid, mark->gid, mark->device == S_IFCHR ? 'c' : 'b', mark->major,
                          mark->minor);
    return setxattr(path, name, text, (size_t)length, 0) < 0 ? errno : 0;
}
