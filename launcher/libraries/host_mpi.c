/* --mpi=host: the host's MPI library and all that it needs, found as the caller's own programs would find it.
 * Reads files of the host, without privilege. */
#include "libraries.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../message.h"
#include "../variable.h"

enum {
    LIBRARY_LIMIT = sizeof((struct request *)NULL)->library / sizeof(struct request_entry),
    DIRECTORIES = 64,
    PLUGIN_DEPTH = 3,
    MPI_SET = LIBRARY_MPI * 64 + 1 /* as tables number theirs */
};
#define INSIDE "/.singularity.d/libs"

struct search {
    const struct host_mpi_sources *sources;
    struct request *request;
    struct text_store *store;
    uint64_t number;
    const uint8_t *cache;
    size_t cache_size;
    uint32_t directory_count;
    const char *directories[DIRECTORIES]; /* looked into before the cache */
};

static bool starts_with_one_of(const char *name, const char *const *starts)
{
    for (; *starts != NULL; starts++)
        if (strncmp(name, *starts, strlen(*starts)) == 0)
            return true;
    return false;
}

/* ---- into the request ---- */

/* One set: an MPI whose parts come from two builds does not start. */
static void add(struct search *search, const char *file, const char *target, uint64_t marks)
{
    struct request *request = search->request;

    for (uint32_t i = 0; i < request->library_count; i++)
        if (strcmp(request->library[i].second, target) == 0)
            return;
    if (request->library_count == LIBRARY_LIMIT) {
        message_warning("more than %d host libraries: %s is left out", (int)LIBRARY_LIMIT, file);
        return;
    }
    struct request_entry entry = {.first = text_copy(search->store, file, strlen(file)),
                                  .second = text_copy(search->store, target, strlen(target)),
                                  .number = search->number | marks | (uint64_t)MPI_SET << LIBRARY_SET};

    if (marks & LIBRARY_SUPPORT)
        entry.number &= ~(uint64_t)LIBRARY_ALWAYS;
    if (entry.first != NULL && entry.second != NULL)
        request->library[request->library_count++] = entry;
}

static void add_library(struct search *search, const char *file, const char *name, uint64_t marks)
{
    char target[PATH_MAX];

    snprintf(target, sizeof target, INSIDE "/%s", name);
    add(search, file, target, marks | LIBRARY_OBJECT);
}

/* The C library is the image's, whatever else comes from the host. It must fit the image's loader, which a launch
 * never replaces. */
static bool of_glibc(const char *name)
{
    static const char *const starts[] = {"ld-linux", "ld64.so", "libc.so.", "libm.so.", "libmvec.so.", "libpthread.so.", "libdl.so.",
                                         "librt.so.", "libutil.so.", "libresolv.so.", "libnsl.so.", "libanl.so.", "libnss_", NULL};
    return starts_with_one_of(name, starts);
}

/* What fits only the MPI and the plugins that it was built with; anything else may as well be the image's. */
static bool goes_with_mpi(const char *name)
{
    static const char *const starts[] = {"libmpi", "libmpl.so", "libopa.so", "libopen-", "libmca_", "libompi", "liboshmem", "libprrte",
                                         "libpmix", "libpmi", "libuc", "libfabric", "libibverbs", "librdmacm", "libmlx", "libefa",
                                         "libpsm", "libcxi", "libxpmem", "libhcoll", "libsharp", NULL};
    return starts_with_one_of(name, starts);
}

/* ---- where libraries are ---- */

static bool file_in(const char *directory, size_t length, const char *name, char path[PATH_MAX])
{
    int size = snprintf(path, PATH_MAX, "%.*s/%s", (int)length, directory, name);
    return *directory == '/' && size > 0 && size < PATH_MAX && access(path, R_OK) == 0;
}

/* Empty and relative parts are no places here: the loader would look in the current directory for them (ld.so(8)),
 * which changes from launch to launch. */
static bool file_in_list(const char *list, const char *name, char path[PATH_MAX])
{
    while (list != NULL && *list != '\0') {
        size_t length = strcspn(list, ":");
        if (length > 0 && file_in(list, length, name, path))
            return true;
        list += length + (list[length] == ':');
    }
    return false;
}

