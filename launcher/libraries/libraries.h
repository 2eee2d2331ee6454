/* Libraries of the host that go into a container: which a launch wants, where they are, and whether the image can take them.
 * Without privilege; the setuid program has none of it but look.h, whose work sexec-judge does for it. */
#ifndef SINGULARITY_LIBRARIES_H
#define SINGULARITY_LIBRARIES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../front/front.h"
#include "../request.h"
#include "../text_store.h"
#include "look.h"

/* ---- What a shared object or program says of symbol versions: those it needs of others, and those it has. Reads bytes that
 * anybody may have written; nothing outside of them is ever touched, and every walk ends. */

/* A walk gives at most so many entries, of names no longer than this: a file that has more was made to be slow. */
enum { ELF_ENTRIES = 1024, ELF_NAME = 256 };

enum elf_kind {
    ELF_NONE,  /* no ELF file, or one that nothing can be told of */
    ELF_OTHER, /* of another machine, word size or byte order */
    ELF_THIS,  /* of this machine */
};

struct elf {
    const uint8_t *bytes;
    uint64_t size;
    uint64_t dynamic;      /* offset of the dynamic section, 0: a static program */
    uint64_t dynamic_count;
    uint64_t strings;      /* offset and size of its names */
    uint64_t strings_size;
    uint64_t needs;        /* offset of the versions that are needed, 0: none */
    uint64_t definitions;  /* of those that are defined, 0: none */
};

/* The bytes must stay as long as `elf` and the names it gives. */
enum elf_kind elf_read(const uint8_t *bytes, size_t size, struct elf *elf);

/* The libraries that it names as needed, one a call. `cursor` begins as 0; NULL: no more. */
const char *elf_next_library(const struct elf *elf, uint64_t *cursor);

/* Where it wants its libraries to be looked for first: its RUNPATH, else its RPATH, else NULL. */
const char *elf_run_path(const struct elf *elf);

/* The versions that it needs, one a call; begins as all zero. False: no more. */
struct elf_need {
    const char *file;    /* the library that must have it */
    const char *version;
    bool weak;           /* it starts without as well */
    uint64_t entry, part, seen; /* of the walk */
};
bool elf_next_need(const struct elf *elf, struct elf_need *need);

/* The versions that it has, one a call; begins as all zero. False: no more. */
struct elf_definition {
    const char *version;
    bool base;           /* the library's own name, which is no version */
    uint64_t entry, seen;
};
bool elf_next_definition(const struct elf *elf, struct elf_definition *definition);

/* Whether it has this very version. */
bool elf_defines(const struct elf *elf, const char *version);

/* ---- ld.so.cache: where a loader of glibc finds its libraries. */

/* Calls `found` with name and path of each library of this machine's kind in the bytes of an ld.so.cache. Anything that
 * points outside the bytes is passed over. */
typedef void library_found(void *context, const char *name, const char *path);
void library_cache_read(const uint8_t *bytes, size_t size, library_found *found, void *context);

/* ---- Names of MPI libraries: one name is one binary interface, whoever made the library. */

/* Bits: the standard's interface is that of both. */
enum mpi_family { MPI_UNKNOWN = 0, MPI_OPENMPI = 1 << 0, MPI_MPICH = 1 << 1 };

struct mpi_name {
    const char *name;
    unsigned families;
    int alias;  /* names of one number are one interface; 0: no other */
    bool leads; /* programs in C are linked with it */
};

enum { MPI_NAMES = 16 };
extern const struct mpi_name mpi_names[MPI_NAMES];

/* "Open MPI", "the MPICH family", "the MPI standard's ABI". */
const char *mpi_families_text(unsigned families);

/* ---- Which of two copies of a library is the newer one. */

/* A file as it was found: its bytes, and its name at the end of all links ("libcuda.so.535.104.05"). */
struct shared_object {
    enum elf_kind kind; /* ELF_NONE: there is none, or nothing can be told of it */
    bool found;
    struct elf elf;
    char name[NAME_MAX + 1];
};

/* Of the first one against the second. */
enum version_order { VERSION_SAME, VERSION_NEWER, VERSION_OLDER, VERSION_UNKNOWN };

/* By the symbol versions that they have, since a newer library of the same name keeps all of the older one's; where
 * these are the same, by the numbers in the names of the files. Two of one number but not of one size are no copies. */
