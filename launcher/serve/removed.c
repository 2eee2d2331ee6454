/* Names that "build --only" has removed from an image: who looks for one is told in a line, once a name. Reads a list in the image, when
 * something is missed for the first time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../message.h"
#include "parts.h"

/* Python writes the list within these limits (singularity/image/removed.py). */
enum { LIST_MOST = 16 << 20, TOLD_MOST = 20, TOLD = 1 };

struct removed {
    pthread_mutex_t lock;
    bool read;
    char *list;         /* paths, each with a NUL behind it */
    struct names names; /* `node`: where in the list the path begins */
    unsigned told;
};

bool removed_begin(struct server *server)
{
    struct removed *removed = calloc(1, sizeof *removed);

    if (removed == NULL || pthread_mutex_init(&removed->lock, NULL) != 0)
        return false;
    names_begin(&removed->names);
    server->removed = removed;
    return true;
}

/* A path of directories and a last name, without links. */
static int find(struct squashfs_reader *reader, const struct squashfs *image, const char *path, size_t length, struct squashfs_inode *inode)
{
    struct squashfs_entry entry;
    char name[SQUASHFS_NAME + 1];
    int failed = squashfs_inode_read(reader, squashfs_super(image)->root, inode);

    for (size_t at = 0, size; failed == 0 && at < length; at += size) {
        squashfs_reader_request(reader);
        at++; /* the slash */
        const char *slash = memchr(path + at, '/', length - at);
        size = slash != NULL ? (size_t)(slash - path) - at : length - at;
        if (size == 0 || size > SQUASHFS_NAME)
            return -ENOENT;
        memcpy(name, path + at, size);
        name[size] = '\0';
        failed = squashfs_lookup(reader, inode, name, &entry);
        if (failed == 0)
            failed = squashfs_inode_read(reader, entry.reference, inode);
    }
    return failed;
}

/* With a line break behind it. NULL: there is none, or it cannot be read. */
static char *read_list(struct squashfs_reader *reader, const struct squashfs *image, size_t *size)
{
    static const char path[] = REMOVED_LIST;
    struct squashfs_inode inode;

    if (find(reader, image, path, sizeof path - 1, &inode) != 0 || !S_ISREG(inode.mode) || inode.size > LIST_MOST)
        return NULL;
    *size = (size_t)inode.size;
    char *list = mmap(NULL, *size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (list == MAP_FAILED)
        return NULL;
    for (size_t done = 0; done < *size;) {
        squashfs_reader_request(reader);
        ssize_t got = squashfs_file_read(reader, &inode, done, list + done, *size - done);
        if (got <= 0) {
            munmap(list, *size + 1);
            return NULL;
        }
        done += (size_t)got;
    }
    list[*size] = '\n';
    return list;
}

/* Lines that are no paths, or in no directory of the image, are nobody's. */
static void load(struct squashfs_reader *reader, const struct squashfs *image, struct removed *removed)
{
    const char *directory = "";
    size_t length = SIZE_MAX, size;
    struct squashfs_inode inode;
    bool there = false;

    char *list = read_list(reader, image, &size);
    if (list == NULL)
        return;
    for (char *line = list, *end; line < list + size && !removed->names.full; line = end + 1) {
        end = memchr(line, '\n', (size_t)(list + size + 1 - line));
        *end = '\0';
        char *slash = strrchr(line, '/');
        if (slash == NULL || *line != '/')
            continue;
        if ((size_t)(slash - line) != length || memcmp(line, directory, length) != 0) { /* they are sorted: most follow one of the same */
            directory = line;
            length = (size_t)(slash - line);
            there = find(reader, image, directory, length, &inode) == 0;
        }
        struct name *name = there ? names_add(&removed->names, inode.reference, slash + 1, strlen(slash + 1)) : NULL;
        if (name != NULL)
            name->node = (uint64_t)(line - list);
    }
    removed->list = list;
}

void removed_missed(struct hands *hands, uint64_t directory, const char *text)
{
    struct removed *removed = hands->server->removed;

    if (removed == NULL)
        return;
    pthread_mutex_lock(&removed->lock);
    if (!removed->read)
        load(hands->reader, hands->server->image, removed);
    removed->read = true;
    struct name *name = names_find(&removed->names, directory, text, strlen(text));
    if (name != NULL && !(name->flags & TOLD) && removed->told < TOLD_MOST) {
        const char *path = removed->list + name->node;
        name->flags |= TOLD;
        bool quotable = strchr(path, '\'') == NULL; /* a name is the image's, and somebody's shell gets what is advised */
        message_warning("%s: not in this image since build --only removed it (build again with %s%s%sa trace of this)", path,
                        quotable ? "--keep '" : "", quotable ? path : "", quotable ? "', or with " : "");
        if (++removed->told == TOLD_MOST)
            message_warning("what else is missed of that is not told any more (singularity why IMAGE PATH tells of each)");
    }
    pthread_mutex_unlock(&removed->lock);
}
