/* Options that people bring from Docker, and what stands in their place here: words for messages, nothing else. */
#ifndef SINGULARITY_FRONT_DOCKER_H
#define SINGULARITY_FRONT_DOCKER_H

#include <stdbool.h>
#include <stddef.h>

/* Of an option by its long name without dashes, which is none of ours; NULL: it is none of Docker's either. */
const char *docker_long(const char *name, size_t length);

/* Of a letter that is no option of a launch; `value` is what stands behind it, "" for nothing. NULL as above. */
const char *docker_letter(char letter, const char *value);

/* Of a flag of ours that has a value there, and the image behind it, which may be meant for that value. NULL as above. */
const char *docker_value(const char *flag, const char *image);

#endif
