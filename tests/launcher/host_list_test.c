/* Libraries of the host: the format of ld.so.cache, and what a list asks for. */
#include "libraries/libraries.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

enum { BYTES = 4096, PLAIN = 0x0303 };

static char directory[] = "/tmp/host_list_test.XXXXXX";
static uint8_t bytes[BYTES];
static size_t size;
static char seen[1024];

static void number_put(size_t at, uint32_t value)
{
    memcpy(bytes + at, &value, sizeof value);
}

struct library {
    uint32_t flags;
    const char *name;
    const char *path;
    uint32_t hwcap;
};

static uint32_t text_put(size_t start, const char *text)
{
    size_t length = strlen(text) + 1;
    memcpy(bytes + size, text, length);
    size += length;
    return (uint32_t)(size - length - start);
}

/* A cache as ldconfig writes it, at `start`. */
static void cache_make(size_t start, const struct library *libraries, uint32_t count)
{
    memcpy(bytes + start, "glibc-ld.so.cache1.1", 20);
    number_put(start + 20, count);
    size = start + 48 + 24 * (size_t)count;
    for (uint32_t i = 0; i < count; i++) {
        size_t entry = start + 48 + 24 * (size_t)i;
        number_put(entry, libraries[i].flags);
        number_put(entry + 4, text_put(start, libraries[i].name));
        number_put(entry + 8, text_put(start, libraries[i].path));
        number_put(entry + 16, libraries[i].hwcap);
    }
}

static void note(void *context, const char *name, const char *path)
{
    size_t used = strlen(seen);
    (void)context;
    snprintf(seen + used, sizeof seen - used, "%s=%s ", name, path);
}

static const char *reads(const uint8_t *start, size_t length)
{
    uint8_t *exact = malloc(length + 1); /* so that a sanitizer sees a byte too far */

    if (exact == NULL)
        abort();
    memcpy(exact, start, length);
    seen[0] = '\0';
    library_cache_read(exact, length, note, NULL);
    free(exact);
    return seen;
}

static const struct library libraries[] = {{PLAIN, "libcuda.so.1", "/lib/libcuda.so.1", 0},
                                           {0x0003, "libcuda.so.1", "/lib32/libcuda.so.1", 0},
                                           {PLAIN, "libcuda.so.1", "/lib/glibc-hwcaps/libcuda.so.1", 1},
                                           {PLAIN, "libc.so.6", "/lib/libc.so.6", 0}};

static void test_format(void)
{
#if defined(__x86_64__)
    size_t whole;

    memset(bytes, 0, sizeof bytes);
    cache_make(0, libraries, 4);
    whole = size;
    CHECK(strcmp(reads(bytes, size), "libcuda.so.1=/lib/libcuda.so.1 libc.so.6=/lib/libc.so.6 ") == 0,
          "libraries of this machine and of every processor of it");
    for (size_t length = 0; length < whole; length++)
        reads(bytes, length);
    CHECK(strstr(reads(bytes, whole - 1), "libc.so.6") == NULL, "a name that ends after the file is passed over");
    number_put(20, 0x40000000);
    CHECK(*reads(bytes, whole) == '\0', "more entries than the file has room for are none");
    number_put(20, 4);
    number_put(48 + 8, 0xfffffff0);
    CHECK(strcmp(reads(bytes, whole), "libc.so.6=/lib/libc.so.6 ") == 0, "a path outside of the file is passed over");
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, "ld.so-1.7.0", 12);
    number_put(12, 3);
    cache_make(56, libraries, 4);
    CHECK(strcmp(reads(bytes, size), "libcuda.so.1=/lib/libcuda.so.1 libc.so.6=/lib/libc.so.6 ") == 0,
          "the format may come after the older one");
    number_put(12, 0xffffffff);
    CHECK(*reads(bytes, size) == '\0', "an older one that is longer than the file hides it");
#endif
}

static void write_bytes(const char *path, const void *content, size_t length, mode_t mode)
{
    FILE *file = fopen(path, "w");

    if (file == NULL || fwrite(content, 1, length, file) != length || fclose(file) != 0 || chmod(path, mode) != 0)
        abort();
}

static void write_text(const char *path, const char *text, mode_t mode)
{
    write_bytes(path, text, strlen(text), mode);
}

static struct request request;
static struct host_list list;
static char table[128], cache[128], file[128], path[512], program[128], libs[128], inherited[160], icds[160];

static const char *chosen(void)
{
    size_t used = 0;

    seen[0] = '\0';
    for (uint32_t i = 0; i < request.library_count; i++)
        used += (size_t)snprintf(seen + used, sizeof seen - used, "%s>%s ", request.library[i].first,
                                 request.library[i].second);
    return seen;
}

static bool take(const char *text, struct host_list wanted)
{
    static struct text_store store;
    const struct host_list_sources sources = {.list = table, .cache = cache, .inherited = libs, .path = path};

    if (text != NULL)
        write_text(table, text, 0644);
    else
        unlink(table);
    if (request.library_count == 0)
        store = (struct text_store){request.text_store, sizeof request.text_store};
    list = wanted;
    return host_list_take(&sources, &list, &request, &store);
}

static uint64_t number_of(const char *target)
{
    for (uint32_t i = 0; i < request.library_count; i++)
        if (strcmp(request.library[i].second, target) == 0)
            return request.library[i].number;
    return UINT64_MAX;
}

