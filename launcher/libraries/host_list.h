/* Devices, libraries, programs and files of the host that --nv, --rocm and --fabric bring in: a table in the configuration
 * directory says for each what is looked for, and nvliblist.conf explains how it is written. */
#ifndef SINGULARITY_LIBRARIES_HOST_LIST_H
#define SINGULARITY_LIBRARIES_HOST_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../request.h"
#include "../text_store.h"

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

#endif
