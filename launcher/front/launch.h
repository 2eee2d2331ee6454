/* From options to the launch request. */
#ifndef SINGULARITY_FRONT_LAUNCH_H
#define SINGULARITY_FRONT_LAUNCH_H

#include <stdbool.h>

#include "../request.h"
#include "injection.h"
#include "options.h"
#include "../text_store.h"

/* --fabric: whose libraries for InfiniBand and the like a program uses. */
enum fabric { FABRIC_CONTAINER, FABRIC_AUTO, FABRIC_HOST };

/* --mpi: whose MPI a program is started with. */
enum mpi_choice { MPI_UNSAID, MPI_CONTAINER, MPI_AUTO, MPI_HOST };

enum join_wish { JOIN_AUTO, JOIN_YES, JOIN_NO };

struct launch {
    struct request request;
    struct injection injection; /* variables for the container travel in the environment, not in the request */
    struct text_store store;    /* room for the request's texts, in its own text_store */
    const char *cwd;            /* NULL: deleted */
    bool root;
    enum fabric fabric;
    enum mpi_choice mpi;
    enum join_wish join;
};

/* An empty request, in a `launch` that is all zero (it is large: fresh memory is not touched more than needed). `arena` is
 * for the variables of the container. */
void launch_begin(struct launch *launch, struct arena *arena, const char *cwd, bool root);

/* Fills in what the options say. Opens nothing. False with the error set: a value that cannot be meant. */
bool launch_take_options(struct launch *launch, unsigned scope, const struct options *options, struct error *error);

/* BIND_* of a bind by this option or variable: what messages of the starter are to name. */
uint64_t launch_origin(const struct launch *launch, const struct option_value *use);

/* Sets the image: a path, made absolute. */
bool launch_take_image(struct launch *launch, const char *image, struct error *error);

/* The message level that options and variables ask for. False with the error set: MESSAGELEVEL is no number. */
bool options_level(const struct options *options, int *level, struct error *error);

#endif
