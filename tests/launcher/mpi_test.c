/* The host's MPI: where it is looked for, what comes with it, and when it may take the place of the image's. */
#include "libraries/libraries.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "shared_object.h"

#define NONE MADE_LIST()

enum { OBJECTS = 16, SET = 7, LEAD = LIBRARY_MPI | LIBRARY_LEAD | LIBRARY_OBJECT };

/* ---- judging ---- */

static struct made stock[OBJECTS];
static struct shared_object objects[OBJECTS];
static size_t used;
static struct candidate candidates[8];
static uint32_t count;

struct named {
    const char *name;
    const struct shared_object *object;
};
static struct named image[4];

static const struct shared_object *object(const char *const *libraries, const char *const *needs, const char *const *definitions)
{
    struct shared_object *result = &objects[used];

    made_begin(&stock[used], libraries, needs, definitions);
    made_end(&stock[used]);
    *result = (struct shared_object){.found = true};
    result->kind = elf_read(stock[used].bytes, stock[used].size, &result->elf);
    snprintf(result->name, sizeof result->name, "lib.so.%zu", used++);
    return result;
}

static const struct shared_object *find(void *context, const char *name)
{
    (void)context;
    for (size_t i = 0; i < sizeof image / sizeof image[0]; i++)
        if (image[i].name != NULL && strcmp(image[i].name, name) == 0)
            return image[i].object;
    return NULL;
}

static void begin(const char *mpi)
{
    used = count = 0;
    memset(candidates, 0, sizeof candidates);
    memset(image, 0, sizeof image);
    image[0] = (struct named){"libc.so.6", object(NONE, NONE, MADE_LIST("libc.so.6", "GLIBC_2.4", "GLIBC_2.31"))};
    if (mpi != NULL)
        image[1] = (struct named){mpi, object(MADE_LIST("libc.so.6"), NONE, NONE)};
}

static struct candidate *offer(const char *name, uint64_t number, const struct shared_object *host)
{
    struct candidate *candidate = &candidates[count++];

    *candidate = (struct candidate){.name = name, .file = "/host/file", .number = number | (uint64_t)SET << LIBRARY_SET, .host = *host,
                                    .image = find(NULL, name)};
    return candidate;
}

static void judge(void)
{
    const struct image_libraries libraries = {find, NULL, false};
    library_judge(candidates, count, &libraries);
}

static bool refused(const struct candidate *candidate, const char *reason)
{
    if (candidate->verdict == JUDGE_BROKEN && strcmp(candidate->reason, reason) == 0)
        return true;
    printf("# %d: %s\n", (int)candidate->verdict, candidate->reason);
    return false;
}

static void test_judging(void)
{
    begin("libmpi.so.40");
    struct candidate *lead = offer("libmpi.so.40", LEAD, object(MADE_LIST("libopen-pal.so.40"), NONE, NONE));
    struct candidate *part = offer("libopen-pal.so.40", LIBRARY_MPI | LIBRARY_OBJECT, object(NONE, NONE, NONE));
    judge();
    CHECK(lead->verdict == JUDGE_TAKEN && part->verdict == JUDGE_TAKEN, "the same name is the same interface: it goes in with its parts");

    begin("libmpi.so.40");
    lead = offer("libmpi.so.12", LEAD, object(NONE, NONE, NONE));
    part = offer("libucp.so.0", LIBRARY_MPI | LIBRARY_OBJECT, object(NONE, NONE, NONE));
    judge();
    CHECK(refused(lead, "the host's MPI is libmpi.so.12 (the MPICH family), the image's is libmpi.so.40 (Open MPI)"),
          "another family is refused, and both are named");
    CHECK(part->verdict == JUDGE_BROKEN, "and nothing of it goes in");

    begin("libmpich.so.12");
    offer("libmpi.so.12", LEAD, object(NONE, NONE, NONE));
    lead = offer("libmpich.so.12", LEAD, object(NONE, NONE, NONE));
    judge();
    CHECK(lead->verdict == JUDGE_TAKEN && candidates[0].verdict == JUDGE_TAKEN, "one interface may have two names");

    begin(NULL);
    lead = offer("libmpi.so.40", LEAD, object(NONE, NONE, NONE));
    judge();
    CHECK(refused(lead, "the image has no MPI where its loader looks"), "auto wants an MPI to replace");
    begin(NULL);
    lead = offer("libmpi.so.40", LEAD | LIBRARY_ALWAYS, object(NONE, NONE, NONE));
    judge();
    CHECK(lead->verdict == JUDGE_TAKEN, "host brings it where the image's is not seen");
}

static void test_versions(void)
{
    begin("libmpi.so.40");
    struct candidate *lead = offer("libmpi.so.40", LEAD, object(MADE_LIST("libc.so.6"), MADE_LIST("libc.so.6", "GLIBC_2.38"), NONE));
    judge();
    CHECK(refused(lead, "needs GLIBC_2.38 of libc.so.6, and the image's has at most GLIBC_2.31"), "a C library that is too old is named");

    begin("libmpi.so.40");
    image[2] = (struct named){"libopen-pal.so.40", object(NONE, NONE, NONE)};
    lead = offer("libmpi.so.40", LEAD, object(MADE_LIST("libopen-pal.so.40"), NONE, NONE));
    offer("libopen-pal.so.40", LIBRARY_MPI | LIBRARY_OBJECT,
          object(MADE_LIST("libc.so.6"), MADE_LIST("libc.so.6", "GLIBC_2.38"), NONE))->image = NULL;
    judge();
    CHECK(refused(lead, "needs libopen-pal.so.40, which stays out"), "half of the host's is never joined with half of the image's");

    begin("libmpi.so.40");
    image[2] = (struct named){"libz.so.1", object(NONE, NONE, NONE)};
    lead = offer("libmpi.so.40", LEAD, object(MADE_LIST("libz.so.1"), NONE, NONE));
    offer("libz.so.1", LIBRARY_MPI | LIBRARY_OBJECT | LIBRARY_SUPPORT,
          object(MADE_LIST("libc.so.6"), MADE_LIST("libc.so.6", "GLIBC_2.38"), NONE));
    judge();
    CHECK(lead->verdict == JUDGE_TAKEN, "a general library may be the image's");
}

