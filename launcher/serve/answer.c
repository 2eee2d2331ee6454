/* The answers of the image server: one function a kind of request, tables of the kernel's protocol (linux/fuse.h). Reads the image,
 * writes to the device. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../message.h"
#include "parts.h"

enum { NAME_MOST = 255, PATH_MOST = 4096, ENTRY_ALIGNED = 8, SECTOR = 512 };
#define FOR_EVER (UINT64_C(1) << 31) /* seconds */

struct request {
    struct hands *hands;
    int queue;
    const struct fuse_in_header *header;
    const char *body;
    size_t length; /* of the body */
    char *out;     /* OUT_SIZE bytes */
};

uint64_t node_of(const struct server *server, uint64_t reference)
{
    return reference == squashfs_super(server->image)->root ? FUSE_ROOT_ID : reference + FUSE_ROOT_ID + 1;
}

uint64_t reference_of(const struct server *server, uint64_t node)
{
    return node == FUSE_ROOT_ID ? squashfs_super(server->image)->root : node - FUSE_ROOT_ID - 1;
}

/* An answer that the kernel takes no more (ENOENT: who asked is gone) is nobody's loss. One that it does not take for another reason is
 * tried as an error; who waits cannot be killed, so that a server that cannot answer at all ends, and with it the mount. */
static void reply(const struct request *request, int error, const struct iovec *parts, int count, size_t length)
{
    struct iovec all[PIECES + 1];
    struct fuse_out_header header = {.error = error, .unique = request->header->unique,
                                     .len = (uint32_t)(sizeof header + length)};

    all[0] = (struct iovec){&header, sizeof header};
    for (int i = 0; i < count; i++)
        all[i + 1] = parts[i];
    for (bool again = true; writev(request->queue, all, count + 1) < 0 && errno != ENOENT && errno != ENODEV;) {
        if (errno == EINTR)
            continue;
        if (!again)
            _exit(EXIT_OWN_FAILURE);
        again = false;
        header = (struct fuse_out_header){.error = -EIO, .unique = header.unique, .len = sizeof header};
        count = 0;
    }
}

static void reply_bytes(const struct request *request, const void *bytes, size_t length)
{
    const struct iovec part = {(void *)bytes, length};

    reply(request, 0, &part, 1, length);
}

static int inode_asked(const struct request *request, struct squashfs_inode *inode)
{
    return squashfs_inode_read(request->hands->reader, reference_of(request->hands->server, request->header->nodeid), inode);
}

/* st_blocks as the kernel's squashfs counts them: of files what is no hole, and of all their attributes. */
static void attributes(struct hands *hands, const struct squashfs_inode *inode, struct fuse_attr *attr)
{
    struct squashfs_xattrs list;

    *attr = (struct fuse_attr){.ino = inode->number, .size = inode->size, .atime = inode->mtime, .mtime = inode->mtime,
                               .ctime = inode->mtime, .mode = inode->mode, .nlink = inode->links, .uid = inode->uid,
                               .gid = inode->gid, .rdev = inode->device};
    if (S_ISREG(inode->mode))
        attr->blocks = (inode->size - inode->sparse + SECTOR - 1) / SECTOR;
    if (squashfs_xattr_begin(hands->reader, inode, &list) == 0)
        attr->blocks += ((uint64_t)list.size + SECTOR - 1) / SECTOR;
}

static void entry_fill(struct hands *hands, const struct squashfs_inode *inode, struct fuse_entry_out *out)
{
    *out = (struct fuse_entry_out){.nodeid = node_of(hands->server, inode->reference), .entry_valid = FOR_EVER,
                                   .attr_valid = FOR_EVER};
    attributes(hands, inode, &out->attr);
}