struct cache_wanted {
    const char *name;
    char *path;
};

static void cache_take(void *context, const char *name, const char *path)
{
    struct cache_wanted *wanted = context;

    if (*wanted->path == '\0' && strcmp(name, wanted->name) == 0 && strlen(path) < PATH_MAX)
        memcpy(wanted->path, path, strlen(path) + 1);
}

/* In the directories of a RUNPATH; $ORIGIN is that of the file which names them. $LIB and $PLATFORM are not replaced:
 * such a directory is not found, and the next place is asked. */
static bool file_in_run_path(const char *list, const char *origin, const char *name, char path[PATH_MAX])
{
    static const char *const spellings[] = {"$ORIGIN", "${ORIGIN}"};
    char directory[PATH_MAX];

    while (list != NULL && *list != '\0') {
        size_t length = strcspn(list, ":"), skip = 0;
        for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++)
            if (strncmp(list, spellings[i], strlen(spellings[i])) == 0)
                skip = strlen(spellings[i]);
        int size = snprintf(directory, sizeof directory, "%s%.*s", skip > 0 ? origin : "", (int)(length - skip), list + skip);
        if (length >= skip && size > 0 && (size_t)size < sizeof directory && file_in(directory, (size_t)size, name, path))
            return true;
        list += length + (list[length] == ':');
    }
    return false;
}

/* As the loader does: LD_LIBRARY_PATH, then RUNPATH, then its cache (ld.so(8)); between them the places that the
 * environment of a loaded module names, which a program would find by its own RPATH. */
static bool find(const struct search *search, const char *name, const char *run_path, const char *origin, char path[PATH_MAX])
{
    struct cache_wanted wanted = {name, path};
    const char *directories = variable(search->sources->environment, "LD_LIBRARY_PATH");

    if (file_in_list(directories, name, path) || file_in_run_path(run_path, origin, name, path))
        return true;
    for (uint32_t i = 0; i < search->directory_count; i++)
        if (file_in(search->directories[i], strlen(search->directories[i]), name, path))
            return true;
    *path = '\0';
    if (search->cache != NULL)
        library_cache_read(search->cache, search->cache_size, cache_take, &wanted);
    return *path != '\0';
}

static const uint8_t *map(const char *path, size_t *size)
{
    OWNED_FD fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size <= 0)
        return NULL;
    *size = (size_t)status.st_size;
    void *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    return bytes != MAP_FAILED ? bytes : NULL;
}

/* ---- what a library or a plugin needs ---- */

static bool known(const struct search *search, const char *name)
{
    for (uint32_t i = 0; i < search->request->library_count; i++) {
        const char *target = search->request->library[i].second;
        if (strncmp(target, INSIDE "/", strlen(INSIDE "/")) == 0 && strcmp(target + strlen(INSIDE "/"), name) == 0)
            return true;
    }
    return false;
}

static bool wanted(const struct search *search, const char *name)
{
    return strchr(name, '/') == NULL && !of_glibc(name) && !known(search, name);
}

/* The real path, for $ORIGIN is the directory of the file itself and not of a link to it (ld.so(8)). */
static void take_needed(struct search *search, const char *file)
{
    char real[PATH_MAX], path[PATH_MAX];
    size_t size = 0;
    const uint8_t *bytes = realpath(file, real) != NULL ? map(real, &size) : NULL;
    uint64_t cursor = 0;
    struct elf elf;

    if (bytes == NULL)
        return;
    *strrchr(real, '/') = '\0';
    if (elf_read(bytes, size, &elf) == ELF_THIS)
        for (const char *name; (name = elf_next_library(&elf, &cursor)) != NULL;)
            if (wanted(search, name) && find(search, name, elf_run_path(&elf), real, path))
                add_library(search, path, name, goes_with_mpi(name) ? 0 : LIBRARY_SUPPORT);
    munmap((void *)bytes, size);
}

/* Plugins are found by their directory and not by names, so their needs must be known beforehand. Depth is bounded: a
 * link may lead back up. */
