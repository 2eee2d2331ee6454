/* Opens files in ways that a shell does not: from threads, by openat2(2) and openat(2) below a directory, in a child of vfork(2), through
 * io_uring where there is one. A static program: nothing can be preloaded into it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, FILES = 25, IO_URING_SETUP = 425 };

static void *touch(void *argument)
{
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "many/%s%d", (const char *)argument, i);
        int fd = open(name, O_WRONLY | O_CREAT, 0644);
        if (fd < 0 || write(fd, name, strlen(name)) < 0)
            return (void *)1;
        close(fd);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    static char names[THREADS][2];
    struct open_how how = {.flags = O_RDONLY};
    char bytes[8];

    mkdir("many", 0755);
    for (int i = 0; i < THREADS; i++) {
        names[i][0] = (char)('a' + i);
        pthread_create(&threads[i], NULL, touch, names[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        if (failed != NULL)
            return 2;
    }
    int second = (int)syscall(SYS_openat2, AT_FDCWD, "by-openat2", &how, sizeof how);
    int directory = open("below", O_PATH | O_DIRECTORY), third = openat(directory, "by-openat", O_RDONLY);
    if (read(second, bytes, sizeof bytes) < 0 || read(third, bytes, sizeof bytes) < 0)
        return 3;
    pid_t child = vfork();
    if (child == 0) {
        execl("/bin/cat", "cat", "by-child", NULL);
        _exit(4);
    }
    int status = 0;
    waitpid(child, &status, 0);
    long ring = syscall(IO_URING_SETUP, 1, NULL);
    printf("ring %ld %s\n", ring, errno == ENOSYS ? "ENOSYS" : "other");
    return WEXITSTATUS(status);
}
