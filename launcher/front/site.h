/* What the front door must know of the site's configuration; the starter reads and judges the whole of it. */
#ifndef SINGULARITY_FRONT_SITE_H
#define SINGULARITY_FRONT_SITE_H

#include "installation.h"

/* "always use nv" and "always use rocm". */
struct site {
    bool always_nv;
    bool always_rocm;
};
void site_read(const struct installation *installation, struct site *site);

#endif
