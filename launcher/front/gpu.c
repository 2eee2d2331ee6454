#include "gpu.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../descriptor.h"

enum {
    NAMES = 192,
    NAMES_SIZE = 32 << 10,
    LIBRARY_LIMIT = sizeof((struct request *)NULL)->library / sizeof(struct request_entry)
};

/* ---- ld.so.cache: glibc's format since 2.2, alone or after the older one ---- */

enum { OLD_HEADER = 16, OLD_ENTRY = 12, NEW_HEADER = 48, NEW_ENTRY = 24, LIBC6 = 0x0003 };
#if defined(__x86_64__)
enum { THIS_MACHINE = 0x0300 | LIBC6 };
#elif defined(__aarch64__)
enum { THIS_MACHINE = 0x0a00 | LIBC6 };
#elif defined(__powerpc64__)
enum { THIS_MACHINE = 0x0500 | LIBC6 };
#else
enum { THIS_MACHINE = LIBC6 };
#endif

/* The cache is written by this machine for itself: its own byte order. */
static uint64_t number_at(const uint8_t *bytes, size_t width)
{
    uint32_t narrow = 0;
    uint64_t wide = 0;

    if (width == sizeof wide)
        memcpy(&wide, bytes, sizeof wide);
    else
        memcpy(&narrow, bytes, sizeof narrow);
    return width == sizeof wide ? wide : narrow;
}

/* A text that ends inside the bytes, or NULL. */
static const char *text_at(const uint8_t *bytes, size_t size, uint64_t offset)
{
    if (offset >= size || memchr(bytes + offset, '\0', size - (size_t)offset) == NULL)
        return NULL;
    return (const char *)bytes + offset;
}

/* Steps over the older format that may come first. */
static size_t new_format_start(const uint8_t *bytes, size_t size)
{
    if (size < OLD_HEADER || memcmp(bytes, "ld.so-1.7.0", 12) != 0)
        return 0;
    uint64_t end = OLD_HEADER + number_at(bytes + 12, 4) * OLD_ENTRY;
    return (size_t)((end + 7) & ~UINT64_C(7));
}

void library_cache_read(const uint8_t *bytes, size_t size, library_found *found, void *context)
{
    size_t start = new_format_start(bytes, size);

    if (start > size || size - start < NEW_HEADER || memcmp(bytes + start, "glibc-ld.so.cache1.1", 20) != 0)
        return;
    bytes += start;
    size -= start;
    uint64_t count = number_at(bytes + 20, 4);
    if (count > (size - NEW_HEADER) / NEW_ENTRY)
        return;
    for (const uint8_t *entry = bytes + NEW_HEADER; count > 0; count--, entry += NEW_ENTRY) {
        const char *name = text_at(bytes, size, number_at(entry + 4, 4));
        const char *path = text_at(bytes, size, number_at(entry + 8, 4));
        bool plain = number_at(entry + 16, 8) == 0; /* not one for a better processor only */
        if (number_at(entry, 4) == THIS_MACHINE && plain && name != NULL && path != NULL)
            found(context, name, path);
    }
}

/* ---- what is wanted ---- */

struct wanted {
    struct request *request;
    struct text_store *store;
    uint32_t before; /* libraries of the request that came earlier */
    uint32_t library_count;
    const char *libraries[NAMES];
    char names[NAMES_SIZE];
};

static void add(struct wanted *wanted, const char *file, const char *directory, const char *name)
{
    struct request *request = wanted->request;
    char target[PATH_MAX];
    int length = snprintf(target, sizeof target, "%s%s%s", directory, *directory != '\0' ? "/" : "", name);

    if (length < 0 || (size_t)length >= sizeof target)
        return;
    for (uint32_t i = 0; i < request->library_count; i++)
        if (strcmp(request->library[i].second, target) == 0)
            return;
    if (request->library_count == LIBRARY_LIMIT) {
        message_warning("more than %d host libraries: %s is left out", (int)LIBRARY_LIMIT, file);
        return;
    }
    struct request_entry entry = {.first = text_copy(wanted->store, file, strlen(file)),
                                  .second = text_copy(wanted->store, target, (size_t)length)};
    if (entry.first != NULL && entry.second != NULL)
        request->library[request->library_count++] = entry;
}