static void take_plugins(struct search *search, const char *directory, int depth)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    char path[PATH_MAX];

    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        int size = snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (entry->d_name[0] == '.' || size < 0 || (size_t)size >= sizeof path)
            continue;
        if (entry->d_type == DT_DIR && depth > 0)
            take_plugins(search, path, depth - 1);
        else if (strstr(entry->d_name, ".so") != NULL)
            take_needed(search, path);
    }
    if (stream != NULL)
        closedir(stream);
}

static void take_directory(struct search *search, const char *above, const char *name, bool plugins)
{
    char path[PATH_MAX];
    struct stat status;
    int size = snprintf(path, sizeof path, "%s/%s", above, name);

    if (size < 0 || (size_t)size >= sizeof path || stat(path, &status) < 0 || !S_ISDIR(status.st_mode))
        return;
    add(search, path, path, 0);
    if (plugins)
        take_plugins(search, path, PLUGIN_DEPTH);
}

/* What lies beside a library on the host and is loaded by it: at its own path, and UCX looks beside itself first. */
static void take_beside(struct search *search, const char *file, const char *name)
{
    static const struct {
        const char *library, *directory;
    } pairs[] = {{"libopen-pal.so", "openmpi"},  {"libmpi.so.12", "mpich"}, {"libmpi_abi.so", "mpich"},
                 {"libpmix.so", "pmix"},         {"libprrte.so", "prte"},   {"libfabric.so", "libfabric"},
                 {"libucs.so", "ucx"},           {"libibverbs.so", "libibverbs"}};
    char real[PATH_MAX], path[PATH_MAX];

    if (realpath(file, real) == NULL)
        return;
    *strrchr(real, '/') = '\0';
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (strncmp(name, pairs[i].library, strlen(pairs[i].library)) == 0)
            take_directory(search, real, pairs[i].directory, true);
    int size = snprintf(path, sizeof path, "%s/ucx", real);
    if (strncmp(name, "libucs.so", strlen("libucs.so")) == 0 && size > 0 && (size_t)size < sizeof path && access(path, X_OK) == 0)
        add(search, path, INSIDE "/ucx", 0);
}

/* Each library that is added may need more, which come after it. Goes on over what it adds itself: the list grows
 * while it is walked, up to the limit of the request. */
static void take_closure(struct search *search, uint32_t first)
{
    struct request *request = search->request;

    for (uint32_t i = first; i < request->library_count; i++) {
        const char *file = request->library[i].first, *target = request->library[i].second;
        if ((request->library[i].number & LIBRARY_OBJECT) == 0)
            continue;
        take_beside(search, file, target + strlen(INSIDE "/"));
        take_needed(search, file);
    }
}

/* ---- settings and messages ---- */

/* An MPI looks for its settings where it was installed: PREFIX/etc and PREFIX/share, of a distribution's
 * /etc/openmpi. PREFIX is what stands before /lib in its path. */
static void take_settings(struct search *search, const char *file)
{
    static const char *const shared[] = {"share/openmpi", "share/pmix", "share/prte", "share/libibverbs"};
    char real[PATH_MAX];

    if (realpath(file, real) == NULL)
        return;
    char *library = NULL;
    for (char *at = strstr(real, "/lib"); at != NULL; at = strstr(at + 1, "/lib"))
        if (at[strcspn(at + 1, "/") + 1] == '/')
            library = library == NULL || strncmp(real, "/usr/lib/", strlen("/usr/lib/")) != 0 ? at : library;
    if (library == NULL)
        return;
    *library = '\0';
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++)
        take_directory(search, real, shared[i], false);
    if (*real == '\0' || strcmp(real, "/usr") == 0)
        take_directory(search, "/etc", "openmpi", false);
    else
        take_directory(search, real, "etc", false);
}

/* ---- which MPI ---- */

/* The launcher of ranks that started this process; Slurm's says nothing of it. Ranks started by one MPI's launcher
 * cannot meet in another's: each has a protocol of its own (PMIx, PMI-1). */
static enum mpi_family family_of_launcher(const struct search *search)
{
    char *const *environment = search->sources->environment;

    if (variable(environment, "OMPI_COMM_WORLD_SIZE") != NULL || variable(environment, "OMPI_UNIVERSE_SIZE") != NULL)
        return MPI_OPENMPI;
    if (variable(environment, "SLURM_PROCID") == NULL &&
        (variable(environment, "PMI_FD") != NULL || variable(environment, "PMI_PORT") != NULL))
        return MPI_MPICH;
    return MPI_UNKNOWN;
}