enum version_order library_version_order(const struct shared_object *one, const struct shared_object *other);

/* A symbol version that `other` has and `one` lacks, or NULL: programs that were linked to the other may need it. Versions
 * that are for the parts of one package among themselves come and go, and do not count. */
const char *library_lacks(const struct elf *one, const struct elf *other);

/* Numbers and words between dots and underscores, compared one after another: below, at or above 0. */
int version_compare(const char *one, const char *other);

/* The numbers after ".so." in a file's name, or "". */
const char *library_number(const char *name);

/* ---- Which libraries of the host go into a container. Each is judged by itself against what the image has: one that could
 * not load there would stand in front of the image's own and break every program that uses it. Data in, verdicts out. */

/* One entry of the request that depends on the image. */
struct candidate {
    const char *name;           /* as programs ask the loader for it; "" for what is found by its path */
    const char *file;           /* its path on the host */
    uint64_t number;            /* LIBRARY_* of the request */
    struct shared_object host;
    const struct shared_object *image; /* of that name; NULL: there is none */
    enum library_verdict verdict;
    char reason[VERDICT_REASON];
};

/* What the image's loader would find under a name, or NULL. The answer to one name does not change. */
struct image_libraries {
    const struct shared_object *(*find)(void *context, const char *name);
    void *context;
    bool foreign; /* its programs use another C library than glibc */
};

/* Fills in verdict and reason of each candidate, whose name, file, number, host and image are set. Terms: a set goes
 * in whole or not at all, and its LIBRARY_LEAD decides. */
void library_judge(struct candidate *candidates, uint32_t count, const struct image_libraries *image);

/* ---- Devices, libraries, programs and files of the host that --nv, --rocm and --fabric bring in: a table in the
 * configuration directory says for each what is looked for, and nvliblist.conf explains how it is written. */

enum { HOST_LIST_VARIABLES = 16 };

/* Where things are looked for; the host's, or a test's. */
struct host_list_sources {
    const char *list;      /* the table */
    const char *cache;     /* /etc/ld.so.cache */
    const char *inherited; /* libraries that an outer container was given: /.singularity.d/libs */
    const char *path;      /* PATH for programs, or NULL */
};

/* What is wanted, and what came of it. */
struct host_list {
    uint64_t number;        /* LIBRARY_* for every entry: the option, and whether the user asked */
    bool devices_first;     /* without a device nothing else is looked for */
    uint32_t devices;       /* found */
    uint32_t found;         /* entries that the request got, without devices and "support" */
    uint32_t variable_count;
    const char *variables[HOST_LIST_VARIABLES]; /* names that a clean environment keeps */
};

/* Adds to the request's libraries what the table names and the host has. False: the table cannot be read, which is told. */
bool host_list_take(const struct host_list_sources *sources, struct host_list *list, struct request *request,
                    struct text_store *store);

/* ---- --mpi: the MPI of the host, with all that it loads, as candidates for the place of the image's. */

/* Where it is looked for; the host's, or a test's. */
struct host_mpi_sources {
    char *const *environment; /* of the caller: of the launcher of ranks, and of loaded modules */
    const char *cache;        /* /etc/ld.so.cache */
};

/* Adds to the request's libraries the host's MPI library, its relatives, the libraries that these and their plugins need
 * except those of glibc, and the directories of plugins and settings at the paths that they have on the host. `number` is
 * LIBRARY_* for every entry. Which MPI: that of the launcher which started this process, else the first one in
 * LD_LIBRARY_PATH, beside "mpirun" or "mpiexec" of PATH, or where the loader looks. False: the host has none. */
bool host_mpi_take(const struct host_mpi_sources *sources, uint64_t number, struct request *request, struct text_store *store);

/* ---- --nv, --rocm, --fabric and --mpi: which tables of the site are read for a launch, and whether the host's MPI is
 * found. */

/* What the options or the site want, unless --no-nv or --no-rocm, goes into the request; without them nothing is read but
 * the site's configuration. Returns the environment to hand on: with --cleanenv it injects the variables that say which
 * devices a job may use. NULL: no memory. */
char **host_families_take(struct invocation *invocation, const struct installation *installation, const struct options *options,
                          char **environment, struct arena *arena);

#endif
