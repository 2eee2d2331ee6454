/* A look at the libraries of the host that are to go in, and at the image's, by a process without any privilege. */
#ifndef SINGULARITY_LIBRARIES_LOOK_H
#define SINGULARITY_LIBRARIES_LOOK_H

#include "../request.h"

enum { LIBRARIES_LIMIT = sizeof((struct request *)NULL)->library / sizeof(struct request_entry), VERDICT_REASON = 192, TOLD_TEXT = VERDICT_REASON + 32 };

enum library_verdict {
    JUDGE_TAKEN,
    JUDGE_UNNEEDED, /* the image's own serves */
    JUDGE_BROKEN,   /* it cannot load in this image, or programs of the image could not with it */
};

/* What is told of each library of the request, in order: why it goes in, "" where that needs no words, or why not. */
struct told {
    uint32_t taken; /* 0: it stays out */
    char text[TOLD_TEXT];
};

/* Reads the libraries of `asked` on the host, and those of the image beneath `root`; judges them, and warns of what cannot
 * be used. `told` has room for all. */
void library_look(const struct request *asked, int root, struct told *told);

/* Ends the process, which has no privilege any more, when all has been told to `to`, a pipe. Plainly by library_look();
 * the setuid program has no reader of foreign files, and executes sexec-judge in its place. */
_Noreturn void library_look_and_tell(const struct request *asked, int root, int to);

#endif
