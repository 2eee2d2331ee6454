/* PATH and LD_LIBRARY_PATH of the container. */
#ifndef SINGULARITY_ENVIRONMENT_PATH_H
#define SINGULARITY_ENVIRONMENT_PATH_H

#include <stddef.h>

#include "environment/variables.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define LIBRARY_DIRECTORY "/.singularity.d/libs"

/* The functions stop the process when it has no memory. */

/* Exports PATH; one that has no value gets the default. */
void path_begin(struct variables *variables);

/* Appends the directories of the default that PATH lacks. */
void path_complete(struct variables *variables);

/* Applies SING_USER_DEFINED_PREPEND_PATH, ..._APPEND_PATH and ..._PATH. */
void path_change(struct variables *variables);

/* Takes those three away. */
void path_changes_drop(struct variables *variables);

/* Adds LIBRARY_DIRECTORY to LD_LIBRARY_PATH if it is not in it: at its end, or before all that the image has. */
void library_path_complete(struct variables *variables, bool first);

/* Whether a list with colons has the directory. */
bool path_has(const char *list, const char *directory, size_t length);

#endif
