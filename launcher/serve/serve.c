/* The image server's process: its threads and their queues. */
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../message.h"
#include "parts.h"

enum { STACK = 256 << 10 };

struct server *serve_open(int image, uint64_t offset, uint64_t size, const struct seal *seal, const char *name, const char **why)
{
    struct server *server = calloc(1, sizeof *server);

    *why = "no memory";
    if (server == NULL)
        return NULL;
    server->file = (struct squashfs_file){image, offset};
    struct squashfs_source source = squashfs_file_source(&server->file, size);
    if (seal != NULL && seal->tree != 0) {
        server->sealed = sealed_open(image, seal, name);
        source = (struct squashfs_source){.context = server->sealed, .size = server->sealed != NULL ? size : 0, .read = sealed_read};
    }
    if (squashfs_look(&source, &server->image, why) == 0) {
        server->block_size = squashfs_super(server->image)->block_size;
        server->zeros = mmap(NULL, server->block_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *why = "no memory";
        if (server->zeros != MAP_FAILED && cache_begin(&server->cache, (uint32_t)server->block_size, SERVE_MEMORY) &&
            hands_begin(&server->first, server, why))
            return server;
    } else if (server->sealed != NULL)
        *why = "its first block is not what was signed (damaged, or changed since; get the image again)";
    squashfs_close(server->image);
    free(server->sealed);
    free(server);
    return NULL;
}

bool hands_begin(struct hands *hands, struct server *server, const char **why)
{
    hands->server = server;
    hands->near = (struct near){.stat = -1, .on = -1};
    hands->pieces.plain = malloc(REQUEST_MOST); /* of which only what is used is there */
    return hands->pieces.plain != NULL && squashfs_reader_new(server->image, &hands->reader, why) == 0;
}

bool thread_begin(void *(*body)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;

    if (pthread_attr_init(&attributes) != 0)
        return false;
    (void)pthread_attr_setstacksize(&attributes, STACK);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool begun = pthread_create(&thread, &attributes, body, argument) == 0;
    (void)pthread_attr_destroy(&attributes);
    return begun;
}

static void say_counts(struct server *server)
{
    for (unsigned i = 0; i < OPCODES; i++) {
        unsigned long count = atomic_load(&server->requests[i]);
        if (count > 0)
            message_debug("image server: %lu times %s", count, opcode_name(i));
    }
    message_debug("image server: %lu stores, %u threads", atomic_load(&server->stores), atomic_load(&server->threads));
}

/* The mount is gone: the whole process ends with the first thread that sees it, and others wait for that. */
static _Noreturn void serve_queue(struct hands *hands, int queue)
{
    answer_requests(hands, queue);
    pthread_mutex_lock(&hands->server->ending);
    trace_write(hands->server);
    if (hands->server->tell >= 0)
        close(hands->server->tell); /* whoever waits for a trace need not wait until this memory is given back */
    say_counts(hands->server);
    _exit(0);
}

static void *thread(void *argument)
{
    struct hands *hands = argument;

    serve_queue(hands, hands->queue);
}

/* The thread that took the last one that waited begins another, up to as many as there are queues: a launch of a small program is
 * served by one. */
void threads_more(struct server *server)
{
    unsigned number = atomic_fetch_add(&server->threads, 1);
    struct hands *hands = number < server->queue_count ? calloc(1, sizeof *hands) : NULL;
    const char *why;

    if (hands != NULL && hands_begin(hands, server, &why)) {
        hands->queue = server->queues[number];
        if (thread_begin(thread, hands))
            return;
    }
    if (hands != NULL) {
        squashfs_reader_free(hands->reader);
        free(hands->pieces.plain);
    }
    free(hands);
    atomic_fetch_sub(&server->threads, 1);
}

/* A queue a thread (Linux 4.2): answers find who waits without a lock that all share. Without them all use the one. */
static void queues_open(struct server *server)
{
    bool known = sched_getaffinity(0, sizeof server->processors, &server->processors) == 0;
    unsigned count = known ? (unsigned)CPU_COUNT(&server->processors) : 1;

    server->queue_count = count < 2 ? 2 : count > THREADS ? THREADS : count;
    server->queues[0] = server->device;
    for (unsigned i = 1; i < server->queue_count; i++) {
        int queue = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        uint32_t of = (uint32_t)server->device;
        if (queue >= 0 && syscall(SYS_ioctl, queue, FUSE_DEV_IOC_CLONE, &of) < 0) {
            close(queue);
            queue = -1;
        }
        server->queues[i] = queue >= 0 ? queue : server->device;
    }
}

static _Noreturn void stop_unread(const char *why, int tell)
{
    if (tell < 0)
        stop(0, "%s", why);
    (void)!write(tell, why, strlen(why));
    _exit(EXIT_OWN_FAILURE);
}

/* Whoever waits for the program is not to wait for us. */
static void *fall_silent(void *launch)
{
    struct pollfd ended = {.fd = (int)(intptr_t)launch, .events = POLLIN};

    while (ended.fd >= 0 && poll(&ended, 1, -1) < 0 && errno == EINTR)
        continue;
    close(STDERR_FILENO);
    return NULL;
}

void serve_run(struct server *server, int device, int image, int tell, int launch)
{
    const char *why;

    (void)prctl(PR_SET_NAME, "image-server", 0, 0, 0);
    /* the program in the container is the same user's: through /proc/PID/environ and root it would see the caller's variables and
     * the host's files */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a trace that is too large for the limit is an error like others */
    server->device = device;
    server->tell = tell;
    server->file.fd = image;
    if (server->sealed != NULL)
        sealed_move(server->sealed, image);
    server->first.queue = device;
    atomic_store(&server->threads, 1);
    if (pthread_mutex_init(&server->ahead.lock, NULL) != 0 || pthread_cond_init(&server->ahead.more, NULL) != 0 ||
        pthread_mutex_init(&server->listings.lock, NULL) != 0 || pthread_mutex_init(&server->ending, NULL) != 0)
        stop(errno, "start the image server");
    queues_open(server);
    confine(server);
    if ((server->sealed != NULL || server->trace != NULL || server->removed != NULL) && (launch < 0 || !thread_begin(fall_silent, (void *)(intptr_t)launch)))
        close(STDERR_FILENO);
    if (squashfs_tables(server->image, &why) != 0)
        stop_unread(why, tell);
    serve_queue(&server->first, device);
}
