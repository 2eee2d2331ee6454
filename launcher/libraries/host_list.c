/* The tables of host libraries (nvliblist.conf and its kin) and the loader's cache: names to files for the request.
 * Reads files of the host, without privilege. */
#include "libraries.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../descriptor.h"

enum {
    NAMES = 256,
    LIST_SIZE = 64 << 10,
    LIBRARY_LIMIT = sizeof((struct request *)NULL)->library / sizeof(struct request_entry),
    SETS = 64 /* of one table */
};

/* A library that the table names, for the look into the cache. */
struct library_wanted {
    const char *name;
    uint64_t number;
};

struct search {
    const struct host_list_sources *sources;
    struct host_list *list;
    struct request *request;
    struct text_store *store;
    uint64_t number; /* for the lines of the set at hand */
    uint64_t sets;
    bool lead_open;  /* the set has named no library yet */
    uint32_t library_count;
    struct library_wanted libraries[NAMES];
    char text[LIST_SIZE];
};

/* ---- into the request ---- */

/* The first file found for a place inside stays: a table's order, then the order of the cache, is the order of
 * preference. */
static bool add(struct search *search, const char *file, const char *directory, const char *name, uint64_t number)
{
    struct request *request = search->request;
    char target[PATH_MAX];
    int length = snprintf(target, sizeof target, "%s%s%s", directory, *directory != '\0' ? "/" : "", name);

    if (length < 0 || (size_t)length >= sizeof target)
        return false;
    for (uint32_t i = 0; i < request->library_count; i++)
        if (strcmp(request->library[i].second, target) == 0)
            return false;
    if (request->library_count == LIBRARY_LIMIT) {
        message_warning("more than %d host libraries: %s is left out", (int)LIBRARY_LIMIT, file);
        return false;
    }
    struct request_entry entry = {.first = text_copy(search->store, file, strlen(file)), .number = number,
                                  .second = text_copy(search->store, target, (size_t)length)};
    if (entry.first == NULL || entry.second == NULL)
        return false;
    request->library[request->library_count++] = entry;
    return true;
}

/* By the start of the name: the table's "libcuda.so" finds libcuda.so.1 and libcuda.so as well. */
static void library_take(void *context, const char *name, const char *path)
{
    struct search *search = context;

    for (uint32_t i = 0; i < search->library_count; i++) {
        const struct library_wanted *wanted = &search->libraries[i];
        if (strncmp(name, wanted->name, strlen(wanted->name)) == 0) {
            bool added = add(search, path, "/.singularity.d/libs", name, wanted->number | LIBRARY_OBJECT);
            search->list->found += added && !(wanted->number & LIBRARY_SUPPORT);
            return;
        }
    }
}

/* Only absolute directories of PATH: a relative one would be another place for each launch. */
static void program_take(struct search *search, const char *name, uint64_t number)
{
    const char *path = search->sources->path;
    char file[PATH_MAX];

    while (path != NULL && *path != '\0') {
        size_t size = strcspn(path, ":");
        int length = snprintf(file, sizeof file, "%.*s/%s", (int)size, path, name);
        if (*path == '/' && length > 0 && (size_t)length < sizeof file && access(file, X_OK) == 0) {
            search->list->found += add(search, file, "/usr/bin", name, number | LIBRARY_OBJECT);
            return;
        }
        path += size + (path[size] == ':');
    }
}

/* Devices count by themselves: whether a host has any decides about all else of the family. */
static void path_take(struct search *search, const char *path, uint64_t number)
{
    const char *name = strrchr(path, '/') + 1;

    if (strncmp(path, "/dev/", strlen("/dev/")) == 0)
        search->list->devices += add(search, path, "", path, search->list->number);
    else
        search->list->found += add(search, path, "", path, number | (strstr(name, ".so") != NULL ? LIBRARY_OBJECT : 0));
}

/* Names in order, so that launches on one host make equal requests (--join compares them). */
static int by_name(const struct dirent **one, const struct dirent **other)
{
    return strcmp((*one)->d_name, (*other)->d_name);
}

static void pattern_take(struct search *search, const char *start, const char *pattern, uint64_t number);

/* One name below `start`; `rest` is what the pattern says further down, "" when that was all. */
static void name_take(struct search *search, const char *start, const char *name, const char *rest, uint64_t number)
{
    char path[PATH_MAX];
    int size = snprintf(path, sizeof path, "%s/%s", start, name);

    if (size < 0 || (size_t)size >= sizeof path)
        return;
    if (*rest != '\0')
        pattern_take(search, path, rest, number);
    else if (access(path, F_OK) == 0)
        path_take(search, path, number);
}