static void places_make(void)
{
    snprintf(table, sizeof table, "%s/list", directory);
    snprintf(cache, sizeof cache, "%s/cache", directory);
    snprintf(file, sizeof file, "%s/icd.json", directory);
    snprintf(program, sizeof program, "%s/nvidia-smi", directory);
    snprintf(libs, sizeof libs, "%s/libs", directory);
    snprintf(inherited, sizeof inherited, "%s/libnvidia-ml.so.1", libs);
    snprintf(icds, sizeof icds, "%s/b.so", libs);
    snprintf(path, sizeof path, ".:relative:/nonexistent:%s:/usr/bin", directory);
    memset(bytes, 0, sizeof bytes);
    cache_make(0, libraries, 4);
    mkdir(libs, 0755);
    write_bytes(cache, bytes, size, 0644);
    write_text(file, "{}", 0644);
    write_text(program, "", 0755);
    write_text(inherited, "", 0644);
    write_text(icds, "", 0644);
}

static void test_list(void)
{
    static char text[1024], wanted[1024];

    snprintf(text, sizeof text, "# a comment\n\nlibcuda.so\n  nvidia-smi  \n%s # here\n/no/such/file\nlibnvidia-ml.so\n"
                                "no-such-program\nlibxyz.so", file);
    snprintf(wanted, sizeof wanted, "%s>/usr/bin/nvidia-smi %s>%s %s>/.singularity.d/libs/libnvidia-ml.so.1 "
                                    "/lib/libcuda.so.1>/.singularity.d/libs/libcuda.so.1 ", program, file, file, inherited);
#if defined(__x86_64__)
    CHECK(take(text, (struct host_list){0}) && list.found == 4 && strcmp(chosen(), wanted) == 0,
          "a list names programs, files and libraries");
    CHECK(take(text, (struct host_list){0}) && list.found == 0 && strcmp(chosen(), wanted) == 0,
          "what is there already is not added again");
#endif
    memset(&request, 0, sizeof request);
    CHECK(take("libxyz.so\n", (struct host_list){0}) && list.found == 0 && request.library_count == 0, "nothing found is said");
    CHECK(!take(NULL, (struct host_list){0}), "so is a missing list");
}

static void test_marks(void)
{
    static char text[1024];
    const uint64_t set = UINT64_C(1) << LIBRARY_SET;

    memset(&request, 0, sizeof request);
    snprintf(text, sizeof text, "$CUDA_VISIBLE_DEVICES\nlibcuda.so driver # its own\n[set]\n%s/libs/b.so\nlibnvidia-ml.so\nlibc.so support\n"
                                "[]\n%s\n", directory, file);
#if defined(__x86_64__)
    CHECK(take(text, (struct host_list){.number = LIBRARY_NV | LIBRARY_ASKED}), "marks and sets are read");
    CHECK(number_of("/.singularity.d/libs/libcuda.so.1") == (LIBRARY_NV | LIBRARY_ASKED | LIBRARY_DRIVER | LIBRARY_OBJECT),
          "a word after the name");
    CHECK(number_of(file) == (LIBRARY_NV | LIBRARY_ASKED), "a file after the set is in none");
    CHECK(number_of(icds) == (LIBRARY_NV | LIBRARY_ASKED | LIBRARY_OBJECT | set), "a library by its path is one too, and does not lead");
    CHECK(number_of("/.singularity.d/libs/libnvidia-ml.so.1") == (LIBRARY_NV | LIBRARY_ASKED | LIBRARY_OBJECT | LIBRARY_LEAD | set),
          "the first library of the set leads");
    CHECK(number_of("/.singularity.d/libs/libc.so.6") == (LIBRARY_NV | LIBRARY_ASKED | LIBRARY_OBJECT | LIBRARY_SUPPORT | set),
          "others do not");
    CHECK(list.found == 4, "what only supports is no find");
    CHECK(list.variable_count == 1 && strcmp(list.variables[0], "CUDA_VISIBLE_DEVICES") == 0, "variables are noted");
    memset(&request, 0, sizeof request);
    take("[a]\nlibcuda.so\n", (struct host_list){.number = LIBRARY_FABRIC});
    CHECK(request.library[0].number >> LIBRARY_SET != 1, "sets of two tables have different numbers");
#endif
}

static void test_patterns(void)
{
    static char text[512], wanted[1024];

    memset(&request, 0, sizeof request);
    snprintf(text, sizeof text, "%s/l?bs/*.so*\n%s/*/none*\n/dev/nul*\n/dev/no-such*\n", directory, directory);
    snprintf(wanted, sizeof wanted, "/dev/null>/dev/null %s>%s %s>%s ", icds, icds, inherited, inherited);
    CHECK(take(text, (struct host_list){0}) && strcmp(chosen(), wanted) == 0, "patterns, in the order of their names, devices first");
    CHECK(list.devices == 1 && list.found == 2, "devices are counted by themselves");
    memset(&request, 0, sizeof request);
    CHECK(take("/dev/no-such*\nnvidia-smi\n", (struct host_list){.devices_first = true}) && request.library_count == 0,
          "without a device nothing else is looked for, where that is wanted");
    CHECK(take("nvidia-smi\n/dev/null\n", (struct host_list){.devices_first = true}) && request.library_count == 2, "with one it is");
}

int main(void)
{
    message_begin(LEVEL_FATAL, false);
    if (mkdtemp(directory) == NULL)
        return 1;
    test_format();
    places_make();
    test_list();
    test_marks();
    test_patterns();
    unlink(table), unlink(cache), unlink(file), unlink(program), unlink(inherited), unlink(icds), rmdir(libs);
    rmdir(directory);
    return checks_end();
}
