/* Which libraries of the host go into a container. Each is judged by itself against what the image has: one that could not
 * load there would stand in front of the image's own and break every program that uses it. Data in, verdicts out. */
#ifndef SINGULARITY_LIBRARIES_JUDGE_H
#define SINGULARITY_LIBRARIES_JUDGE_H

#include "versions.h"
#include "look.h"

/* One entry of the request that depends on the image. */
struct candidate {
    const char *name;           /* as programs ask the loader for it; "" for what is found by its path */
    const char *file;           /* its path on the host */
    uint64_t number;            /* LIBRARY_* of the request */
    struct shared_object host;
    const struct shared_object *image; /* of that name; NULL: there is none */
    enum library_verdict verdict;
    char reason[VERDICT_REASON];
};

/* What the image's loader would find under a name, or NULL. The answer to one name does not change. */
struct image_libraries {
    const struct shared_object *(*find)(void *context, const char *name);
    void *context;
    bool foreign; /* its programs use another C library than glibc */
};

void library_judge(struct candidate *candidates, uint32_t count, const struct image_libraries *image);

#endif