static void library_take(void *context, const char *name, const char *path)
{
    struct wanted *wanted = context;

    for (uint32_t i = 0; i < wanted->library_count; i++)
        if (strncmp(name, wanted->libraries[i], strlen(wanted->libraries[i])) == 0) {
            add(wanted, path, "/.singularity.d/libs", name);
            return;
        }
}

static void program_take(struct wanted *wanted, const char *path, const char *name)
{
    char file[PATH_MAX];

    while (path != NULL && *path != '\0') {
        size_t size = strcspn(path, ":");
        int length = snprintf(file, sizeof file, "%.*s/%s", (int)size, path, name);
        if (*path == '/' && length > 0 && (size_t)length < sizeof file && access(file, X_OK) == 0) {
            add(wanted, file, "/usr/bin", name);
            return;
        }
        path += size + (path[size] == ':');
    }
}

/* A library, an absolute file or a program; blanks around it and what follows "#" do not count. */
static void line_take(struct wanted *wanted, char *line, const char *path)
{
    line += strspn(line, " \t\r");
    line[strcspn(line, "# \t\r")] = '\0';
    if (*line == '\0')
        return;
    if (*line == '/' && access(line, F_OK) == 0)
        add(wanted, line, "", line);
    else if (*line != '/' && strstr(line, ".so") == NULL)
        program_take(wanted, path, line);
    else if (*line != '/' && wanted->library_count < NAMES)
        wanted->libraries[wanted->library_count++] = line;
}

static bool list_read(struct wanted *wanted, const struct gpu_sources *sources)
{
    OWNED_FD fd = open(sources->list, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, wanted->names, sizeof wanted->names - 1) : -1;
    char *line = wanted->names;

    if (size < 0)
        return false;
    wanted->names[size] = '\0';
    while (line != NULL) {
        char *newline = strchr(line, '\n');
        if (newline != NULL)
            *newline++ = '\0';
        line_take(wanted, line, sources->path);
        line = newline;
    }
    return true;
}

static void cache_read(struct wanted *wanted, const char *path)
{
    OWNED_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0 || status.st_size <= 0)
        return;
    size_t size = (size_t)status.st_size;
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return;
    library_cache_read(bytes, size, library_take, wanted);
    munmap(bytes, size);
}

/* Inside a container that was started with --nv its libraries are no longer in any cache. */
static void inherited_read(struct wanted *wanted, const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    char file[PATH_MAX];

    if (stream == NULL)
        return;
    while ((entry = readdir(stream)) != NULL) {
        int length = snprintf(file, sizeof file, "%s/%s", directory, entry->d_name);
        if (entry->d_name[0] != '.' && length > 0 && (size_t)length < sizeof file)
            library_take(wanted, entry->d_name, file);
    }
    closedir(stream);
}

bool gpu_take(const struct gpu_sources *sources, struct request *request, struct text_store *store)
{
    static struct wanted wanted;

    wanted.request = request;
    wanted.store = store;
    wanted.before = request->library_count;
    wanted.library_count = 0;
    if (!list_read(&wanted, sources)) {
        message_warning("%s: not readable, so no driver library is looked for", sources->list);
        return false;
    }
    inherited_read(&wanted, sources->inherited);
    cache_read(&wanted, sources->cache);
    return request->library_count > wanted.before;
}

/* ---- devices ---- */

static void device_take(struct request *request, struct text_store *store, const char *name)
{
    char file[PATH_MAX];
    int length = snprintf(file, sizeof file, "/dev/%s", name);

    if (length < 0 || (size_t)length >= sizeof file || access(file, F_OK) < 0 || request->library_count == LIBRARY_LIMIT)
        return;
    const char *path = text_copy(store, file, (size_t)length);
    if (path != NULL)
        request->library[request->library_count++] = (struct request_entry){.first = path, .second = path};
}

void gpu_devices(const char *kind, struct request *request, struct text_store *store)
{
    struct dirent *entry;

    if (strcmp(kind, "rocm") == 0) {
        device_take(request, store, "kfd");
        device_take(request, store, "dri");
        return;
    }
    DIR *devices = opendir("/dev");
    while (devices != NULL && (entry = readdir(devices)) != NULL)
        if (strncmp(entry->d_name, "nvidia", strlen("nvidia")) == 0)
            device_take(request, store, entry->d_name);
    if (devices != NULL)
        closedir(devices);
}
