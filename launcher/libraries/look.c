/* A look at libraries: reads ELF files that anybody may have written. Never in a process that has privilege. */
#include "look.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"
#include "libraries.h"

enum { OBJECTS = 2 * LIBRARIES_LIMIT };

/* A library of the image that was looked for. */
struct looked_for {
    char name[NAME_MAX + 1];
    struct shared_object object;
};

enum { DIRECTORIES = 6 };

struct look {
    int root;
    const char *directories[DIRECTORIES]; /* where its loader looks by itself, as far as they exist */
    uint32_t directory_count;
    const uint8_t *cache;
    size_t cache_size;
    struct looked_for *known;
    uint32_t known_count;
};

/* Mapped read-only and private; a file that is cut off while it is read ends this child by SIGBUS and nothing else
 * (mmap(2)). */
static const uint8_t *map(int fd, size_t *size)
{
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size <= 0)
        return NULL;
    *size = (size_t)status.st_size;
    void *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    return bytes != MAP_FAILED ? bytes : NULL;
}

/* The name at the end of all links, by the kernel: it has the full number of the version. */
static void object_read(int fd, struct shared_object *object)
{
    char path[PATH_MAX];
    size_t size = 0;
    const uint8_t *bytes = map(fd, &size);

    *object = (struct shared_object){.kind = ELF_NONE, .found = bytes != NULL};
    if (bytes == NULL)
        return;
    object->kind = elf_read(bytes, size, &object->elf);
    if (descriptor_path(fd, path, sizeof path))
        snprintf(object->name, sizeof object->name, "%s", strrchr(path, '/') + 1);
}

struct path_wanted {
    const char *name;
    char path[PATH_MAX];
};

/* The first entry counts, as for the loader. */
static void path_take(void *context, const char *name, const char *path)
{
    struct path_wanted *wanted = context;

    if (*wanted->path == '\0' && strcmp(name, wanted->name) == 0 && strlen(path) < sizeof wanted->path)
        memcpy(wanted->path, path, strlen(path) + 1);
}

/* where distributions have the loader of each machine: the ABI fixes LOADER (ld.so(8)), musl its own, and TRIPLET is
 * Debian's multiarch directory */
#if defined(__x86_64__)
#define TRIPLET "x86_64-linux-gnu"
#define LOADER "/lib64/ld-linux-x86-64.so.2"
#define MUSL "/lib/ld-musl-x86_64.so.1"
#elif defined(__aarch64__)
#define TRIPLET "aarch64-linux-gnu"
#define LOADER "/lib/ld-linux-aarch64.so.1"
#define MUSL "/lib/ld-musl-aarch64.so.1"
#elif defined(__powerpc64__)
#define TRIPLET "powerpc64le-linux-gnu"
#define LOADER "/lib64/ld64.so.2"
#define MUSL "/lib/ld-musl-powerpc64le.so.1"
#else
#define TRIPLET "."
#define LOADER "/lib/ld64.so.1"
#define MUSL "/lib/ld-musl.so.1"
#endif

/* Without those that are links to others of them. */
static void find_directories(struct look *look)
{
    static const char *const usual[DIRECTORIES] = {"/lib64", "/usr/lib64", "/lib/" TRIPLET, "/usr/lib/" TRIPLET, "/lib", "/usr/lib"};
    struct stat status, known[DIRECTORIES];

    for (size_t i = 0; i < DIRECTORIES; i++) {
        OWNED_FD fd = inside_open(look->root, usual[i], O_PATH | O_DIRECTORY);
        bool new = fd >= 0 && fstat(fd, &status) == 0;
        for (uint32_t j = 0; new && j < look->directory_count; j++)
            new = known[j].st_ino != status.st_ino || known[j].st_dev != status.st_dev;
        if (!new)
            continue;
        known[look->directory_count] = status;
        look->directories[look->directory_count++] = usual[i];
    }
}

/* As the loader looks: its cache, then the usual directories. One of another machine is looked past, as the loader
 * does: images for 32 bit programs have both kinds under the same names. */
static bool find_in_image(const struct look *look, const char *name, struct shared_object *object)
{
    struct path_wanted wanted = {.name = name};
    char path[PATH_MAX];

    if (look->cache != NULL)
        library_cache_read(look->cache, look->cache_size, path_take, &wanted);
    for (uint32_t i = *wanted.path != '\0' ? 0 : 1; i <= look->directory_count; i++) {
        if (i > 0)
            snprintf(path, sizeof path, "%s/%s", look->directories[i - 1], name);
        OWNED_FD fd = inside_open(look->root, i == 0 ? wanted.path : path, O_RDONLY | O_NONBLOCK);
        object_read(fd, object);
        if (object->found && object->kind != ELF_OTHER)
            return true;
    }
    return false;
}

/* Each name once: many libraries need the same ones, and an image may lie in a slow file system. */
static const struct shared_object *look_for(void *context, const char *name)
{
    struct look *look = context;

    if (*name == '\0' || strlen(name) > NAME_MAX || strchr(name, '/') != NULL)
        return NULL;
    for (uint32_t i = 0; i < look->known_count; i++)
        if (strcmp(look->known[i].name, name) == 0)
            return look->known[i].object.found ? &look->known[i].object : NULL;
    if (look->known_count == OBJECTS)
        return NULL;
    struct looked_for *new = &look->known[look->known_count++];
    memcpy(new->name, name, strlen(name) + 1);
    new->object.found = find_in_image(look, name, &new->object);
    return new->object.found ? &new->object : NULL;
}

