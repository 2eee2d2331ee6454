/* What the kernel is told unasked (FUSE_NOTIFY_STORE): bytes for its page cache that it would ask for next. Reads the image, writes to
 * the device. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "parts.h"

/* What the kernel reads ahead by itself, and ours beyond that. */
enum { KERNEL_AHEAD = 128 << 10, WINDOW_LEAST = 512 << 10, WINDOW_MOST = 4 << 20 };

static void store(struct hands *hands, const struct squashfs_inode *inode, uint64_t offset, size_t length)
{
    struct server *server = hands->server;
    struct pieces *pieces = &hands->pieces;
    struct iovec all[PIECES + 2];

    if (pieces_take(hands, inode, offset, length) != 0)
        return; /* who reads there is told */
    struct fuse_notify_store_out what = {.nodeid = node_of(server, inode->reference), .offset = offset,
                                         .size = (uint32_t)pieces->length};
    struct fuse_out_header header = {.error = FUSE_NOTIFY_STORE, .len = (uint32_t)(sizeof header + sizeof what + pieces->length)};
    all[0] = (struct iovec){&header, sizeof header};
    all[1] = (struct iovec){&what, sizeof what};
    memcpy(all + 2, pieces->parts, (size_t)pieces->count * sizeof *all);
    if (pieces->length > 0)
        (void)!writev(server->device, all, pieces->count + 2); /* ENOENT: the kernel has forgotten the file */
    pieces_give_back(hands, true);
    atomic_fetch_add_explicit(&server->stores, 1, memory_order_relaxed);
}

static void perform_job(struct hands *hands, const struct job *job)
{
    uint64_t block = hands->server->block_size;

    for (uint64_t at = job->from, end; at < job->to; at = end) {
        end = at - at % block + block < job->to ? at - at % block + block : job->to;
        if (at >= job->known && at < job->known_end) {
            end = job->known_end < end ? job->known_end : end;
            continue;
        }
        if (at < job->known && job->known < end)
            end = job->known;
        store(hands, &job->inode, at, (size_t)(end - at));
    }
}

static void *perform_jobs(void *argument)
{
    struct server *server = argument;
    struct ahead *ahead = &server->ahead;
    static struct hands hands;
    const char *why;

    if (!hands_begin(&hands, server, &why))
        return NULL;
    for (;;) {
        pthread_mutex_lock(&ahead->lock);
        while (ahead->count == 0)
            pthread_cond_wait(&ahead->more, &ahead->lock);
        struct job job = ahead->jobs[ahead->first];
        ahead->first = (ahead->first + 1) % JOBS;
        ahead->count--;
        pthread_mutex_unlock(&ahead->lock);
        squashfs_reader_request(hands.reader);
        perform_job(&hands, &job);
    }
    return NULL;
}

static void add(struct server *server, const struct job *job)
{
    struct ahead *ahead = &server->ahead;

    pthread_mutex_lock(&ahead->lock);
    if (!ahead->running)
        ahead->running = thread_begin(perform_jobs, server);
    if (ahead->running && ahead->count < JOBS) {
        ahead->jobs[(ahead->first + ahead->count++) % JOBS] = *job;
        pthread_cond_signal(&ahead->more);
    }
    pthread_mutex_unlock(&ahead->lock);
}

/* Up to where to store, for a read that ended at `end`. A file that is read in order is stored in growing steps, from behind what the
 * kernel reads ahead by itself on: it asks for nothing that is there, so the next read that comes here is one step later. */
static uint64_t follow(struct ahead *ahead, uint64_t of, uint64_t offset, uint64_t end, uint64_t *from)
{
    uint64_t to = end;
    unsigned i = 0;

    pthread_mutex_lock(&ahead->lock);
    while (i < FOLLOWED && ahead->followed[i].of != of)
        i++;
    if (i == FOLLOWED) {
        i = ahead->next++ % FOLLOWED;
        ahead->followed[i].of = of;
        ahead->followed[i].window = 0;
    } else if (offset == ahead->followed[i].end || (offset <= ahead->followed[i].told + KERNEL_AHEAD && offset > ahead->followed[i].end)) {
        ahead->followed[i].window = ahead->followed[i].window == 0 ? WINDOW_LEAST : ahead->followed[i].window * 2;
        if (ahead->followed[i].window > WINDOW_MOST)
            ahead->followed[i].window = WINDOW_MOST;
        *from = end + KERNEL_AHEAD > ahead->followed[i].told ? end + KERNEL_AHEAD : ahead->followed[i].told;
        to = end + KERNEL_AHEAD + ahead->followed[i].window;
    } else
        ahead->followed[i].window = 0;
    ahead->followed[i].end = end;
    if (ahead->followed[i].window == 0 || to > ahead->followed[i].told)
        ahead->followed[i].told = to;
    pthread_mutex_unlock(&ahead->lock);
    return to;
}

void ahead_of(struct server *server, const struct squashfs_inode *inode, uint64_t offset, size_t length)
{
    uint64_t block = server->block_size, end = offset + length, from = end;
    struct job job = {.inode = *inode, .from = offset - offset % block, .to = (end + block - 1) / block * block,
                      .known = offset, .known_end = end};

    if (length == 0 || inode->size <= block || atomic_load_explicit(&server->count, memory_order_relaxed) < FEW)
        return;
    uint64_t to = follow(&server->ahead, inode->reference, offset, end, &from);
    job.to = job.to < inode->size ? job.to : inode->size;
    if (job.from < offset || job.to > end)
        add(server, &job);
    to = to < inode->size ? to : inode->size;
    if (to > from) {
        job = (struct job){.inode = *inode, .from = from, .to = to};
        add(server, &job);
    }
}
