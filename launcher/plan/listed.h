/* Which files of the host may go in where users may bind nothing: what the site's lists name, whatever a request says. */
#ifndef SINGULARITY_LISTED_H
#define SINGULARITY_LISTED_H

#include "../config.h"
#include "../request.h"

enum listed {
    LISTED_NOT,
    LISTED_PATH, /* by its whole path */
    LISTED_NAME, /* by its name, or as a part of an MPI: only where nobody but root makes names */
};

enum listed listed(const struct request_entry *library, const struct config *config);

#endif
