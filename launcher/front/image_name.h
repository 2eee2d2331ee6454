/* The word that names the image, and the directory that words of the command line start from. */
#ifndef SINGULARITY_FRONT_IMAGE_NAME_H
#define SINGULARITY_FRONT_IMAGE_NAME_H

#include <limits.h>
#include <stdbool.h>

/* Whether Python must make a path of it first: instance://, a URI, or an archive by its name. The only file that is
 * looked at is one whose name ends as an archive's: a directory of such a name is started as it is. */
bool image_name_resolved_elsewhere(const char *name);

/* Whether nothing in this directory makes it an image: neither what a root file system has, nor `program`, which may be
 * NULL. False for all that is no directory. */
bool image_name_mistaken(const char *directory, const char *program);

/* The current directory as the caller names it: PWD (`named`, may be NULL) when it is the same directory, else the
 * kernel's name. NULL: it was deleted, or lies outside of what this process can see. */
const char *current_directory(const char *named, char path[PATH_MAX]);

#endif
