/* Reaches files by names that a shell does not use. The first word says how:
 *
 *   descriptors      opens by-self, by-process, by-dev and below/by-cwd through /proc and /dev, where a look alone was open
 *   execute FILE     executes a file that is open, without a name (fexecve(3))
 *   many             in 3 processes of 12 threads each makes 30,000 files in many/
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 3, THREADS = 12, FILES = 30000 };

static int read_by(const char *name, const char *form, int with_process)
{
    char path[128], byte;
    int looked = open(name, O_PATH | O_CLOEXEC), fd;

    if (with_process)
        snprintf(path, sizeof path, form, (int)getpid(), looked);
    else
        snprintf(path, sizeof path, form, looked);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    int failed = fd < 0 || read(fd, &byte, 1) != 1;
    if (failed)
        perror(path);
    return failed;
}

static int descriptors(void)
{
    return read_by("by-self", "/proc/self/fd/%d", 0) || read_by("by-process", "/proc/%d/fd/%d", 1) || read_by("by-dev", "/dev/fd/%d", 0) ||
           read_by("below", "/proc/self/fd/%d/../below/by-directory", 0) || read_by("below", "/proc/self/cwd/by-cwd", 0);
}

static int execute(char *name)
{
    char *words[] = {name, NULL}, *none[] = {NULL};

    syscall(SYS_execveat, open(name, O_PATH), "", words, none, AT_EMPTY_PATH);
    perror(name);
    return 1;
}

static int process;

static void *make(void *argument)
{
    long number = (long)argument;

    for (int i = 0; i < FILES / PROCESSES / THREADS; i++) {
        char name[64];
        snprintf(name, sizeof name, "many/%d-%ld-%d", process, number, i);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd < 0)
            return (void *)1;
        close(fd);
    }
    return NULL;
}

static int many(void)
{
    int bad = 0, status;

    mkdir("many", 0755);
    for (process = 0; process < PROCESSES; process++)
        if (fork() == 0) {
            pthread_t threads[THREADS];
            void *failed = NULL;
            for (long i = 0; i < THREADS; i++)
                pthread_create(&threads[i], NULL, make, (void *)i);
            for (int i = 0; i < THREADS && failed == NULL; i++)
                pthread_join(threads[i], &failed);
            _exit(failed != NULL);
        }
    while (wait(&status) > 0)
        bad |= status;
    return bad != 0;
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";

    return strcmp(how, "descriptors") == 0 ? descriptors() : strcmp(how, "many") == 0 ? many() : argc > 2 ? execute(argv[2]) : 2;
}
