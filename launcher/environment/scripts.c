/* Which scripts of the image set the program's environment, and in which order. */
#include "environment/parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "descriptor.h"
#include "program.h"

enum { ENTRIES_SIZE = 4096 };

static bool is_script(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    /* DT_UNKNOWN too: some file systems do not tell the type (readdir(3)); what it is shows when it is opened */
    bool kind = entry->d_type == DT_REG || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN;

    return kind && entry->d_name[0] != '.' && length > 3 && strcmp(entry->d_name + length - 3, ".sh") == 0;
}

/* By insertion: an image has about ten of them, and a shell's * gives the same order in the C locale. */
static void path_insert(struct arena *arena, struct scripts *scripts, size_t *room, const char *name)
{
    const char *path = text_join(arena, SCRIPTS_DIRECTORY, "/", name);
    size_t at = scripts->count;

    if (scripts->count == *room) {
        size_t larger = *room == 0 ? 16 : 2 * *room;
        scripts->paths = arena_grow(arena, scripts->paths, *room * sizeof *scripts->paths, larger * sizeof *scripts->paths);
        environment_need(scripts->paths != NULL);
        *room = larger;
    }
    for (; at > 0 && strcmp(scripts->paths[at - 1], path) > 0; at--)
        scripts->paths[at] = scripts->paths[at - 1];
    scripts->paths[at] = path;
    scripts->count++;
}

static void warn_unread(int number)
{
    program_check_image();
    message_warning(SCRIPTS_DIRECTORY " cannot be read, the variables of the image are missing: %s", strerror(number));
}

/* getdents64 and not readdir, which would take 32 KiB to read ten names. Where files have 64 bits both fill the same struct. */
_Static_assert(sizeof(ino_t) == 8 && sizeof(off_t) == 8, "struct dirent is that of getdents64(2)");
static void directory_list(int directory, struct arena *arena, struct scripts *scripts)
{
    union {
        struct dirent entry;
        char bytes[ENTRIES_SIZE];
    } buffer;
    size_t room = 0;

    for (;;) {
        long got = syscall(SYS_getdents64, directory, &buffer, sizeof buffer);
        if (got < 0)
            warn_unread(errno);
        if (got <= 0)
            return;
        for (long at = 0; at < got;) {
            const struct dirent *entry = (const void *)(buffer.bytes + at);
            if (is_script(entry))
                path_insert(arena, scripts, &room, entry->d_name);
            at += entry->d_reclen;
        }
    }
}

/* Images of version 2 have one file, /environment, in place of the directory. */
void scripts_list(struct arena *arena, struct scripts *scripts)
{
    OWNED_FD directory = open(SCRIPTS_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *scripts = (struct scripts){.modern = directory >= 0};
    if (directory >= 0) {
        directory_list(directory, arena, scripts);
        return;
    }
    if (errno != ENOENT && errno != ENOTDIR) {
        warn_unread(errno);
        return;
    }
    scripts->paths = arena_take(arena, sizeof *scripts->paths);
    environment_need(scripts->paths != NULL);
    scripts->paths[0] = "/environment";
    scripts->count = 1;
}

/* Names that builds of the family have always given to their scripts, compared as bytes like the order itself. */
enum script_kind script_kind(const char *path)
{
    static const char base[] = SCRIPTS_DIRECTORY "/01-base.sh";
    static const char docker[] = SCRIPTS_DIRECTORY "/10-docker";
    static const char last[] = SCRIPTS_DIRECTORY "/99-base.sh";

    if (strcmp(path, base) == 0)
        return SCRIPT_FIRST;
    if (strncmp(path, docker, sizeof docker - 1) == 0)
        return SCRIPT_DOCKER;
    return strncmp(path, SCRIPTS_DIRECTORY, sizeof SCRIPTS_DIRECTORY - 1) == 0 && strcmp(path, last) > 0 ? SCRIPT_LATE
                                                                                                          : SCRIPT_OWN;
}
