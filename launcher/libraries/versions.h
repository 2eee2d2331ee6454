/* Which of two copies of a library is the newer one. */
#ifndef SINGULARITY_LIBRARIES_VERSIONS_H
#define SINGULARITY_LIBRARIES_VERSIONS_H

#include <limits.h>

#include "elf.h"

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

#endif
