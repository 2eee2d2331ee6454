/* --trace: which names of the image were found, and which of these were read, kept while the image is shown and added to a file, a line of
 * JSON, when it is not any more. Writes to that file alone, which the launch has opened. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../message.h"
#include "../trace.h"
#include "parts.h"

/* DEEPEST: directories in each other; the kernel takes no longer paths than PATH_MAX, which has room for so many. */
enum { READ = 1, DIRECTORY = 2, FOUND = 4, BUFFER = 64 << 10, DEEPEST = PATH_MAX / 2 };

struct trace {
    pthread_mutex_t lock;
    struct names names; /* of names and, without a text, of inodes: those that were read, and where each directory's own name is */
    int fd;
    const char *file, *image;
    /* what is being written */
    char out[BUFFER];
    size_t used;
    bool failed;
    uint64_t directory; /* whose own names these are, from it upwards, + 1; most names follow one of the same */
    const struct name *above[DEEPEST];
    uint32_t depth;
};

bool trace_begin(struct server *server, int fd, const char *file, const char *image)
{
    struct trace *trace = calloc(1, sizeof *trace);

    if (trace == NULL || pthread_mutex_init(&trace->lock, NULL) != 0)
        return false;
    names_begin(&trace->names);
    trace->fd = fd;
    trace->file = file;
    trace->image = image;
    server->trace = trace;
    return true;
}

/* A name's first time, or one of few: what it was told the kernel keeps. */
static void add(struct trace *trace, uint64_t directory, const char *text, const struct squashfs_inode *inode, uint32_t flags)
{
    pthread_mutex_lock(&trace->lock);
    struct name *name = names_add(&trace->names, directory, text, strlen(text));
    uint64_t number = name != NULL ? (uint64_t)(name - trace->names.list) + 1 : 0;
    if (name != NULL) {
        name->node = inode->reference + 1;
        name->flags |= flags;
    }
    name = name != NULL && S_ISDIR(inode->mode) ? names_add(&trace->names, inode->reference, "", 0) : NULL;
    if (name != NULL) {
        name->node = number;
        name->flags |= DIRECTORY;
    }
    pthread_mutex_unlock(&trace->lock);
}

void trace_found(struct server *server, uint64_t directory, const char *text, const struct squashfs_inode *inode)
{
    if (server->trace != NULL)
        add(server->trace, directory, text, inode, FOUND);
}

void trace_told(struct server *server, uint64_t directory, const char *text, const struct squashfs_inode *inode)
{
    add(server->trace, directory, text, inode, 0);
}

void trace_read(struct hands *hands, uint64_t node)
{
    struct trace *trace = hands->server->trace;

    if (trace == NULL || hands->traced == node + 1)
        return;
    hands->traced = node + 1; /* of a large file there are many in a row */
    pthread_mutex_lock(&trace->lock);
    struct name *name = names_add(&trace->names, node, "", 0);
    if (name != NULL)
        name->flags |= READ;
    pthread_mutex_unlock(&trace->lock);
}

/* ---- the line */

