/* --mpi: the MPI of the host, with all that it loads, as candidates for the place of the image's. */
#ifndef SINGULARITY_LIBRARIES_HOST_MPI_H
#define SINGULARITY_LIBRARIES_HOST_MPI_H

#include "../request.h"
#include "../text_store.h"

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

#endif