/* No glibc where it always is, but musl: what the host has cannot load. Neither of them: nothing is known. */
static bool foreign_image(struct look *look)
{
    OWNED_FD loader = inside_open(look->root, LOADER, O_PATH);
    OWNED_FD musl = inside_open(look->root, MUSL, O_PATH);

    return look_for(look, "libc.so.6") == NULL && loader < 0 && musl >= 0;
}

static void candidate_read(struct candidate *candidate, const struct request_entry *library, struct look *look)
{
    bool by_name = strncmp(library->second, LIBRARIES_INSIDE "/", strlen(LIBRARIES_INSIDE "/")) == 0;
    OWNED_FD fd = library->number & LIBRARY_OBJECT ? host_open(library->first, O_RDONLY | O_NONBLOCK) : -1;

    candidate->name = by_name ? library->second + strlen(LIBRARIES_INSIDE "/") : "";
    candidate->file = library->first;
    candidate->number = library->number;
    object_read(fd, &candidate->host);
    bool part = (library->number & LIBRARY_OPTION) == LIBRARY_MPI && !(library->number & (LIBRARY_LEAD | LIBRARY_SUPPORT));
    if (by_name && !part) /* parts of an MPI go where it goes: reading the image's would cost time for nothing */
        candidate->image = look_for(look, candidate->name);
}

/* ---- what the user is told ---- */

static bool cannot_go_in(const struct candidate *candidate, uint64_t option)
{
    return candidate->verdict == JUDGE_BROKEN && (candidate->number & LIBRARY_ASKED) &&
           (candidate->number & LIBRARY_OPTION) == option;
}

/* One warning for all that an option could not bring in; each by itself is told at the level of details. */
static void tell_broken(const struct request *asked, const struct candidate *candidates, uint64_t option)
{
    uint32_t first = asked->library_count, others = 0;

    for (uint32_t i = 0; i < asked->library_count; i++) {
        if (!cannot_go_in(&candidates[i], option))
            continue;
        bool none = first == asked->library_count;
        others += !none;
        if (none || (!(candidates[first].number & LIBRARY_LEAD) && (candidates[i].number & LIBRARY_LEAD)))
            first = i;
    }
    if (first == asked->library_count)
        return;
    const char *name = path_last(asked->library[first].second), *why = candidates[first].reason;
    if (others > 0)
        message_warning("%s: %s and %u more cannot be used in this image and stay out: it %s (--dry-run shows them all)",
                        library_option(option), name, others, why);
    else
        message_warning("%s: %s cannot be used in this image and stays out: it %s", library_option(option), name, why);
}

/* With --mpi=host one line says why the host's MPI stays out: by the library that could not load, not by those that needed it. */
static void tell_mpi(const struct request *asked, const struct candidate *candidates)
{
    for (uint32_t i = 0; i < asked->library_count; i++) {
        const char *reason = candidates[i].reason;
        if (!cannot_go_in(&candidates[i], LIBRARY_MPI) || strstr(reason, "which stays out") != NULL)
            continue;
        bool itself = strncmp(reason, "the ", strlen("the ")) != 0;
        message_warning("--mpi=host: the image's own MPI is used: %s%s%s", itself ? path_last(asked->library[i].second) : "",
                        itself ? " " : "", reason);
        return;
    }
}

static void tell(const struct request *asked, const struct candidate *candidates)
{
    for (uint32_t i = 0; i < asked->library_count; i++)
        if (candidates[i].verdict != JUDGE_TAKEN)
            message_verbose("%s: %s is left out, %s%s", library_option(candidates[i].number), candidates[i].file,
                            candidates[i].verdict == JUDGE_BROKEN ? "cannot be used here: " : "", candidates[i].reason);
    for (uint64_t option = 0; option <= LIBRARY_OPTION; option++)
        if (option != LIBRARY_MPI)
            tell_broken(asked, candidates, option);
    tell_mpi(asked, candidates);
}

/* These arrays are static: a launch may have a small stack limit (R-L12). */
void library_look(const struct request *asked, int root, struct told *told)
{
    static struct candidate candidates[LIBRARIES_LIMIT];
    static struct looked_for known[OBJECTS];
    struct look look = {.root = root, .known = known};
    OWNED_FD cache = inside_open(root, "/etc/ld.so.cache", O_RDONLY | O_NONBLOCK);

    look.cache = map(cache, &look.cache_size);
    find_directories(&look);
    const struct image_libraries image = {look_for, &look, foreign_image(&look)};
    for (uint32_t i = 0; i < asked->library_count; i++)
        candidate_read(&candidates[i], &asked->library[i], &look);
    library_judge(candidates, asked->library_count, &image);
    for (uint32_t i = 0; i < asked->library_count; i++) {
        const char *before = candidates[i].verdict == JUDGE_BROKEN ? "cannot be used here"
                             : candidates[i].verdict == JUDGE_TAKEN && *candidates[i].reason != '\0' ? library_option(candidates[i].number)
                                                                                                    : "";
        told[i].taken = candidates[i].verdict == JUDGE_TAKEN;
        snprintf(told[i].text, TOLD_TEXT, "%s%s%s", before, *before != '\0' ? ": " : "", candidates[i].reason);
    }
    tell(asked, candidates);
}
