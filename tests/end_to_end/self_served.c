/* A program that reads a file system which it serves itself, in namespaces of its own: each look for a name makes the server open a file,
 * "backing", by its name. Usage: self_served MOUNTPOINT NAME... It prints what it read of each; "never" is a name that the server does not
 * answer for. A static program. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int server;

static void answer(const struct fuse_in_header *to, int error, const void *bytes, size_t size)
{
    static char room[4096];
    struct fuse_out_header head = {.len = (uint32_t)(sizeof head + size), .error = error, .unique = to->unique};

    memcpy(room, &head, sizeof head);
    if (size > 0)
        memcpy(room + sizeof head, bytes, size);
    if (write(server, room, head.len) < 0 && error == 0)
        perror("answer");
}

static struct fuse_attr attributes(uint64_t inode)
{
    return (struct fuse_attr){.ino = inode, .size = inode == 1 ? 0 : 7, .mode = inode == 1 ? S_IFDIR | 0755 : S_IFREG | 0644, .nlink = 1,
                              .uid = getuid(), .gid = getgid()};
}

/* The name is looked for behind this file system. */
static void look(const struct fuse_in_header *from)
{
    struct fuse_entry_out entry = {.nodeid = 2, .attr = attributes(2)};
    int fd = open("backing", O_RDONLY);

    close(fd);
    while (strcmp((const char *)(from + 1), "never") == 0)
        pause();
    answer(from, 0, &entry, sizeof entry);
}

static void serve(void)
{
    static char request[1 << 17];
    const struct fuse_in_header *head = (const void *)request;
    const struct fuse_init_in *asked = (const void *)(head + 1);

    while (read(server, request, sizeof request) > 0) {
        struct fuse_init_out begun = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_readahead = 4096, .max_write = 4096};
        struct fuse_attr_out known = {.attr = attributes(head->nodeid)};
        struct fuse_open_out opened = {.fh = 1, .open_flags = FOPEN_DIRECT_IO};
        const struct fuse_read_in *part = (const void *)(head + 1);
        if (head->opcode == FUSE_INIT && asked->minor < begun.minor)
            begun.minor = asked->minor;
        switch (head->opcode) {
        case FUSE_INIT: answer(head, 0, &begun, sizeof begun); break;
        case FUSE_LOOKUP: look(head); break;
        case FUSE_GETATTR: answer(head, 0, &known, sizeof known); break;
        case FUSE_OPEN: answer(head, 0, &opened, sizeof opened); break;
        case FUSE_READ: answer(head, 0, "served\n", part->offset == 0 ? 7 : 0); break;
        case FUSE_FORGET: case FUSE_BATCH_FORGET: break;
        default: answer(head, head->opcode == FUSE_RELEASE || head->opcode == FUSE_FLUSH ? 0 : -38, NULL, 0);
        }
    }
}

static int client(char **names)
{
    for (; *names != NULL; names++) {
        char text[16] = "";
        int fd = open(*names, O_RDONLY);
        if (fd < 0 || read(fd, text, sizeof text - 1) < 0) {
            perror(*names);
            return 1;
        }
        close(fd);
        fputs(text, stdout);
    }
    return 0;
}

static void put(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        perror(name);
    close(fd);
}

int main(int argc, char **argv)
{
    char text[128];
    unsigned uid = getuid(), gid = getgid();
    int status = 1;

    if (argc < 3 || unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
        perror("unshare");
        return 2;
    }
    put("/proc/self/setgroups", "deny");
    snprintf(text, sizeof text, "%u %u 1", uid, uid);
    put("/proc/self/uid_map", text);
    snprintf(text, sizeof text, "%u %u 1", gid, gid);
    put("/proc/self/gid_map", text);
    server = open("/dev/fuse", O_RDWR);
    snprintf(text, sizeof text, "fd=%d,rootmode=40000,user_id=%u,group_id=%u", server, uid, gid);
    if (server < 0 || mount("self", argv[1], "fuse.self", MS_NOSUID | MS_NODEV, text) < 0) {
        perror("mount");
        return 3;
    }
    pid_t child = fork();
    if (child == 0) {
        serve();
        _exit(0);
    }
    close(server);
    status = client(argv + 2);
    umount2(argv[1], MNT_DETACH);
    waitpid(child, NULL, 0);
    return status;
}
