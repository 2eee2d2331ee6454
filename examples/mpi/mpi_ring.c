/* A number goes round a ring of processes until it is 0, as in Open MPI's ring example, and is then followed by a list
 * to which every process adds its rank: rank 0 ends with status 1 unless the ranks came in order. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 10, TAG = 201, LIST_TAG = 202 };

static void pass_number(int rank, int size)
{
    int next = (rank + 1) % size, before = (rank + size - 1) % size, number = ROUNDS;

    if (rank == 0) {
        printf("Process 0 sending %d to %d, tag %d (%d processes in ring)\n", number, next, TAG, size);
        MPI_Send(&number, 1, MPI_INT, next, TAG, MPI_COMM_WORLD);
        printf("Process 0 sent to %d\n", next);
    }
    do {
        MPI_Recv(&number, 1, MPI_INT, before, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (rank == 0)
            printf("Process 0 decremented value: %d\n", --number);
        MPI_Send(&number, 1, MPI_INT, next, TAG, MPI_COMM_WORLD);
    } while (number > 0);
    if (rank == 0) /* the others have left: what they sent last is still under way */
        MPI_Recv(&number, 1, MPI_INT, before, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* The list has room for every rank; process N fills in place N. */
static int ranks_in_order(int rank, int size)
{
    int next = (rank + 1) % size, before = (rank + size - 1) % size, wrong = 0;
    int *list = calloc((size_t)size, sizeof *list);

    if (list == NULL)
        MPI_Abort(MPI_COMM_WORLD, 2);
    if (rank > 0)
        MPI_Recv(list, size, MPI_INT, before, LIST_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    list[rank] = rank;
    MPI_Send(list, size, MPI_INT, next, LIST_TAG, MPI_COMM_WORLD);
    if (rank == 0) {
        MPI_Recv(list, size, MPI_INT, before, LIST_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (int i = 0; i < size; i++)
            wrong += list[i] != i;
    }
    free(list);
    return wrong == 0;
}

int main(int argc, char **argv)
{
    int rank, size;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    pass_number(rank, size);
    int right = ranks_in_order(rank, size);
    if (!right)
        fprintf(stderr, "Process %d: the ranks came out of order\n", rank);
    printf("Process %d exiting\n", rank);
    MPI_Finalize();
    return right ? 0 : 1;
}
