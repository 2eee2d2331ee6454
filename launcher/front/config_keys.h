/* What the front door must know of the site's configuration; the starter reads and judges the whole of it. */
#ifndef SINGULARITY_FRONT_CONFIG_KEYS_H
#define SINGULARITY_FRONT_CONFIG_KEYS_H

#include "installation.h"
#include "launch.h"

/* "always use nv", "always use rocm" and "mpi". */
struct config_keys {
    bool always_nv;
    bool always_rocm;
    enum mpi_choice mpi;
};
void config_keys_read(const struct installation *installation, struct config_keys *keys);

#endif
