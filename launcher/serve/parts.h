/* What the files of the image server share. */
#ifndef SINGULARITY_SERVE_PARTS_H
#define SINGULARITY_SERVE_PARTS_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/uio.h>

#include <linux/fuse.h>

#include "../signature/signature.h"
#include "../squashfs/squashfs.h"
#include "serve.h"

/* A request has 256 pages at most; the smallest blocks have 4 KiB. */
enum { REQUEST_MOST = 1 << 20, PIECES = 258, THREADS = 8, WALKS = 16, SPENT = 16, OPCODES = 64, FEW = 100 };
/* The kernel wants room for the largest request, of which ours have a name and little more. Answers but data fit the other: the
 * kernel asks for a page of names, newer ones for up to REQUEST_MOST, and takes fewer. */
enum { IN_SIZE = FUSE_MIN_READ_BUFFER + 4096, OUT_SIZE = 65536 + 512 };

/* ---- Data blocks, decompressed once for whoever reads at the time. A block that is used is not replaced. */

struct block {
    uint64_t at; /* in the image; 0: none */
    int length;  /* or a negative errno */
    int users;
    bool loading, again; /* again: used since the search for a free one came by last */
    bool spent;          /* the kernel has all of it, and will not ask */
    uint8_t *data;
};
struct cache {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t count, hand, fresh; /* fresh: how many have been used ever */
    uint32_t spent[SPENT], spent_count;
    uint64_t *at; /* of each block: what is searched */
    struct block *blocks;
};
bool cache_begin(struct cache *cache, uint32_t block_size, size_t memory);
/* 0 and a block in use, or a negative errno. */
int cache_get(struct cache *cache, struct squashfs_reader *reader, const struct squashfs_extent *extent, bool fragment,
              struct block **block);
/* `spent`: see there. */
void cache_put(struct cache *cache, struct block *block, bool spent);

/* ---- A part of a file, in pieces of blocks that are held while they are sent. */

struct walks {
    unsigned next;
    struct {
        uint64_t of;
        struct squashfs_walk walk;
    } each[WALKS];
};
struct pieces {
    struct block *blocks[PIECES]; /* NULL: a hole, or in `plain` */
    uint8_t *plain; /* room for a request: what is stored as it is is read here, and kept nowhere */
    enum { PIECE_SHARED, PIECE_PART, PIECE_WHOLE } kinds[PIECES]; /* of a block with tails, of a file's own */
    struct iovec parts[PIECES];
    int count;
    size_t length;
};
/* ---- Where a thread runs: on the processor of who asks, while one process asks alone. */

struct near {
    uint32_t asker; /* the thread that made the last request; 0: one that cannot be seen from here */
    unsigned in_row;
    int stat, on; /* its file below /proc, and where this thread is held; -1: none */
};
enum { NEAR_FLAGS = O_RDONLY | O_CLOEXEC }; /* with which a thread opens files, and no others */
/* Restricts the process to the files of /proc, and returns that directory, or -1 where it cannot. */
int near_begin(struct server *server);
/* Before a request is answered. */
void near_follow(struct server *server, struct near *near, uint32_t asker);

/* One a thread: what it reads with. */
struct hands {
    struct server *server;
    struct squashfs_reader *reader;
    uint64_t traced; /* what was read last, + 1 */
    int queue;
    struct near near;
    struct walks walks;
    struct pieces pieces;
    /* a request and its answer: not on a stack, whose limit is the caller's (R-L12) */
    _Alignas(8) char in[IN_SIZE + 1], out[OUT_SIZE];
};
/* `length` bytes from `offset` on, or what there is of them. 0, or a negative errno and nothing is held. */
int pieces_take(struct hands *hands, const struct squashfs_inode *inode, uint64_t offset, size_t length);
/* Blocks of which the kernel has all now are free for others: those that were sent whole, or, with `rest`, all of the file's own. */
void pieces_give_back(struct hands *hands, bool rest);

/* ---- What the kernel is told unasked: the rest of blocks that were decompressed, and what follows in a file that is read in order.
 * By a thread of its own: storing waits for pages that are being read, so that no thread that answers reads may ever store. */

