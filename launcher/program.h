/* Finding a program in the container and becoming it, or one line that says why not. */
#ifndef SINGULARITY_PROGRAM_H
#define SINGULARITY_PROGRAM_H

#include <stdbool.h>

#include "environment/arena.h"

/* A regular file that this process may execute. */
bool program_usable(const char *path);

/* The file that a command means: `name` itself if it has a slash, else the first usable one of the directories of
 * `search`, a list with colons. Stops the process: 127 when there is none, 126 when none of those there is usable. */
const char *program_find(const char *name, const char *search, struct arena *arena);

/* Before something of the image is said to be missing: stops the process where the image's server has ended. */
void program_check_image(void);

/* Becomes the program, or /bin/sh with it when it has no interpreter line. `words` and `environment` end with NULL. */
_Noreturn void program_become(const char *path, char *const *words, char *const *environment, struct arena *arena);

#endif