/* What is not there never will be. */
static int answer_lookup(const struct request *request)
{
    struct squashfs_inode directory, inode;
    struct squashfs_entry entry;
    struct fuse_entry_out out = {.entry_valid = FOR_EVER};

    if (strnlen(request->body, request->length) > NAME_MOST)
        return -ENAMETOOLONG;
    int failed = inode_asked(request, &directory);
    if (failed == 0)
        failed = squashfs_lookup(request->hands->reader, &directory, request->body, &entry);
    if (failed == 0)
        failed = squashfs_inode_read(request->hands->reader, entry.reference, &inode);
    if (failed == 0) {
        entry_fill(request->hands, &inode, &out);
        trace_found(request->hands->server, directory.reference, request->body, &inode);
    }
    if (failed == -ENOENT)
        removed_missed(request->hands, directory.reference, request->body); /* before whoever asks goes on without it */
    if (failed == 0 || failed == -ENOENT)
        reply_bytes(request, &out, sizeof out);
    return failed == -ENOENT ? 0 : failed;
}

static int answer_getattr(const struct request *request)
{
    struct squashfs_inode inode;
    struct fuse_attr_out out = {.attr_valid = FOR_EVER};
    int failed = inode_asked(request, &inode);

    if (failed != 0)
        return failed;
    attributes(request->hands, &inode, &out.attr);
    reply_bytes(request, &out, sizeof out);
    return 0;
}

static int answer_readlink(const struct request *request)
{
    struct squashfs_inode inode;
    int length = inode_asked(request, &inode);

    if (length == 0)
        length = squashfs_link_read(request->hands->reader, &inode, request->out, PATH_MOST);
    if (length < 0)
        return length;
    trace_read(request->hands, inode.reference);
    reply_bytes(request, request->out, (size_t)length);
    return 0;
}

/* Kernels that need not open files are told so, once; nothing is remembered of open files, so others get an empty handle. What was
 * read of a file or directory stays valid. */
static int answer_open(const struct request *request)
{
    const struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE};

    if (request->hands->server->no_open)
        return -ENOSYS;
    reply_bytes(request, &out, sizeof out);
    return 0;
}

static int answer_opendir(const struct request *request)
{
    const struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR};

    if (request->hands->server->no_opendir)
        return -ENOSYS;
    reply_bytes(request, &out, sizeof out);
    return 0;
}

static int answer_read(const struct request *request)
{
    const struct fuse_read_in *in = (const void *)request->body;
    struct hands *hands = request->hands;
    struct squashfs_inode inode;

    if (request->length < sizeof *in)
        return -EINVAL;
    int failed = inode_asked(request, &inode);
    if (failed == 0 && !S_ISREG(inode.mode))
        failed = -EINVAL;
    if (failed == 0)
        failed = pieces_take(hands, &inode, in->offset, in->size);
    if (failed != 0)
        return failed;
    size_t length = hands->pieces.length;
    trace_read(hands, inode.reference);
    reply(request, 0, hands->pieces.parts, hands->pieces.count, length);
    pieces_give_back(hands, false);
    ahead_of(hands->server, &inode, in->offset, length);
    return 0;
}

/* ---- Directories. A position is the number of entries before it, with "." and "..". */

struct listing {
    char *out;
    size_t room, used;
    bool plus;                                             /* the kernel takes more than names: it looks those up no more */
    enum { TELL_ALL, TELL_SOURCES, TELL_NAMES } tell;
};

/* False: no room. */
static bool list(struct listing *listing, const struct fuse_entry_out *entry, const struct fuse_dirent *about, const char *name)
{
    size_t before = listing->plus ? sizeof *entry : 0;
    size_t size = (before + FUSE_NAME_OFFSET + about->namelen + ENTRY_ALIGNED - 1) / ENTRY_ALIGNED * ENTRY_ALIGNED;
    char *at = listing->out + listing->used;

    if (size > listing->room - listing->used)
        return false;
    memset(at + size - ENTRY_ALIGNED, 0, ENTRY_ALIGNED);
    memcpy(at, entry, before);
    memcpy(at + before, about, FUSE_NAME_OFFSET);
    memcpy(at + before + FUSE_NAME_OFFSET, name, about->namelen);
    listing->used += size;
    return true;
}

