/* Names of MPI libraries: one name is one binary interface, whoever made the library. */
#ifndef SINGULARITY_LIBRARIES_MPI_H
#define SINGULARITY_LIBRARIES_MPI_H

#include <stdbool.h>
#include <stddef.h>

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

#endif
