/* An open descriptor that one process hands to another, through a socket between them (unix(7), SCM_RIGHTS). */
#ifndef SINGULARITY_HANDED_H
#define SINGULARITY_HANDED_H

#include <stdbool.h>

/* False: errno says why. */
bool handed_send(int connection, int fd);
/* The caller owns it; -1: none came. */
int handed_receive(int connection);

#endif
