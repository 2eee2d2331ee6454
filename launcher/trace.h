/* The file of --trace: a line of JSON a run, added at its end (singularity/trace.py reads it). */
#ifndef SINGULARITY_TRACE_H
#define SINGULARITY_TRACE_H

#include <stdbool.h>

/* Each line begins so. */
#define TRACE_BEGIN "{\"singularity-trace\": 1"

/* Bytes that are locked, by whoever has the file open (fcntl(2), F_OFD_SETLK), where no file has any: who reads it waits for runs that
 * go on, and who writes for each other. */
#define TRACE_RUNS (INT64_C(1) << 61)
#define TRACE_WRITES (TRACE_RUNS + 1)

/* Opens and creates the file, and locks it as one of a run. -1: `why`, a few words, and errno, or 0. */
int trace_open(const char *path, const char **why);

/* One of the bytes: TRACE_WRITES alone, after a wait for others, TRACE_RUNS with others. False: somebody keeps it from us. A file system
 * without locks is no reason. */
bool trace_lock(int fd, long long byte);

#endif
