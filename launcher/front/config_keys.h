/* What the front door must know of the site's configuration; the starter reads and judges the whole of it. */
#ifndef SINGULARITY_FRONT_SITE_H
#define SINGULARITY_FRONT_SITE_H

#include "installation.h"
#include "launch.h"

/* "always use nv", "always use rocm" and "mpi". */
struct site {
    bool always_nv;
    bool always_rocm;
    enum mpi_choice mpi;
};
void site_read(const struct installation *installation, struct site *site);

#endif
