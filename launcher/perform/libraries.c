#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../library/cache.h"
#include "../library/judge.h"
#include "../privilege.h"
#include "inside.h"

enum { CANDIDATES = sizeof((struct request *)NULL)->library / sizeof(struct request_entry), OBJECTS = 2 * CANDIDATES };

/* What the process that looks tells: memory that it shares with this one. Only these few values cross over. */
struct told {
    bool finished;
    uint32_t count;
    struct {
        uint32_t step;
        uint32_t verdict;
        char reason[JUDGE_REASON];
    } entries[CANDIDATES];
};

/* ---- in the process that looks, which ends when it has told ---- */

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

static const uint8_t *map(int fd, size_t *size)
{
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size <= 0)
        return NULL;
    *size = (size_t)status.st_size;
    void *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    return bytes != MAP_FAILED ? bytes : NULL;
}

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

static void path_take(void *context, const char *name, const char *path)
{
    struct path_wanted *wanted = context;

    if (*wanted->path == '\0' && strcmp(name, wanted->name) == 0 && strlen(path) < sizeof wanted->path)
        memcpy(wanted->path, path, strlen(path) + 1);
}

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

/* As the loader looks: its cache, then the usual directories. */
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

static void candidate_read(struct candidate *candidate, const struct step *step, struct look *look)
{
    bool by_name = strncmp(step->target, LIBRARIES_INSIDE "/", strlen(LIBRARIES_INSIDE "/")) == 0;
    OWNED_FD fd = step->library & LIBRARY_OBJECT ? host_open(step->source, O_RDONLY | O_NONBLOCK) : -1;

    candidate->name = by_name ? step->target + strlen(LIBRARIES_INSIDE "/") : "";
    candidate->file = step->source;
    candidate->number = step->library;
    object_read(fd, &candidate->host);
    bool part = (step->library & LIBRARY_OPTION) == LIBRARY_MPI && !(step->library & (LIBRARY_LEAD | LIBRARY_SUPPORT));
    if (by_name && !part) /* parts of an MPI go where it goes: reading the image's would cost time for nothing */
        candidate->image = look_for(look, candidate->name);
}

static void look_at_all(struct plan *plan, int root, struct told *told)
{
    static struct candidate candidates[CANDIDATES];
    static struct looked_for known[OBJECTS];
    struct look look = {.root = root, .known = known};
    OWNED_FD cache = inside_open(root, "/etc/ld.so.cache", O_RDONLY | O_NONBLOCK);

    look.cache = map(cache, &look.cache_size);
    find_directories(&look);
    const struct image_libraries image = {look_for, &look, foreign_image(&look)};
    for (uint32_t i = 0; i < plan->step_count && told->count < CANDIDATES; i++) {
        const struct step *step = &plan->steps[i];
        if (!(step->flags & STEP_LIBRARY) || step->facts.source_type == 0)
            continue;
        told->entries[told->count].step = i;
        candidate_read(&candidates[told->count++], step, &look);
    }
    library_judge(candidates, told->count, &image);
    for (uint32_t i = 0; i < told->count; i++) {
        told->entries[i].verdict = candidates[i].verdict;
        memcpy(told->entries[i].reason, candidates[i].reason, JUDGE_REASON);
    }
    told->finished = true;
}

/* ---- in this process ---- */

/* What was told comes from the image in part: plain characters only, and an end. */
static const char *plain(struct plan *plan, const char *option, char *text)
{
    text[JUDGE_REASON - 1] = '\0';
    for (char *byte = text; *byte != '\0'; byte++)
        if (*byte < ' ' || *byte > '~')
            *byte = '?';
    return option != NULL ? plan_text(plan, "%s: %s", option, text) : plan_text(plan, "%s", text);
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static const char unloadable[] = "cannot be used here";

/* One warning for all that an option could not bring in; each by itself is told at the level of details. */
static void tell_broken(const struct plan *plan, uint64_t option)
{
    const struct step *first = NULL;
    uint32_t others = 0;

    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        if (!(step->flags & STEP_UNLOADABLE) || !(step->library & LIBRARY_ASKED) || (step->library & LIBRARY_OPTION) != option)
            continue;
        others += first != NULL;
        if (first == NULL || (!(first->library & LIBRARY_LEAD) && (step->library & LIBRARY_LEAD)))
            first = step;
    }
    if (first == NULL)
        return;
    const char *why = first->skipped + strlen(unloadable) + strlen(": ");
    if (others > 0)
        message_warning("%s: %s and %u more cannot be used in this image and stay out: it %s (--dry-run shows them all)",
                        plan_library_option(option), last_name(first->target), others, why);
    else
        message_warning("%s: %s cannot be used in this image and stays out: it %s", plan_library_option(option),
                        last_name(first->target), why);
}

/* With --mpi=host one line says why the host's MPI stays out: by the library that could not load, not by those that needed it. */
static void tell_mpi(const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        if (!(step->flags & STEP_UNLOADABLE) || !(step->library & LIBRARY_ASKED) || (step->library & LIBRARY_OPTION) != LIBRARY_MPI)
            continue;
        if (strstr(step->skipped, "which stays out") != NULL)
            continue;
        const char *reason = step->skipped + strlen(unloadable) + strlen(": ");
        bool itself = strncmp(reason, "the ", strlen("the ")) != 0;
        message_warning("--mpi=host: the image's own MPI is used: %s%s%s", itself ? last_name(step->target) : "", itself ? " " : "", reason);
        return;
    }
}

static void apply(struct plan *plan, struct told *told)
{
    for (uint32_t i = 0; i < told->count && i < CANDIDATES; i++) {
        struct step *step = told->entries[i].step < plan->step_count ? &plan->steps[told->entries[i].step] : NULL;
        if (step == NULL || !(step->flags & STEP_LIBRARY))
            continue;
        const char *option = plan_library_option(step->library);
        char *reason = told->entries[i].reason;
        if (told->entries[i].verdict == JUDGE_TAKEN)
            step->reason = *reason != '\0' ? plain(plan, option, reason) : step->reason;
        else
            step->skipped = plain(plan, told->entries[i].verdict == JUDGE_BROKEN ? unloadable : NULL, reason);
        step->flags |= told->entries[i].verdict == JUDGE_BROKEN ? STEP_UNLOADABLE : 0;
        if (step->skipped != NULL)
            message_verbose("%s: %s is left out, %s", option, step->source, step->skipped);
    }
    for (uint64_t option = 0; option <= LIBRARY_OPTION; option++)
        if (option != LIBRARY_MPI)
            tell_broken(plan, option);
    tell_mpi(plan);
}

static void leave_all(struct plan *plan)
{
    message_warning("the libraries of the host could not be compared with those of the image: none of them goes in");
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].flags & STEP_LIBRARY)
            plan->steps[i].skipped = "not compared with the image's";
}

static bool any_library(const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].flags & STEP_LIBRARY)
            return true;
    return false;
}

void survey_libraries(struct plan *plan, const struct caller *caller, int root)
{
    static struct told kept;
    int status = -1;

    if (!any_library(plan))
        return;
    struct told *told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED) {
        leave_all(plan);
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        privilege_forget(caller);
        look_at_all(plan, root, told);
        _exit(0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            break;
    kept = *told; /* what a process of the user's can no longer change */
    munmap(told, sizeof *told);
    if (child > 0 && WIFEXITED(status) && kept.finished)
        apply(plan, &kept);
    else
        leave_all(plan);
}
