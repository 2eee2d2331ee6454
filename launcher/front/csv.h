/* One line of comma separated values, a field in double quotes where it holds a comma, "" for a quote in it. */
#ifndef SINGULARITY_FRONT_CSV_H
#define SINGULARITY_FRONT_CSV_H

#include <stdbool.h>
#include <stddef.h>

#include "../text_store.h"

enum csv_outcome { CSV_FIELD, CSV_END, CSV_UNCLOSED, CSV_FULL };

/* Begin with `next` at the text; each call copies one field to the store. Quotes count only at the start of a field. */
struct csv {
    const char *next; /* NULL: after the last field */
    struct text_store *store;
    bool trim;        /* blanks around fields do not count */
};

enum csv_outcome csv_read(struct csv *csv, char **field);

#endif
