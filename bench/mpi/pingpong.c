/* Time of messages between ranks 0 and 1: one line "BYTES MICROSECONDS MEGABYTES_PER_SECOND" a size, the best of several
 * batches, each half of a round trip. The last argument is the number of batches. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 4 << 20, BATCHES = 5, TAG = 1 };

static double batch(char *buffer, int bytes, int trips, int rank)
{
    int other = 1 - rank;

    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    for (int i = 0; i < trips; i++) {
        if (rank == 0)
            MPI_Send(buffer, bytes, MPI_CHAR, other, TAG, MPI_COMM_WORLD);
        MPI_Recv(buffer, bytes, MPI_CHAR, other, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (rank == 1)
            MPI_Send(buffer, bytes, MPI_CHAR, other, TAG, MPI_COMM_WORLD);
    }
    return (MPI_Wtime() - start) / (2.0 * trips);
}

int main(int argc, char **argv)
{
    int rank, size;
    int batches = argc > 1 ? atoi(argv[1]) : BATCHES;
    char *buffer = malloc(LARGEST);

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size != 2 || buffer == NULL || batches < 1)
        MPI_Abort(MPI_COMM_WORLD, 1);
    memset(buffer, 1, LARGEST);
    for (int bytes = 8; bytes <= LARGEST; bytes *= 8) {
        int trips = bytes < 4096 ? 2000 : bytes < 262144 ? 500 : 50;
        double best = batch(buffer, bytes, trips / 10, rank); /* warms up; counts too */
        for (int i = 0; i < batches; i++) {
            double seconds = batch(buffer, bytes, trips, rank);
            best = seconds < best ? seconds : best;
        }
        if (rank == 0)
            printf("%d %.3f %.1f\n", bytes, best * 1e6, bytes / best / 1e6);
    }
    MPI_Finalize();
    free(buffer);
    return 0;
}
