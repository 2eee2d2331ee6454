/* --record: which files outside the image a program reads and writes. The program's process hands its calls that name files to a recorder
 * on the host (seccomp_unotify(2)), an ancestor of it with the rights of the caller, which looks at what they name, writes it down and lets
 * the kernel go on with the call. Nothing here has privilege, and nothing decides about rights: the call is the kernel's, and whoever wants
 * to deceive the recorder can. */
#ifndef SINGULARITY_RECORD_H
#define SINGULARITY_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* For this process and all that it starts, for good; `connection` is a socket whose other end the recorder has, and is closed. False: errno
 * says why the kernel hands no calls over. */
bool record_begin(int connection);

/* What a recorder is to do. */
struct recording {
    int log;           /* what is written down is written here, by record_log() of parts.h */
    int connection;    /* the other end of record_begin()'s */
    pid_t program;     /* the child that the launch is */
    const char *image; /* of an image that is a directory: its path, which is not outside; "" otherwise */
    uint64_t limit;    /* larger files, in bytes, are not read to find their digests */
};

/* Until the child has ended; false: something could not be written down. Who still runs then is served by a process of its own, whose answers are the same and which writes nothing down. */
bool record_serve(const struct recording *recording);

#endif
