/* What a process inherits besides arguments: made harmless at the start, given to the program at the end. */
#ifndef SINGULARITY_INHERITED_H
#define SINGULARITY_INHERITED_H

#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/types.h>

#include "request.h"

enum { INHERITED_SIGNALS = 8 };

struct inherited {
    char **environment;
    mode_t mask;
    struct sigaction signals[INHERITED_SIGNALS];
    struct itimerval timers[3];
    struct rlimit core;
};

/* Descriptors 0 to 2 open, an empty environment, a private umask, known signals, no timers, no core file. */
void inherited_take(struct inherited *inherited);

/* The C library takes variables like TMPDIR from a setuid program: the front door sends them under this prefix too. */
#define INHERITED_CARRIED "SINGULARITY_CARRIED_"

/* Closes what is open but 0 to 2, the descriptors that the request keeps, and `also` (-1: none). None of those that stay
 * may lead to a directory of the host: stops the process when one does. */
void inherited_close(const struct request *request, const int *also, size_t count);

/* The caller's variables, as they were. */
char *const *inherited_environment(const struct inherited *inherited);

/* Everything else as the caller had it. */
void inherited_restore(const struct inherited *inherited, const struct request *request);

#endif
