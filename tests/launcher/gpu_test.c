/* Driver libraries of the host: the format of ld.so.cache, and what a list asks for. */
#include "front/gpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

enum { BYTES = 4096, PLAIN = 0x0303 };

static char directory[] = "/tmp/gpu_test.XXXXXX";
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

static const char *chosen(const struct request *request)
{
    size_t used = 0;

    seen[0] = '\0';
    for (uint32_t i = 0; i < request->library_count; i++)
        used += (size_t)snprintf(seen + used, sizeof seen - used, "%s>%s ", request->library[i].first,
                                 request->library[i].second);
    return seen;
}

static void test_list(void)
{
    static struct request request;
    static char list[128], cache[128], file[128], path[512], program[128], libs[128], inherited[160], text[1024], wanted[1024];
    struct text_store store = {request.text_store, sizeof request.text_store};
    const struct gpu_sources sources = {.list = list, .cache = cache, .inherited = libs, .path = path};

    snprintf(list, sizeof list, "%s/list", directory);
    snprintf(cache, sizeof cache, "%s/cache", directory);
    snprintf(file, sizeof file, "%s/icd.json", directory);
    snprintf(program, sizeof program, "%s/nvidia-smi", directory);
    snprintf(libs, sizeof libs, "%s/libs", directory);
    snprintf(inherited, sizeof inherited, "%s/libnvidia-ml.so.1", libs);
    snprintf(path, sizeof path, ".:relative:/nonexistent:%s:/usr/bin", directory);
    snprintf(text, sizeof text, "# a comment\n\nlibcuda.so\n  nvidia-smi  \n%s # here\n/no/such/file\nlibnvidia-ml.so\n"
                                "no-such-program\nlibxyz.so", file);
    memset(bytes, 0, sizeof bytes);
    cache_make(0, libraries, 4);
    mkdir(libs, 0755);
    write_text(list, text, 0644);
    write_bytes(cache, bytes, size, 0644);
    write_text(file, "{}", 0644);
    write_text(program, "", 0755);
    write_text(inherited, "", 0644);
    bool found = gpu_take(&sources, &request, &store);
    snprintf(wanted, sizeof wanted, "%s>/usr/bin/nvidia-smi %s>%s %s>/.singularity.d/libs/libnvidia-ml.so.1 "
                                    "/lib/libcuda.so.1>/.singularity.d/libs/libcuda.so.1 ", program, file, file, inherited);
#if defined(__x86_64__)
    CHECK(found && strcmp(chosen(&request), wanted) == 0, "a list names programs, files and libraries");
    found = gpu_take(&sources, &request, &store);
    CHECK(!found && strcmp(chosen(&request), wanted) == 0, "what is there already is not added again");
#endif
    memset(&request, 0, sizeof request);
    write_text(list, "libxyz.so\n", 0644);
    CHECK(!gpu_take(&sources, &request, &store) && request.library_count == 0, "nothing found is said");
    unlink(list);
    CHECK(!gpu_take(&sources, &request, &store), "so is a missing list");
    unlink(cache), unlink(file), unlink(program), unlink(inherited), rmdir(libs);
}

int main(void)
{
    message_begin(LEVEL_FATAL, false);
    if (mkdtemp(directory) == NULL)
        return 1;
    test_format();
    test_list();
    rmdir(directory);
    return checks_end();
}
