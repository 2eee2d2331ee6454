/* The nearest valid word to a mistyped one. */
#ifndef SINGULARITY_SUGGEST_H
#define SINGULARITY_SUGGEST_H

#include <stddef.h>

/* Begin with word and length set and the rest zero; ask with each candidate; `found_length` 0: nothing is near. */
struct suggestion {
    const char *word;
    size_t length;
    const char *found;
    size_t found_length;
    size_t distance;
};

/* `candidate` need not end with a NUL; it must live as long as the suggestion. */
void suggest_from(struct suggestion *suggestion, const char *candidate, size_t length);

/* Each name of a comma list. */
void suggest_from_list(struct suggestion *suggestion, const char *list);

#endif