static void directory_note(struct search *search, const char *above, const char *name)
{
    char path[PATH_MAX];
    int size = snprintf(path, sizeof path, "%s/%s", above, name);
    const char *copy = NULL;

    if (search->directory_count < DIRECTORIES && size > 0 && (size_t)size < sizeof path && access(path, X_OK) == 0)
        copy = text_copy(search->store, path, (size_t)size);
    if (copy != NULL)
        search->directories[search->directory_count++] = copy;
}

static void prefix_note(struct search *search, const char *prefix)
{
    if (prefix == NULL || *prefix != '/')
        return;
    directory_note(search, prefix, "lib");
    directory_note(search, prefix, "lib64");
}

/* What module files set, and the prefix of the launcher in PATH: BIN/mpirun says where its libraries are. */
static void note_directories(struct search *search)
{
    static const char *const variables[] = {"OPAL_PREFIX", "MPI_HOME", "MPI_ROOT", "MPI_DIR", "MPICH_DIR", "I_MPI_ROOT"};
    static const char *const programs[] = {"mpirun", "mpiexec"};
    char path[PATH_MAX], real[PATH_MAX];

    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        prefix_note(search, variable(search->sources->environment, variables[i]));
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        if (!file_in_list(variable(search->sources->environment, "PATH"), programs[i], path) || realpath(path, real) == NULL)
            continue;
        for (int up = 0; up < 2 && *real != '\0'; up++)
            *strrchr(real, '/') = '\0';
        prefix_note(search, real);
    }
}

/* The library itself, under every name that programs of its ABI know it by. The names in the order of the table, the
 * first that is found. */
static const struct mpi_name *take_mpi(struct search *search, char path[PATH_MAX])
{
    enum mpi_family family = family_of_launcher(search);

    for (size_t i = 0; i < MPI_NAMES; i++) {
        const struct mpi_name *found = &mpi_names[i];
        if (!found->leads || (family != MPI_UNKNOWN && (found->families & (unsigned)family) == 0) || !find(search, found->name, NULL, "", path))
            continue;
        add_library(search, path, found->name, LIBRARY_LEAD);
        for (size_t j = 0; j < MPI_NAMES; j++) /* the same library under its other name */
            if (found->alias != 0 && mpi_names[j].alias == found->alias && mpi_names[j].leads)
                add_library(search, path, mpi_names[j].name, LIBRARY_LEAD);
        return found;
    }
    return NULL;
}

/* Its languages: the host's own go with it, where it has them. */
static void take_relatives(struct search *search, const struct mpi_name *mpi, const char *file)
{
    char path[PATH_MAX], real[PATH_MAX];

    if (realpath(file, real) == NULL)
        return;
    *strrchr(real, '/') = '\0';
    for (size_t i = 0; i < MPI_NAMES; i++) {
        const struct mpi_name *name = &mpi_names[i];
        if ((name->families & mpi->families) == 0 || !file_in(real, strlen(real), name->name, path))
            continue;
        add_library(search, path, name->name, name->leads ? LIBRARY_LEAD : 0);
        for (size_t j = 0; j < MPI_NAMES; j++)
            if (name->alias != 0 && mpi_names[j].alias == name->alias)
                add_library(search, path, mpi_names[j].name, mpi_names[j].leads ? LIBRARY_LEAD : 0);
    }
}

bool host_mpi_take(const struct host_mpi_sources *sources, uint64_t number, struct request *request, struct text_store *store)
{
    static struct search search;
    char file[PATH_MAX];
    uint32_t first = request->library_count;

    search = (struct search){.sources = sources, .request = request, .store = store, .number = number | LIBRARY_MPI};
    search.cache = map(sources->cache, &search.cache_size);
    note_directories(&search);
    const struct mpi_name *mpi = take_mpi(&search, file);
    if (mpi != NULL) {
        message_verbose("the host's MPI is %s", file);
        take_relatives(&search, mpi, file);
        take_settings(&search, file);
        take_closure(&search, first);
    }
    if (search.cache != NULL)
        munmap((void *)search.cache, search.cache_size);
    return request->library_count > first;
}