struct job {
    struct squashfs_inode inode;
    uint64_t from, to;         /* bytes of the file */
    uint64_t known, known_end; /* of these the kernel has */
};
enum { JOBS = 64, FOLLOWED = 16 };
struct ahead {
    pthread_mutex_t lock;
    pthread_cond_t more;
    bool running;
    unsigned first, count;
    struct job jobs[JOBS];
    struct {
        uint64_t of, end, told, window; /* a file, where the last read of it ended, up to where it is stored or will be */
    } followed[FOLLOWED];
    unsigned next;
};
/* After a read was answered. */
void ahead_of(struct server *server, const struct squashfs_inode *inode, uint64_t offset, size_t length);

/* ---- Names of the image, each a directory, by its reference, and a word. Without locks. */

struct name {
    uint64_t directory, node; /* node: what they stand for, to who has added them */
    uint32_t hash, text, flags;
};
struct names {
    struct name *list;
    uint32_t count, room, *table;
    char *text;
    size_t text_used, text_room;
    bool full;     /* one had no room */
    uint64_t seed; /* a number that no image knows, so that none has names which all come to the same place */
};
void names_begin(struct names *names); /* of all zero; before the process is confined */
struct name *names_find(struct names *names, uint64_t directory, const char *text, size_t length);
/* That one, or a new one of all zero; NULL: there is no room. What is found stays there until the next is added. */
struct name *names_add(struct names *names, uint64_t directory, const char *text, size_t length);

/* A name was found, and what it names was read: a file's bytes, a link's target, a directory's names. For the trace, if there is one. */
void trace_found(struct server *server, uint64_t directory, const char *text, const struct squashfs_inode *inode);
void trace_read(struct hands *hands, uint64_t node);
/* The kernel was told what a name stands for, and does not look it up: it was found if it is read. */
void trace_told(struct server *server, uint64_t directory, const char *text, const struct squashfs_inode *inode);
/* Nobody uses the image any more. */
void trace_write(struct server *server);

/* A name was looked for that is not there. */
#define REMOVED_LIST "/.singularity.d/removed"
void removed_missed(struct hands *hands, uint64_t directory, const char *text);

/* Where parts of directories ended that the kernel is about to go on with, whichever thread it asks. */
enum { LISTINGS = 16 };
struct listings {
    pthread_mutex_t lock;
    unsigned next;
    struct {
        uint64_t of; /* a directory's reference, + 1; 0: none */
        struct squashfs_cursor cursor;
    } each[LISTINGS];
};

struct server {
    struct squashfs_file file;
    struct sealed_file *sealed; /* of an image whose blocks are checked, or NULL */
    struct squashfs *image;
    int device;
    int queues[THREADS]; /* clones of the device, one a thread */
    unsigned queue_count;
    cpu_set_t processors; /* that its threads may run on */
    int proc; /* where they look for who asks */
    bool no_open, no_opendir; /* the kernel can do without being told of open files */
    atomic_uint threads, idle;
    size_t block_size;
    const void *zeros; /* a block of them */
    struct cache cache;
    struct ahead ahead;
    struct listings listings;
    struct trace *trace;     /* NULL: no names are kept */
    struct removed *removed; /* NULL: nobody is told of any */
    pthread_mutex_t ending;  /* of the thread that ends the process */
    int tell;                /* closed when all is written down; -1: nobody waits */
    struct hands first; /* of the thread that begins */
    atomic_ulong requests[OPCODES], count;
    atomic_ulong stores;
};

/* Of a new thread; false: `why`, and it goes without. */
bool hands_begin(struct hands *hands, struct server *server, const char **why);
/* A thread of the server; false: there can be no more. */
bool thread_begin(void *(*body)(void *), void *argument);

/* Answers requests of one queue until the mount is gone. */
void answer_requests(struct hands *hands, int queue);
const char *opcode_name(unsigned opcode);
/* Called by who took a request while nobody waited for the next: begins a thread that does. */
void threads_more(struct server *server);

/* Nodes are references of inodes, moved so that the root is FUSE_ROOT_ID: nothing need be remembered, and nothing forgotten. */
uint64_t node_of(const struct server *server, uint64_t reference);
uint64_t reference_of(const struct server *server, uint64_t node);

/* From here on: no call but those that serving needs. Stops the process on failure. */
void confine(struct server *server);

#endif
