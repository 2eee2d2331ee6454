/* Where the parts of the installation are: compiled in, or beside this very program for a copy that can be moved. */
#ifndef SINGULARITY_LOCATION_H
#define SINGULARITY_LOCATION_H

/* The configuration file; no option and no variable changes it. */
const char *location_config(void);

/* The starter without privilege. A path in static memory, as those of the other two. */
const char *location_starter(void);

/* The directory of the starters and of servers that are installed with them. */
const char *location_libexec(void);

#endif
