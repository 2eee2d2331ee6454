/* The last stage of a launch: inside the container, every privilege gone. */
#ifndef SINGULARITY_PAYLOAD_H
#define SINGULARITY_PAYLOAD_H

#include <stdbool.h>

#include "request.h"

/* Evaluates the environment of the image and of the caller, finds the program of the action and becomes it.
 * The root directory is the container's, the current directory the program's, `caller_environment` is what the
 * user's process had, `arguments` are the words after the image (NULL-terminated).
 * `home` is the home directory inside ("" none), `image` the image's path; the request has the binds that hold.
 * Opens files of the container only, each close-on-exec. Never returns: 127, 126 or 255 with one line on failure. */
struct payload {
    const struct request *request;
    char *const *caller_environment;
    char *const *arguments;
    const char *home;
    const char *image;
    bool home_yields; /* HOME is set only where the image's own variables do not */
    bool path_exact;  /* the PATH of a Docker image stays as it is */
};
_Noreturn void payload_execute(const struct payload *payload);

#endif
