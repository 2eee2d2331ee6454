/* What goes wrong in a parallel program, and what its processes see: the first word says which.
 *
 *   abort STATUS   rank 1 calls MPI_Abort, the others wait
 *   signal NUMBER  rank 1 sends the signal to itself, the others wait
 *   exit STATUS    every rank ends with it, properly
 *   count          rank 0 prints how many bytes its standard input had
 *   wait           every rank prints "ready RANK PID", then sleeps; on SIGUSR1 it prints "signalled RANK" and ends
 *   copy           rank 0 reads memory of rank 1 with process_vm_readv and prints "copied" or the error
 *   files          every rank writes "RANK of SIZE, SUM" to its own file out.RANK, with the sum of what all ranks read from in.txt
 */
#include <errno.h>
#include <mpi.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

static int rank;
static volatile sig_atomic_t signalled;

static void note(int number)
{
    signalled = number;
}

static void fail_one(const char *how, int value)
{
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 1 && strcmp(how, "abort") == 0)
        MPI_Abort(MPI_COMM_WORLD, value);
    if (rank == 1)
        raise(value);
    for (;;)
        pause();
}

static void count(void)
{
    char bytes[4096];
    long total = 0;
    ssize_t got;

    while (rank == 0 && (got = read(STDIN_FILENO, bytes, sizeof bytes)) > 0)
        total += got;
    if (rank == 0)
        printf("%ld bytes\n", total);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void wait_for_signal(void)
{
    signal(SIGUSR1, note);
    printf("ready %d %d\n", rank, (int)getpid());
    fflush(stdout);
    while (!signalled)
        usleep(10000);
    printf("signalled %d\n", rank);
}

static void copy(void)
{
    static char text[16];
    intptr_t place[2] = {getpid(), (intptr_t)text}, other[2] = {0, 0};

    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    strcpy(text, rank == 1 ? "from one" : "");
    MPI_Sendrecv(place, sizeof place, MPI_BYTE, 1 - rank, 1, other, sizeof other, MPI_BYTE, 1 - rank, 1, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    if (rank == 0) {
        struct iovec here = {text, sizeof text}, there = {(void *)other[1], sizeof text};
        ssize_t got = process_vm_readv((pid_t)other[0], &here, 1, &there, 1, 0);
        printf("%s\n", got < 0 ? strerror(errno) : strcmp(text, "from one") == 0 ? "copied" : "something else");
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void files(void)
{
    char name[32];
    int size, number = 0, sum = 0;
    FILE *in = fopen("in.txt", "r");

    if (in == NULL || fscanf(in, "%d", &number) != 1)
        MPI_Abort(MPI_COMM_WORLD, 2);
    fclose(in);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&number, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    snprintf(name, sizeof name, "out.%d", rank);
    FILE *out = fopen(name, "w");
    if (out == NULL || fprintf(out, "%d of %d, %d\n", rank, size, sum) < 0 || fclose(out) != 0)
        MPI_Abort(MPI_COMM_WORLD, 3);
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    int value = argc > 2 ? atoi(argv[2]) : 0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (strcmp(how, "abort") == 0 || strcmp(how, "signal") == 0)
        fail_one(how, value);
    else if (strcmp(how, "count") == 0)
        count();
    else if (strcmp(how, "wait") == 0)
        wait_for_signal();
    else if (strcmp(how, "copy") == 0)
        copy();
    else if (strcmp(how, "files") == 0)
        files();
    MPI_Finalize();
    return strcmp(how, "exit") == 0 ? value : 0;
}
