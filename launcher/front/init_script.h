/* The init scripts of version 2: SYSCONFDIR/init of the site and ~/.singularity-init of the user set variables on the host
 * before a launch. */
#ifndef SINGULARITY_FRONT_INIT_SCRIPT_H
#define SINGULARITY_FRONT_INIT_SCRIPT_H

#include <stdbool.h>

#include "../message.h"
#include "../environment/arena.h"

/* `environment` as it is after the script at `path`, or itself where there is no such script. An LD_LIBRARY_PATH that the
 * script sets reaches the container too, where it is injected by nobody else. A script of the user's home must belong to
 * the caller or root, or is left out with a warning. NULL with the error set. */
char **init_script_apply(const char *path, bool of_home, char **environment, struct arena *arena, struct error *error);

#endif
