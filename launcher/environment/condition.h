/* `test` and `[ ]`. */
#ifndef SINGULARITY_ENVIRONMENT_CONDITION_H
#define SINGULARITY_ENVIRONMENT_CONDITION_H

#include <stddef.h>

enum condition { CONDITION_TRUE, CONDITION_FALSE, CONDITION_UNKNOWN };

enum { CONDITION_WORDS = 4 };

/* What `test` with these words says, by the rules that POSIX gives for their number; UNKNOWN: not one of ours. */
enum condition condition_evaluate(const char *const *words, size_t count);

#endif