static bool list_dots(struct listing *listing, const struct squashfs_inode *directory, uint64_t from)
{
    static const struct fuse_entry_out unknown; /* node 0: the kernel has these anyway */
    const struct fuse_dirent self = {.ino = directory->number, .off = 1, .namelen = 1, .type = S_IFDIR >> 12};
    const struct fuse_dirent above = {.ino = directory->parent, .off = 2, .namelen = 2, .type = S_IFDIR >> 12};

    return (from >= 1 || list(listing, &unknown, &self, ".")) && (from >= 2 || list(listing, &unknown, &above, ".."));
}

/* With a large directory the next request goes on where another ended; without that it costs reading all entries before. */
static int cursor_at(struct hands *hands, const struct squashfs_inode *directory, uint64_t from, struct squashfs_cursor *cursor)
{
    struct listings *listings = &hands->server->listings;
    bool found = false;

    pthread_mutex_lock(&listings->lock);
    for (unsigned i = 0; from != 0 && i < LISTINGS && !found; i++)
        if (listings->each[i].of == directory->reference + 1 && listings->each[i].cursor.passed == from) {
            *cursor = listings->each[i].cursor;
            found = true;
        }
    pthread_mutex_unlock(&listings->lock);
    return found ? 0 : squashfs_directory_begin(hands->reader, directory, from, cursor);
}

static void cursor_keep(struct hands *hands, const struct squashfs_inode *directory, const struct squashfs_cursor *cursor)
{
    struct listings *listings = &hands->server->listings;

    pthread_mutex_lock(&listings->lock);
    unsigned place = listings->next++ % LISTINGS;
    listings->each[place].of = directory->reference + 1;
    listings->each[place].cursor = *cursor;
    pthread_mutex_unlock(&listings->lock);
}

static int list_entries(struct hands *hands, struct listing *listing, const struct squashfs_inode *directory, uint64_t from)
{
    struct squashfs_cursor cursor;
    struct squashfs_entry entry;
    struct squashfs_inode inode;
    int more = cursor_at(hands, directory, from, &cursor);

    while (more == 0) {
        struct fuse_entry_out out;
        const struct squashfs_cursor before = cursor;
        more = squashfs_directory_next(hands->reader, &cursor, &entry);
        if (more <= 0)
            return more;
        struct fuse_dirent about = {.ino = entry.number, .off = entry.next + 2, .namelen = entry.length, .type = entry.kind >> 12};
        if (entry.length > NAME_MOST) { /* the kernel would give up on all of it */
            more = 0;
            continue;
        }
        bool source = listing->tell == TELL_SOURCES && entry.length > 3 && strcmp(entry.name + entry.length - 3, ".py") == 0;
        bool told = listing->plus && (listing->tell == TELL_ALL || source);
        out = (struct fuse_entry_out){0}; /* node 0: a name alone */
        more = told ? squashfs_inode_read(hands->reader, entry.reference, &inode) : 0;
        if (more == 0 && told)
            entry_fill(hands, &inode, &out);
        if (more == 0 && source)
            trace_told(hands->server, directory->reference, entry.name, &inode);
        if (more == 0 && !list(listing, &out, &about, entry.name)) {
            cursor_keep(hands, directory, &before);
            return 0;
        }
    }
    return more;
}

/* Of a name that is traced the kernel must not know more, or nobody sees that it is used. Only with sources of Python that are compiled
 * there is another sign, the compiled file: the import of a module asks of its source whether it is there and how old it is, so that to
 * hear that would cost a question a module. */
static int told_of(struct hands *hands, const struct squashfs_inode *directory)
{
    struct squashfs_entry compiled;

    if (hands->server->trace == NULL)
        return TELL_ALL;
    return squashfs_lookup(hands->reader, directory, "__pycache__", &compiled) == 0 ? TELL_SOURCES : TELL_NAMES;
}

