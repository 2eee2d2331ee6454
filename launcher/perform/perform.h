/* Performs a plan. The only code that runs with raised privilege; it holds no policy, and any failure ends the process:
 * a half-built container never runs, and the kernel cleans up behind us.
 */
#ifndef SINGULARITY_PERFORM_H
#define SINGULARITY_PERFORM_H

#include "../plan/plan.h"
#include "fuse.h"
#include "mount.h"

/* Where the container stands while it is put together. */
struct stage {
    struct session session;
    int parts[PLAN_PARTS]; /* mounted trees, in the order of plan->parts */
    int root;              /* what becomes the root directory */
};

/* Namespaces, the session directory, the file systems of the image and its overlays. */
void perform_images(struct plan *plan, struct stage *stage, const struct caller *caller);

/* Leaves namespaces of the host for new ones; the reason is for where there are none. */
void perform_unshare(int flags, const char *why_not);

/* A directory of the host, open as `here`, as a part. */
int part_bind(const struct plan *plan, const struct stage *stage, const struct part *part, int here);

/* What the layer is made of, on top of the parts. Returns 0, or the errno with which the kernel refuses the overlay, nothing done. */
int perform_layer(const struct plan *plan, struct stage *stage);

/* Each step that is not skipped, in order. */
void perform_steps(struct plan *plan, struct stage *stage);

/* The root becomes the root. */
void perform_root(const struct stage *stage);

/* The contents of the account files, which show nothing before. Needs no privilege; closes what it needs. Stops on failure. */
void perform_accounts(struct plan *plan, const struct plan_inputs *inputs);

/* In the container: the process stands in its first directory. */
void perform_directory(const struct plan *plan);

/* Before any privilege: makes those sources that are made where they are missing, directories of the user's, with his rights;
 * finds what root alone has named. */
void survey_first(struct plan *plan);

/* Looks at the sources on the host, as the user, and copies directories while nothing of ours is mounted on any. */
void survey_sources(struct plan *plan, const struct session *session);

/* Looks at the targets in the image, as the user; fills the facts of the steps. */
void survey(struct plan *plan, const struct plan_inputs *inputs, const struct stage *stage);

/* A small file of the image, -1: there is none that can be read; and all of it as text, "" where there is none. */
enum { SMALL_FILE = 256 << 10 };
int open_small_file(int root, const char *path);
const char *read_small_file(int file, char text[SMALL_FILE]);

/* Asks a child, which is to give up every privilege before it does anything else, and ends when it has written its answer.
 * False: it has not written all of it. */
bool ask(void (*child)(const void *question, int to), const void *question, void *answer, size_t size);

/* Where and as whom the program of an image of Docker or OCI starts, after a look at its files by such a child. */
void survey_oci(struct plan *plan, const struct plan_inputs *inputs, int root);

/* Which libraries of the host are skipped, after a look at them and at the image's by such a child. */
void survey_libraries(struct plan *plan, const struct request *request, const struct caller *caller, int root);

/* The same for a container that is entered ready made: only where and as whom the program starts. */
void survey_start(struct plan *plan, const struct plan_inputs *inputs);

/* In a PID namespace, or where a file system server must end before the launch does: returns in the process that goes on
 * inside; the launcher's own waits outside, forwards signals and passes the status on. Where a container is set up for others: returns in its keeper. */
void perform_fork(struct plan *plan, const struct caller *caller);

/* Closes descriptors from `first` on. */
void perform_close(int first);

/* After the last change of ids: nothing inside outlives the launcher. */
void perform_follow(const struct plan *plan);

/* A session of its own, without the caller's terminal; where this process leads its group, in a child of it. */
void perform_session(void);

/* Returns in the process that becomes the program; process 1 stays behind as the init. */
void perform_init(const struct plan *plan);

#endif
