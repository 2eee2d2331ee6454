/* The text that the image's shell runs to evaluate the environment, and what it says back. */
#ifndef SINGULARITY_ENVIRONMENT_LIVE_TEXT_H
#define SINGULARITY_ENVIRONMENT_LIVE_TEXT_H

#include "environment/live.h"
#include "environment/text.h"

/* Whether a value that is live code is complete, so that it cannot break the text it is put into. */
bool live_value_complete(const char *value);

/* Sources the scripts and sets the injected variables by the rules that the evaluation without a shell has. It writes to
 * descriptor 9: "before" and the names of host variables that the shell has of its own, "after" and those that have a
 * value in the end, the umask, "variables", and `export -p`. Stops the process when it has no memory. */
void live_text_write(const struct live *live, const struct variables *variables, struct text *text);

#endif