/* An error behind the first entries is told when they have been taken. */
static int answer_readdir(const struct request *request)
{
    const struct fuse_read_in *in = (const void *)request->body;
    struct listing listing = {.out = request->out, .plus = request->header->opcode == FUSE_READDIRPLUS};
    struct squashfs_inode directory;

    if (request->length < sizeof *in)
        return -EINVAL;
    listing.room = in->size < OUT_SIZE ? in->size : OUT_SIZE;
    int failed = inode_asked(request, &directory);
    if (failed == 0 && !S_ISDIR(directory.mode))
        failed = -ENOTDIR;
    if (failed == 0) {
        trace_read(request->hands, directory.reference);
        listing.tell = told_of(request->hands, &directory);
    }
    if (failed == 0 && list_dots(&listing, &directory, in->offset))
        failed = list_entries(request->hands, &listing, &directory, in->offset > 2 ? in->offset - 2 : 0);
    if (failed != 0 && listing.used == 0)
        return failed;
    reply_bytes(request, request->out, listing.used);
    return 0;
}

/* ---- Extended attributes */

/* A size of 0 asks for the size. */
static int reply_sized(const struct request *request, uint32_t room, size_t length)
{
    const struct fuse_getxattr_out size = {.size = (uint32_t)length};

    if (room == 0)
        reply_bytes(request, &size, sizeof size);
    else if (length > room)
        return -ERANGE;
    else
        reply_bytes(request, request->out, length);
    return 0;
}

/* Of an image without any the kernel asks no second time. */
static int xattrs_asked(const struct request *request, struct squashfs_xattrs *list)
{
    struct squashfs_inode inode;

    if (!squashfs_has_xattrs(request->hands->server->image))
        return -ENOSYS;
    if (request->length < sizeof(struct fuse_getxattr_in))
        return -EINVAL;
    int failed = inode_asked(request, &inode);
    return failed != 0 ? failed : squashfs_xattr_begin(request->hands->reader, &inode, list);
}

static int answer_getxattr(const struct request *request)
{
    const struct fuse_getxattr_in *in = (const void *)request->body;
    struct squashfs_xattrs list;
    struct squashfs_xattr xattr;
    int more = xattrs_asked(request, &list);

    if (more != 0)
        return more;
    while ((more = squashfs_xattr_next(request->hands->reader, &list, &xattr)) > 0)
        if (strcmp(xattr.name, request->body + sizeof *in) == 0)
            break;
    if (more <= 0)
        return more < 0 ? more : -ENODATA;
    int failed = in->size >= xattr.size ? squashfs_xattr_value(request->hands->reader, &xattr, request->out) : 0;
    return failed != 0 ? failed : reply_sized(request, in->size, xattr.size);
}

/* "trusted." is for root of the machine, whose mount this never is: the kernel would give none of their values. */
static int answer_listxattr(const struct request *request)
{
    const struct fuse_getxattr_in *in = (const void *)request->body;
    struct squashfs_xattrs list;
    struct squashfs_xattr xattr;
    size_t used = 0;
    int more = xattrs_asked(request, &list);

    if (more != 0)
        return more;
    while ((more = squashfs_xattr_next(request->hands->reader, &list, &xattr)) > 0) {
        size_t length = strlen(xattr.name) + 1;
        if (strncmp(xattr.name, "trusted.", 8) == 0)
            continue;
        if (length > OUT_SIZE - used)
            return -E2BIG;
        memcpy(request->out + used, xattr.name, length);
        used += length;
    }
    return more < 0 ? more : reply_sized(request, in->size, used);
}

static int answer_statfs(const struct request *request)
{
    const struct squashfs_super *super = squashfs_super(request->hands->server->image);
    const struct fuse_statfs_out out = {.st = {.bsize = super->block_size, .frsize = super->block_size, .files = super->inodes,
                                               .blocks = ((super->used - 1) >> super->block_log) + 1, .namelen = SQUASHFS_NAME}};

    reply_bytes(request, &out, sizeof out);
    return 0;
}

/* ---- */

