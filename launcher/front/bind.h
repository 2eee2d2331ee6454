/* The two languages of user binds. */
#ifndef SINGULARITY_FRONT_BIND_H
#define SINGULARITY_FRONT_BIND_H

#include <stdbool.h>

#include "../request.h"
#include "text_store.h"

/* Adds the binds of "SOURCE[:TARGET[:OPTIONS]],..." to the request; "\:" and "\," stand for the characters. Relative
 * sources start at `cwd`, relative targets at the container's root. A bind that is there already is not added again.
 * False with the error set. */
bool bind_take(struct request *request, struct text_store *store, const char *cwd, const char *text,
               struct error *error);

/* The same for "type=bind,source=S,target=T[,readonly]", one or several separated by newlines. */
bool mount_value_take(struct request *request, struct text_store *store, const char *cwd, const char *text,
                struct error *error);

#endif