/* `pattern` below `start`, both of one path: "*" and the like within its names. */
static void pattern_take(struct search *search, const char *start, const char *pattern, uint64_t number)
{
    size_t length = strcspn(pattern, "/");
    const char *rest = pattern + length + (pattern[length] == '/');
    char name[NAME_MAX + 1];
    struct dirent **entries;

    if (length > NAME_MAX)
        return;
    memcpy(name, pattern, length);
    name[length] = '\0';
    if (strpbrk(name, "*?[") == NULL) {
        name_take(search, start, name, rest, number);
        return;
    }
    int count = scandir(*start != '\0' ? start : "/", &entries, NULL, by_name);
    for (int i = 0; i < count; i++) {
        if (fnmatch(name, entries[i]->d_name, FNM_PERIOD) == 0)
            name_take(search, start, entries[i]->d_name, rest, number);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

/* ---- the table ---- */

/* Unknown marks are told and passed over, so that a table of a newer version can still be used. */
static uint64_t marks_read(const struct search *search, const char *entry, char *words)
{
    uint64_t marks = 0;

    for (char *next = NULL, *word = strtok_r(words, " \t\r", &next); word != NULL; word = strtok_r(NULL, " \t\r", &next)) {
        if (strcmp(word, "driver") == 0)
            marks |= LIBRARY_DRIVER;
        else if (strcmp(word, "support") == 0)
            marks |= LIBRARY_SUPPORT;
        else
            message_warning("%s: %s: \"%s\" is not known here (\"driver\" and \"support\" are)", search->sources->list, entry,
                            word);
    }
    return marks;
}

/* Sets have numbers that no other table gives. "[name]" begins a set that goes in together or not at all, "[]" ends
 * it. */
static void set_begin(struct search *search, const char *line)
{
    uint64_t first = (search->list->number & LIBRARY_OPTION) * SETS + 1;

    search->lead_open = line[1] != ']';
    search->number = search->list->number;
    if (search->lead_open)
        search->number |= (first + (search->sets < SETS ? search->sets++ : SETS - 1)) << LIBRARY_SET;
}

static void variable_take(struct search *search, const char *name)
{
    const char *copy = text_copy(search->store, name, strlen(name));

    if (copy != NULL && search->list->variable_count < HOST_LIST_VARIABLES)
        search->list->variables[search->list->variable_count++] = copy;
}

/* For the look into the cache; the text stays. */
static void library_note(struct search *search, const char *name, uint64_t number)
{
    if (search->library_count == NAMES) {
        message_warning("%s: more than %d libraries: %s is left out", search->sources->list, (int)NAMES, name);
        return;
    }
    number |= search->lead_open ? LIBRARY_LEAD : 0;
    search->lead_open = false;
    search->libraries[search->library_count++] = (struct library_wanted){name, number};
}

/* The first character tells what is meant: "[" a set, "/" a path or pattern, "$" a variable; else a name, of a
 * library if ".so" is in it, and of a program if not. */
static void line_take(struct search *search, char *line, bool devices)
{
    line += strspn(line, " \t\r");
    line[strcspn(line, "#")] = '\0';
    size_t length = strcspn(line, " \t\r");
    char *marks = line + length + (line[length] != '\0');
    line[length] = '\0';
    if (*line == '\0' || devices != (strncmp(line, "/dev/", strlen("/dev/")) == 0))
        return;
    if (*line == '[') {
        set_begin(search, line);
        return;
    }
    uint64_t number = search->number | marks_read(search, line, marks);
    if (*line == '/')
        pattern_take(search, "", line + 1, number);
    else if (*line == '$')
        variable_take(search, line + 1);
    else if (strstr(line, ".so") == NULL)
        program_take(search, line, number);
    else
        library_note(search, line, number);
}

/* Two passes over the table: devices decide first whether the rest is looked for. A copy each time, for lines are cut
 * apart in place. */
static void lines_take(struct search *search, const char *text, bool devices)
{
    static char copy[LIST_SIZE];
    char *line = copy;

    search->number = search->list->number;
    snprintf(copy, sizeof copy, "%s", text);
    while (line != NULL) {
        char *newline = strchr(line, '\n');
        if (newline != NULL)
            *newline++ = '\0';
        line_take(search, line, devices);
        line = newline;
    }
}

static bool list_read(struct search *search)
{
    OWNED_FD fd = open(search->sources->list, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, search->text, sizeof search->text - 1) : -1;

    search->text[size > 0 ? size : 0] = '\0';
    return size >= 0;
}

/* ---- libraries ---- */

/* Mapped, not read: of a large cache few pages are touched. */
static void cache_read(struct search *search, const char *path)
{
    OWNED_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0 || status.st_size <= 0)
        return;
    size_t size = (size_t)status.st_size;
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return;
    library_cache_read(bytes, size, library_take, search);
    munmap(bytes, size);
}

/* Inside a container that was started so its libraries are no longer in any cache. Those of the outer container go
 * before the cache: they are what works with the host's driver. */
static void inherited_read(struct search *search, const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    char file[PATH_MAX];

    if (stream == NULL)
        return;
    while ((entry = readdir(stream)) != NULL) {
        int length = snprintf(file, sizeof file, "%s/%s", directory, entry->d_name);
        if (entry->d_name[0] != '.' && length > 0 && (size_t)length < sizeof file)
            library_take(search, entry->d_name, file);
    }
    closedir(stream);
}

bool host_list_take(const struct host_list_sources *sources, struct host_list *list, struct request *request,
                    struct text_store *store)
{
    static struct search search;

    search.sources = sources;
    search.list = list;
    search.request = request;
    search.store = store;
    search.library_count = 0;
    search.sets = 0;
    search.lead_open = false;
    if (!list_read(&search)) {
        message_warning("%s: not readable, so nothing of the host is looked for", sources->list);
        return false;
    }
    lines_take(&search, search.text, true);
    if (list->devices_first && list->devices == 0)
        return true;
    lines_take(&search, search.text, false);
    inherited_read(&search, sources->inherited);
    cache_read(&search, sources->cache);
    return true;
}
