/* Paths inside the container, resolved by descriptor and never out of its root. */
#ifndef SINGULARITY_INSIDE_H
#define SINGULARITY_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The name behind the last slash. */
const char *path_last(const char *path);

/* Opens `path` below `root` as if `root` were the root directory: links, absolute ones too, stay inside.
 * `flags` as for open(), O_CLOEXEC added. -1 and errno on failure. */
int inside_open(int root, const char *path, int flags);

/* Opens an absolute path as the user named it, of the host or, later, in the container: open() but for the magic links of
 * /proc, which lead to what this process has open and into mount namespaces of others (ELOOP). A relative one is not there
 * (ENOENT): the current directory may lie in such a namespace. Kernels without openat2 take such a link for its text. */
int host_open(const char *path, int flags);

/* One entry of an open directory, itself a directory and no link; O_PATH. The caller owns it; -1 and errno on
 * failure. */
int directory_beneath(int directory, const char *name);

/* The directory that holds the last component of `path`, and that component (pointing into `path`). The caller owns
 * the descriptor; -1 and errno on failure. */
int inside_parent(int root, const char *path, const char **name);

/* Makes a directory (and what is missing above it), or an empty file, as the user. 0, or -1 and errno. */
int inside_make(int root, const char *path, bool directory, mode_t mode);

/* The kernel's path of an open descriptor. False when there is none. */
bool descriptor_path(int fd, char *path, size_t size);

/* Where a path that does not exist would be: the deepest existing directory, with no links in it, relative to the root and
 * starting with '/', and what is missing below. False when it cannot be told (loop, no right), or nothing is missing. */
struct missing {
    char parent[4096];
    char rest[4096];
};
bool inside_missing(int root, const char *path, struct missing *missing);

/* In place: "\040" and the like, as mountinfo writes blanks. */
void mountinfo_unescape(char *text);

/* /proc, opened once at the start and known to be the kernel's own. Stops the process when it is not. */
void proc_open(void);
/* O_PATH, never closed by those who ask for it; for openat(2) with names like "self/fd/5". */
int proc_fd(void);

/* It has been closed with everything else. */
void proc_forget(void);

#endif