static void flush(struct trace *trace)
{
    for (size_t done = 0; done < trace->used && !trace->failed;) {
        ssize_t wrote = write(trace->fd, trace->out + done, trace->used - done);
        trace->failed = wrote < 0 && errno != EINTR;
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    trace->used = 0;
}

static void put(struct trace *trace, const char *text, size_t length)
{
    if (length > BUFFER - trace->used)
        flush(trace);
    memcpy(trace->out + trace->used, text, length);
    trace->used += length;
}

static void put_text(struct trace *trace, const char *text)
{
    put(trace, text, strlen(text));
}

/* How many bytes of a character of UTF-8 stand here; 0: none does (RFC 3629). */
static size_t utf8_length(const uint8_t *at)
{
    static const struct {
        uint8_t first, last, low, high;
        size_t length;
    } kinds[] = {{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
                 {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (*at < kinds[i].first || *at > kinds[i].last || at[1] < kinds[i].low || at[1] > kinds[i].high)
            continue;
        for (size_t more = 2; more < kinds[i].length; more++)
            if ((at[more] & 0xc0) != 0x80)
                return 0;
        return kinds[i].length;
    }
    return 0;
}

/* A byte of no character is what Python makes of it, a lone surrogate, which makes the same byte again (PEP 383). */
static void put_json(struct trace *trace, const char *text)
{
    char escape[8];

    while (*text != '\0') {
        const char *plain = text;
        size_t length = 1;
        while (length > 0) {
            uint8_t byte = (uint8_t)*text;
            length = byte >= 0x80 ? utf8_length((const uint8_t *)text) : byte >= 0x20 && byte != 0x7f && byte != '"' && byte != '\\';
            text += length;
        }
        put(trace, plain, (size_t)(text - plain));
        if (*text == '\0')
            break;
        snprintf(escape, sizeof escape, "\\u%04x", (uint8_t)*text >= 0x80 ? 0xdc00 + (uint8_t)*text : (uint8_t)*text);
        put_text(trace, escape);
        text++;
    }
}

/* To the root directory. False: not in a directory whose name was found, or too deep. */
static bool climb(struct server *server, uint64_t directory)
{
    struct trace *trace = server->trace;

    if (trace->directory == directory + 1)
        return true;
    trace->directory = 0;
    trace->depth = 0;
    for (uint64_t at = directory; at != squashfs_super(server->image)->root;) {
        const struct name *inode = names_find(&trace->names, at, "", 0);
        if (inode == NULL || !(inode->flags & DIRECTORY) || trace->depth == DEEPEST)
            return false;
        const struct name *name = trace->above[trace->depth++] = &trace->names.list[inode->node - 1];
        at = name->directory;
    }
    trace->directory = directory + 1;
    return true;
}

/* From the root down, by way of the directories that were climbed. */
static void put_path(struct trace *trace, const struct name *name)
{
    put_text(trace, "\"");
    for (uint32_t i = trace->depth; i-- > 0;) {
        put_text(trace, "/");
        put_json(trace, trace->names.text + trace->above[i]->text);
    }
    put_text(trace, "/");
    put_json(trace, trace->names.text + name->text);
    put_text(trace, "\"");
}

/* In the order in which they were found. */
static void put_list(struct server *server, const char *before, bool read)
{
    struct trace *trace = server->trace;
    bool first = true;

    put_text(trace, before);
    for (uint32_t i = 0; i < trace->names.count && !trace->failed; i++) {
        const struct name *name = &trace->names.list[i];
        const struct name *inode = names_find(&trace->names, name->node - 1, "", 0);
        bool was_read = inode != NULL && (inode->flags & READ);
        if (trace->names.text[name->text] == '\0' || was_read != read || !(was_read || (name->flags & FOUND)) || !climb(server, name->directory))
            continue;
        if (!first)
            put_text(trace, ", ");
        put_path(trace, name);
        first = false;
    }
    put_text(trace, "]");
}

/* Nothing, or all of it: whoever is cut off leaves a line without an end, and the next one begins a line of his own. */
void trace_write(struct server *server)
{
    struct trace *trace = server->trace;
    char last = '\n';

    if (trace == NULL)
        return;
    pthread_mutex_lock(&trace->lock); /* for good */
    if (!trace_lock(trace->fd, TRACE_WRITES)) {
        message_error("--trace %s: nothing is added: somebody keeps it locked", trace->file);
        return;
    }
    off_t before = lseek(trace->fd, 0, SEEK_END);
    if (before < 0 || (before > 0 && pread(trace->fd, &last, 1, before - 1) != 1)) {
        message_error("--trace %s: %s", trace->file, errno_words(errno));
        return;
    }
    if (last != '\n')
        put_text(trace, "\n");
    put_text(trace, TRACE_BEGIN ", \"image\": \"");
    put_json(trace, trace->image);
    put_list(server, "\", \"read\": [", true);
    put_list(server, ", \"found\": [", false);
    put_text(trace, trace->names.full ? ", \"complete\": false}\n" : ", \"complete\": true}\n");
    flush(trace);
    if (!trace->failed)
        return;
    message_error("--trace %s: nothing is added: %s", trace->file, errno_words(errno));
    (void)!ftruncate(trace->fd, before);
}