/* ---- finding ---- */

static char directory[] = "/tmp/mpi_test.XXXXXX";

static const char *at(const char *path)
{
    static char texts[8][256];
    static size_t next;
    char *text = texts[next++ % 8];

    snprintf(text, sizeof texts[0], "%s/%s", directory, path);
    return text;
}

static void file_make(const char *path, const char *const *libraries)
{
    made_begin(&stock[0], libraries, NONE, NONE);
    made_end(&stock[0]);
    FILE *file = fopen(at(path), "w");
    if (file == NULL || fwrite(stock[0].bytes, 1, stock[0].size, file) != stock[0].size || fclose(file) != 0)
        abort();
}

static void tree_make(void)
{
    static const char *const directories[] = {"bin", "lib", "lib/openmpi", "share", "share/openmpi", "etc", "other", "mpich"};

    if (mkdtemp(directory) == NULL)
        abort();
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++)
        if (mkdir(at(directories[i]), 0755) != 0)
            abort();
    file_make("bin/mpirun", NONE);
    if (chmod(at("bin/mpirun"), 0755) != 0)
        abort();
    file_make("lib/libmpi.so.40", MADE_LIST("libopen-pal.so.80", "libc.so.6", "libz.so.1"));
    file_make("lib/libopen-pal.so.80", MADE_LIST("libm.so.6", "libmissing.so.1"));
    file_make("lib/libmpi_mpifh.so.40", MADE_LIST("libmpi.so.40"));
    file_make("lib/openmpi/mca_pml_ucx.so", MADE_LIST("libucp.so.0"));
    file_make("lib/libucp.so.0", NONE);
    file_make("lib/libz.so.1", NONE);
    file_make("mpich/libmpich.so.12", NONE);
    file_make("mpich/libmpi.so.40", NONE);
}

static int path_remove(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

static void tree_remove(void)
{
    (void)nftw(directory, path_remove, 8, FTW_DEPTH | FTW_PHYS);
}

static struct request request;

static bool takes(char *const *environment)
{
    static char texts[1 << 16];
    struct text_store store = {.next = texts, .left = sizeof texts};
    const struct host_mpi_sources sources = {.environment = environment, .cache = "/nonexistent"};

    request.library_count = 0;
    return host_mpi_take(&sources, LIBRARY_ASKED, &request, &store);
}

static const struct request_entry *entry(const char *target)
{
    for (uint32_t i = 0; i < request.library_count; i++)
        if (strcmp(request.library[i].second, target) == 0)
            return &request.library[i];
    return NULL;
}

static bool marked(const char *target, uint64_t marks)
{
    const struct request_entry *found = entry(target);
    const uint64_t all = LIBRARY_OBJECT | LIBRARY_LEAD | LIBRARY_SUPPORT;

    return found != NULL && (found->number & all) == marks;
}

static void test_finding(void)
{
    char path[300], ranks[] = "OMPI_COMM_WORLD_SIZE=4", hydra[] = "PMI_FD=5", libraries[300], none[] = "PATH=/nonexistent";

    tree_make();
    snprintf(path, sizeof path, "PATH=/nonexistent:%s", at("bin"));
    snprintf(libraries, sizeof libraries, "LD_LIBRARY_PATH=%s", at("mpich"));
    CHECK(takes((char *[]){path, NULL}) && marked("/.singularity.d/libs/libmpi.so.40", LIBRARY_OBJECT | LIBRARY_LEAD),
          "the MPI beside mpirun is found");
    CHECK(marked("/.singularity.d/libs/libopen-pal.so.80", LIBRARY_OBJECT) && marked("/.singularity.d/libs/libmpi_mpifh.so.40", LIBRARY_OBJECT),
          "its parts and languages come with it");
    CHECK(marked("/.singularity.d/libs/libucp.so.0", LIBRARY_OBJECT), "so do the fabric libraries that only a plugin needs");
    CHECK(marked("/.singularity.d/libs/libz.so.1", LIBRARY_OBJECT | LIBRARY_SUPPORT), "a general library only supports");
    CHECK(entry("/.singularity.d/libs/libc.so.6") == NULL && entry("/.singularity.d/libs/libm.so.6") == NULL, "the C library stays the image's");
    CHECK(marked(at("lib/openmpi"), 0) && marked(at("share/openmpi"), 0) && marked(at("etc"), 0),
          "plugins, messages and settings are where the host has them");
    CHECK(!takes((char *[]){none, NULL}), "a host may have none");
    CHECK(takes((char *[]){path, libraries, hydra, NULL}) && entry("/.singularity.d/libs/libmpi.so.40") == NULL &&
          marked("/.singularity.d/libs/libmpi.so.12", LIBRARY_OBJECT | LIBRARY_LEAD) &&
          marked("/.singularity.d/libs/libmpich.so.12", LIBRARY_OBJECT | LIBRARY_LEAD), "the launcher of ranks says which family it is");
    CHECK(takes((char *[]){path, libraries, ranks, NULL}) &&
          strcmp(entry("/.singularity.d/libs/libmpi.so.40")->first, at("mpich/libmpi.so.40")) == 0, "LD_LIBRARY_PATH goes before PATH");
}

int main(void)
{
    test_judging();
    test_versions();
    test_finding();
    tree_remove();
    return checks_end();
}
