/* The names of MPI libraries and the family of each. */
#include "libraries.h"

/* Open MPI has kept its interface from 4.0 on; MPICH 3.1, Intel MPI, MVAPICH and Cray share one (the MPICH ABI initiative),
 * which Debian gives a name of its own; MPI 5 defines one for all. */
const struct mpi_name mpi_names[MPI_NAMES] = {
    {"libmpi.so.40", MPI_OPENMPI, 0, true},
    {"libmpi.so.12", MPI_MPICH, 1, true},
    {"libmpich.so.12", MPI_MPICH, 1, true},
    {"libmpi_abi.so.1", MPI_OPENMPI | MPI_MPICH, 0, true},
    {"libmpi_abi.so.0", MPI_OPENMPI | MPI_MPICH, 0, true},
    {"libmpi.so.20", MPI_OPENMPI, 0, true},
    {"libmpifort.so.12", MPI_MPICH, 2, false},
    {"libmpichfort.so.12", MPI_MPICH, 2, false},
    {"libmpicxx.so.12", MPI_MPICH, 3, false},
    {"libmpichcxx.so.12", MPI_MPICH, 3, false},
    {"libmpi_mpifh.so.40", MPI_OPENMPI, 0, false},
    {"libmpi_usempif08.so.40", MPI_OPENMPI, 0, false},
    {"libmpi_usempi_ignore_tkr.so.40", MPI_OPENMPI, 0, false},
    {"libmpi_usempi.so.40", MPI_OPENMPI, 0, false},
    {"libmpi_cxx.so.40", MPI_OPENMPI, 0, false},
    {"liboshmem.so.40", MPI_OPENMPI, 0, false},
};

/* In the words of their users, for messages. */
const char *mpi_families_text(unsigned families)
{
    return families == MPI_OPENMPI ? "Open MPI" : families == MPI_MPICH ? "the MPICH family" : "the MPI standard's ABI";
}
