/* What is found out before and while a launch is planned: strictly read-only, with the user's own rights. What anybody may
 * have written (files of the image, libraries) is read by a child that has given up every privilege for good.
 *
 * Facts come at two times. Of the host, before the plan: facts_host(), facts_named(). Of sources and of the image, when there
 * is a mount namespace of the launch's own: a directory that was opened before cannot be copied with its mounts (open_tree(2)
 * takes only mounts of the caller's namespace), and an image file shows nothing before it is mounted.
 */
#ifndef SINGULARITY_FACTS_H
#define SINGULARITY_FACTS_H

#include "../plan/plan.h"

/* Of the host, for plan_mode() and plan_steps(). Texts live as long as the plan. */
void facts_host(struct host_facts *host, struct plan *plan, const struct plan_inputs *inputs);

/* Where the host has file systems mounted, but the root, the kernel's own and those of running services; NULL-terminated.
 * Never part of a decision about rights. */
const char *const *host_mounts(struct plan *plan);

/* What stands where root alone has named it. On the host: its directories are walked down from the real "/". */
void facts_named(struct plan *plan);

/* The sources on the host, opened. */
void facts_sources(struct plan *plan);

/* In the image, open as `root`: its targets, libraries, account files, and where and as whom its program starts. */
void facts_image(struct plan *plan, const struct plan_inputs *inputs, int root);

/* Of a container that is entered ready made: only where and as whom its program starts. */
void facts_start(struct plan *plan, const struct plan_inputs *inputs);

/* Where and as whom the program of an image of Docker or OCI starts, by its files. */
void facts_oci(struct plan *plan, const struct plan_inputs *inputs, int root);

/* Where the site wants signatures: whether an image, or each of the launch, has one that counts, and how what it is of is checked when
 * it is read. By a process without any privilege; false: the launch is refused. */
bool facts_signature(struct part *part, const struct plan *plan, const struct plan_inputs *inputs, struct error *error);
bool facts_signatures(struct plan *plan, const struct plan_inputs *inputs, struct error *error);

/* Which libraries of the host are skipped, by a comparison with the image's. */
void facts_libraries(struct plan *plan, const struct request *request, const struct caller *caller, int root);

/* A small file of the image, -1: there is none that can be read; and all of it as text, "" where there is none. */
enum { SMALL_FILE = 256 << 10 };
/* The caller owns the descriptor; read_small_file() leaves it open. */
int open_small_file(int root, const char *path);
const char *read_small_file(int file, char text[SMALL_FILE]);

/* Asks a child, which is to give up every privilege before it does anything else, and ends when it has written its answer.
 * False: it has not written all of it. */
bool ask(void (*child)(const void *question, int to), const void *question, void *answer, size_t size);

#endif
