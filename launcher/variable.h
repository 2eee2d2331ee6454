/* One variable of an environment that is not this process's own, which getenv(3) does not read. */
#ifndef SINGULARITY_VARIABLE_H
#define SINGULARITY_VARIABLE_H

#include <string.h>

/* The value, or NULL; of two with one name the first counts, as for getenv(3). The name ends at a "=", or with the text. */
static inline const char *variable(char *const *environment, const char *name)
{
    size_t length = strcspn(name, "=");

    for (; environment != NULL && *environment != NULL; environment++)
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}

#endif
