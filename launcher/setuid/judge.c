/* Has signatures judged, libraries compared and containers kept by sexec-judge, in processes that have given up every privilege: the setuid program reads no
 * library and no signature, and answers nobody. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../libraries/look.h"
#include "../location.h"
#include "../shared/shared.h"

/* Nobody but root may read the program's file: what executes such a file can be neither traced nor read by its user, from its
 * first instruction on. It stands in the mount namespace of a container that is half built, which must be nobody's. */
static int open_judge(void)
{
    char path[PATH_MAX];
    struct stat status;

    snprintf(path, sizeof path, "%s/sexec-judge", location_libexec());
    OWNED_FD file = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0 || fstat(file, &status) < 0)
        stop(errno, "%s", path);
    if (!S_ISREG(status.st_mode) || status.st_uid != 0 || (status.st_mode & 07777) != 0711)
        stop(0, "%s: not root's, of mode 0711 (reinstall singularity)", path);
    return fd_give(&file);
}

/* As a word, and open in the next program. */
static char *handed(char word[16], int fd)
{
    if (fcntl(fd, F_SETFD, 0) < 0)
        stop(errno, "ask sexec-judge");
    snprintf(word, 16, "%d", fd);
    return word;
}

static _Noreturn void become_judge(int judge, char **words)
{
    char *none[] = {NULL};

    (void)syscall(SYS_execveat, judge, "", words, none, AT_EMPTY_PATH);
    stop(errno, "start sexec-judge");
}

_Noreturn void library_look_and_tell(const struct request *asked, int root, int to)
{
    char words[3][16], name[] = "sexec-judge";
    struct error error = {0};
    int request = request_send(asked, &error);

    if (request < 0)
        stop(0, "%s", error.text);
    become_judge(open_judge(), (char *[]){name, handed(words[0], request), handed(words[1], root), handed(words[2], to), NULL});
}

_Noreturn void seal_judge_and_tell(const struct seal_question *question, int to)
{
    char words[2][16], numbers[2][24], name[] = "sexec-judge", what[] = "signature";

    snprintf(numbers[0], sizeof numbers[0], "%llu", (unsigned long long)question->offset);
    snprintf(numbers[1], sizeof numbers[1], "%llu", (unsigned long long)question->size);
    become_judge(open_judge(), (char *[]){name, what, handed(words[0], question->image), numbers[0], numbers[1],
                                          (char[]){(char)('0' + question->reader), '\0'}, handed(words[1], to), NULL});
}

#ifndef SANITIZED /* a program with sanitizers needs a loader, which the container has not: then this process is the keeper */
int keeper_program(void)
{
    return open_judge();
}

/* Named as the other processes of a launch. */
_Noreturn void keeper_run(const struct rendezvous *rendezvous, int place, const int *spaces, size_t count)
{
    char numbers[RENDEZVOUS_SPACES + 3][16], name[] = "sexec", keep[] = "keep";
    int key = memfd_create("key", 0);

    if (key < 0 || !fd_write(key, rendezvous->key, rendezvous->key_size))
        stop(errno, "keep the container for others");
    snprintf(numbers[2], sizeof numbers[2], "%d", rendezvous->linger == RENDEZVOUS_FOREVER ? (int)rendezvous->script : -1);
    char *words[RENDEZVOUS_SPACES + 6] = {name, keep, handed(numbers[0], place), handed(numbers[1], key), numbers[2]};
    for (size_t i = 0; i < count && i < RENDEZVOUS_SPACES; i++)
        words[5 + i] = handed(numbers[3 + i], spaces[i]);
    become_judge(rendezvous->program, words);
}
#endif
