/* What a shared object or program says of symbol versions: those it needs of others, and those it has. Reads bytes that
 * anybody may have written; nothing outside of them is ever touched, and every walk ends. */
#ifndef SINGULARITY_LIBRARIES_ELF_H
#define SINGULARITY_LIBRARIES_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

bool elf_defines(const struct elf *elf, const char *version);

#endif
