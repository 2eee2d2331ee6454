/* Which mounts of the container are directories or files of the host, by the tables of mounts of both (proc_pid_mountinfo(5)). What only
 * the container has, its image and what it keeps in memory, is not outside. */
#include "parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../inside.h"

enum { MOUNTS = 512, LINE = 4 * PATH_MAX };

static struct mount_known known[MOUNTS];
static size_t known_count;
static const char *image_directory = "";

void mounts_changed(void)
{
    known_count = 0;
}

void mounts_begin(const char *image)
{
    image_directory = image;
}

/* A line of the table. */
struct line {
    unsigned long long number;
    unsigned major, minor;
    char root[PATH_MAX], place[PATH_MAX]; /* which part of the file system, and where it is */
    char type[64];
};

static bool read_line(FILE *table, struct line *line)
{
    static char text[LINE];
    char *separator;

    while (fgets(text, sizeof text, table) != NULL) {
        if (sscanf(text, "%llu %*u %u:%u %4095s %4095s", &line->number, &line->major, &line->minor, line->root, line->place) != 5 ||
            (separator = strstr(text, " - ")) == NULL || sscanf(separator + 3, "%63s", line->type) != 1)
            continue;
        mountinfo_unescape(line->root);
        mountinfo_unescape(line->place);
        return true;
    }
    return false;
}

/* Where in the tree below `directory` a path is: the rest of it, "" for itself; NULL: elsewhere. */
static const char *rest_of(const char *path, const char *directory)
{
    size_t length = strcmp(directory, "/") == 0 ? 0 : strlen(directory);

    if (length == 0 && strcmp(path, "/") == 0)
        return "";
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0') ? path + length : NULL;
}

static bool of_kernel(const char *type)
{
    static const char *const types[] = {"proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf"};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

/* Of several mounts of the host that show it the last counts: it lies over the others. */
static bool find_host(const struct line *mount, struct mount_known *found)
{
    static struct line line;
    FILE *table = fopen("/proc/self/mountinfo", "re");
    bool is_there = false;

    while (table != NULL && read_line(table, &line)) {
        const char *rest = line.major == mount->major && line.minor == mount->minor ? rest_of(mount->root, line.root) : NULL;
        if (rest == NULL || strcmp(line.type, mount->type) != 0)
            continue;
        is_there |= (size_t)snprintf(found->host, PATH_MAX, "%s%s", strcmp(line.place, "/") == 0 && *rest != '\0' ? "" : line.place, rest) < PATH_MAX;
    }
    if (table != NULL)
        fclose(table);
    return is_there && !of_kernel(mount->type) && (*image_directory == '\0' || rest_of(found->host, image_directory) == NULL);
}

const struct mount_known *mount_find(pid_t process, uint64_t number)
{
    static struct line line;
    char name[32];

    for (size_t i = 0; i < known_count; i++)
        if (known[i].number == number)
            return &known[i];
    snprintf(name, sizeof name, "/proc/%d/mountinfo", (int)process);
    FILE *table = fopen(name, "re");
    struct mount_known *found = NULL;
    while (table != NULL && found == NULL && read_line(table, &line)) {
        if (line.number != number)
            continue;
        if (known_count == MOUNTS)
            mounts_changed();
        found = &known[known_count++];
        found->number = number;
        memcpy(found->inside, line.place, PATH_MAX);
        found->outside = find_host(&line, found);
    }
    if (table != NULL)
        fclose(table);
    return found;
}