static int answer_init(const struct request *request)
{
    const struct fuse_init_in *in = (const void *)request->body;
    struct server *server = request->hands->server;
    const uint32_t wanted = FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_DO_READDIRPLUS | FUSE_NO_OPEN_SUPPORT |
                            FUSE_NO_OPENDIR_SUPPORT | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_EXPLICIT_INVAL_DATA;
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_background = 64,
                                .congestion_threshold = 48, .max_write = 4096, .time_gran = 1,
                                .max_pages = REQUEST_MOST / 4096};

    if (request->length < offsetof(struct fuse_init_in, flags) + sizeof in->flags)
        return -EINVAL;
    if (in->major != FUSE_KERNEL_VERSION || in->minor < 23) /* older ones take another answer; Linux 4.18 says 27 */
        return -EPROTO;
    out.max_readahead = in->max_readahead;
    out.flags = in->flags & wanted;
    server->no_open = (in->flags & FUSE_NO_OPEN_SUPPORT) != 0;
    server->no_opendir = (in->flags & FUSE_NO_OPENDIR_SUPPORT) != 0;
    reply_bytes(request, &out, sizeof out);
    return 0;
}

static int answer_nothing(const struct request *request)
{
    (void)request;
    return 0;
}

static int answer_done(const struct request *request)
{
    reply(request, 0, NULL, 0, 0);
    return 0;
}

static const struct {
    const char *name;
    int (*answer)(const struct request *request); /* 0: answered, or a negative errno to answer with */
} answers[OPCODES] = {
    [FUSE_LOOKUP] = {"lookup", answer_lookup},
    [FUSE_FORGET] = {"forget", answer_nothing}, /* no answer is expected */
    [FUSE_BATCH_FORGET] = {"forget", answer_nothing},
    [FUSE_INTERRUPT] = {"interrupt", answer_nothing}, /* answers come soon enough */
    [FUSE_GETATTR] = {"getattr", answer_getattr},
    [FUSE_READLINK] = {"readlink", answer_readlink},
    [FUSE_OPEN] = {"open", answer_open},
    [FUSE_OPENDIR] = {"opendir", answer_opendir},
    [FUSE_READ] = {"read", answer_read},
    [FUSE_READDIR] = {"readdir", answer_readdir},
    [FUSE_READDIRPLUS] = {"readdirplus", answer_readdir},
    [FUSE_GETXATTR] = {"getxattr", answer_getxattr},
    [FUSE_LISTXATTR] = {"listxattr", answer_listxattr},
    [FUSE_STATFS] = {"statfs", answer_statfs},
    [FUSE_INIT] = {"init", answer_init},
    [FUSE_RELEASE] = {"release", answer_done},
    [FUSE_RELEASEDIR] = {"releasedir", answer_done},
    [FUSE_DESTROY] = {"destroy", answer_done},
};

const char *opcode_name(unsigned opcode)
{
    return opcode < OPCODES && answers[opcode].name != NULL ? answers[opcode].name : "other";
}

/* What the kernel asks of a file system that can be written it does not ask of this one, which is mounted read-only. */
static void answer(const struct request *request)
{
    uint32_t opcode = request->header->opcode;
    int error = -ENOSYS;

    squashfs_reader_request(request->hands->reader);
    atomic_fetch_add_explicit(&request->hands->server->requests[opcode < OPCODES ? opcode : 0], 1, memory_order_relaxed);
    if (opcode < OPCODES && answers[opcode].answer != NULL)
        error = answers[opcode].answer(request);
    if (error != 0)
        reply(request, error, NULL, 0, 0);
}

void answer_requests(struct hands *hands, int queue)
{
    static const struct fuse_in_header none;
    struct server *server = hands->server;
    char *in = hands->in;

    for (;;) {
        atomic_fetch_add(&server->idle, 1);
        ssize_t got = read(queue, in, IN_SIZE);
        bool last = atomic_fetch_sub(&server->idle, 1) == 1;
        if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) /* ENOENT: the request was interrupted */
            continue;
        if (got < (ssize_t)sizeof none)
            return; /* ENODEV: unmounted */
        in[got] = '\0'; /* a name ends, whatever comes */
        const struct request request = {hands, queue, (const void *)in, in + sizeof none, (size_t)got - sizeof none, hands->out};
        if (atomic_fetch_add_explicit(&server->count, 1, memory_order_relaxed) >= FEW && last)
            threads_more(server);
        near_follow(server, &hands->near, request.header->pid);
        answer(&request);
    }
}
