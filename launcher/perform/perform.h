/* Performs a plan. The only code that runs with raised privilege; it holds no policy, and any failure ends the process:
 * a half-built container never runs, and the kernel cleans up behind us.
 *
 * The order is the launch's (sexec.c, sexec_suid.c): perform_make_sources() on the host, perform_images() into namespaces of the
 * launch's own, then, when the image has been looked into, perform_layer(), perform_steps() and mount_pivot().
 */
#ifndef SINGULARITY_PERFORM_H
#define SINGULARITY_PERFORM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "../caller.h"
#include "../facts/facts.h"
#include "../plan/plan.h"
#include "../privilege.h"
#include "../request.h"

/* ---- Mounts by descriptor: a tree is made apart from everything, gets its attributes, and is then attached. With Linux
 * 5.12 the tree is a detached mount; older kernels get the same by staging it in the session directory, which nobody else
 * sees, and moving it. All functions return -1 and errno on failure unless they say otherwise. */

/* The directory in memory that holds what a launch makes; the current directory while the root is put together. */
struct session {
    int fd;      /* -1 until it is mounted */
    bool staged; /* the kernel cannot restrict a detached tree: before Linux 5.12 */
};
/* Finds out what the kernel can; the directory itself comes later, as perform_images() mounts it. */
void session_begin(struct session *session);

/* A directory or file of the session, made with what is above it where it is new, and opened. Stops the process on failure. */
int session_entry(const struct session *session, const char *path, bool directory, int flags);

/* A copy of the mounts at an open file or directory; O_PATH descriptor of its root. The caller owns it; a
 * detached copy is gone when it is closed before it is attached. */
int mount_clone(const struct session *session, int source, bool directory);

/* The same, always detached: for mounts of another namespace that this process is visiting. From Linux 5.2 on. */
int mount_take(int source);

/* A new file system. `options` is a comma list of KEY or KEY=VALUE, `attributes` MOUNT_ATTR_*. A value that is a list of
 * MOUNT_DESCRIPTOR with numbers goes to the kernel as those descriptors where it takes them. */
#define MOUNT_DESCRIPTOR "/proc/self/fd/"
struct new_filesystem {
    const char *type;
    const char *source;
    const char *options;
    uint64_t attributes;
    enum privilege privilege;
};
/* The detached tree, which the caller owns, or -1 and errno. */
int mount_new(const struct session *session, const struct new_filesystem *filesystem);

/* Without the descriptor calls: the session's own file system, straight on its place; a descriptor of its root. */
int mount_first(int place, const struct new_filesystem *filesystem);

/* Adds MOUNT_ATTR_* to a tree, to all of it. */
int mount_restrict(int tree, uint64_t attributes);

/* Attaches a tree to an open mount point. */
int mount_attach(int tree, int target);

/* Makes the mounts of this namespace private, or receivers of the host's later ones. */
int mount_propagation(bool slave);

/* The tree becomes the root directory; the old one is gone when this returns. */
int mount_pivot(int root);

/* ---- Loop devices: a part of an image file as a block device. */

/* A loop device that shows `size` bytes of the file from `offset`; freed by the kernel when its last user is gone.
 * Launches of one image that overlap share the device, and with it the superblock and its page cache. */
struct loop {
    int fd; /* of the device; the caller closes it once the file system is mounted */
    char path[32];
};
struct loop_request {
    int file;
    uint64_t offset;
    uint64_t size;
    bool writable;
    bool shared;
    uint32_t devices; /* at most this many devices are looked at */
    uint32_t block;   /* bytes that are read at least; 0: a sector */
};
/* False: errno, ENOSPC for more devices than allowed and EBUSY for none to be had in time. */
bool loop_attach(const struct loop_request *request, struct loop *loop);

/* In place of a loop device that begins where a seal does and ends behind its hash tree: one that shows what is sealed, each block of
 * which the kernel checks as it reads it. False: errno. */
bool loop_seal(const struct seal *seal, struct loop *loop);

/* ---- File systems served by a program: what the kernel may not mount for a user. The server is started from outside the
 * container's mount namespace, gets the image and the device by descriptor, has no capability, no terminal and no other
 * descriptor, and ends by itself when the container's mount is gone. */

struct fuse {
    int device;   /* /dev/fuse */
    int go;       /* a byte written here starts the server; closing it instead ends it */
    int alive;    /* hangs up when the server ends */
    int process;  /* of a server that mounts by itself, or -1; close-on-exec */
    int namespace; /* where a server that mounts by itself does so; -1 for others */
};

/* Whether a part of the image is served by a program. */
bool fuse_needed(const struct plan *plan);

/* The servers of such parts. Inside the user namespace, before the mount namespace is made. Stops the process on failure. */
void fuse_prepare(struct plan *plan, struct fuse *servers);

/* Inside the mount namespace: the mounted tree, with its server started. Stops the process on failure. */
int fuse_mount(const struct session *session, const struct part *part, struct fuse *fuse);

/* An overlay whose writable layer the kernel's own overlay does not take, as it is served by a program itself. It finds
 * the directories of `layers`, which `options` name, as its descriptors from FUSE_LAYERS_FIRST on. Stops the process on
 * failure. */
enum { FUSE_LAYERS_FIRST = 8, FUSE_LAYERS = PLAN_PARTS + 3 };
int fuse_overlay(const struct session *session, const char *options, const int *layers, int count);

/* In the container: lets `unmounted_fd` of the plan tell when nobody uses the root directory any more. */
void fuse_watch(const struct plan *plan);

/* Outside, when the program has ended: returns when the server of what it has written has ended too, all of it in the image.
 * Processes that the program left keep their container, and are not waited for: nothing is told of the root then. Nor is it
 * where it could not be watched, so there is a moment of patience.
 * Signals end the wait as they would end the launcher. */
void fuse_await(int server, int unmounted);

/* ---- Whom the caller is shown as in a user namespace. These stop the process on failure. */

/* Makes a user namespace with whatever else `flags` say, in which `uid` of the one around is himself, or with --fakeroot root; then with
 * the ids that the site gives him, where they can be had. Where the kernel makes none, the message
 * is `what` with the setting that forbids it, or `hint`. */
void user_namespace_enter(const struct plan *plan, uid_t uid, gid_t gid, int flags, const char *what, const char *hint);

/* Whether there is one user only in the namespace that this process is in. */
bool user_namespace_maps_one(void);

/* Where the program is a user of the image: in a namespace of its own, as the last act, when nothing else is open. */
void user_namespace_show(const struct request *request, const struct caller *caller);

/* Where the container stands while it is put together. */
struct stage {
    struct session session;
    int parts[PLAN_PARTS]; /* mounted trees, in the order of plan->parts */
    int root;              /* what becomes the root directory */
    struct stat root_status; /* of that, from perform_steps() on */
};

/* Makes the directories of --workdir that are missing: the user's, in his own directory, with his rights. On the host, before
 * any privilege. */
void perform_make_sources(const struct plan *plan);

/* Finds the sources, and copies those that are directories with what is mounted below them. */
void perform_sources(struct plan *plan, const struct session *session);

/* Namespaces, the session directory, the file systems of the image and its overlays. On the way it finds the sources out. */
void perform_images(struct plan *plan, struct stage *stage, const struct caller *caller);

/* Leaves namespaces of the host for new ones; the reason is for where there are none. */
void perform_unshare(int flags, const char *why_not);

/* A directory of the host, open as `here`, as a part. */
int part_bind(const struct plan *plan, const struct stage *stage, const struct part *part, int here);

/* What the layer is made of, on top of the parts; the plan's second choice where the kernel refuses an overlay. Returns 0, or the
 * errno of that where there is no second choice. */
int perform_layer(const struct plan *plan, struct stage *stage);

/* Each step that is not skipped, in order. */
void perform_steps(struct plan *plan, struct stage *stage);

/* The contents of the account files, which show nothing before. Needs no privilege; closes what it needs. Stops on failure. */
void perform_accounts(struct plan *plan, const struct plan_inputs *inputs);

/* In the container: the process stands in its first directory. */
void perform_directory(const struct plan *plan);

/* In a PID namespace, or where a file system server must end before the launch does: returns in the process that goes on
 * inside; the launcher's own waits outside, forwards signals and passes the status on. Where a container is set up for
 * others: returns in its keeper. */
void perform_fork(struct plan *plan, const struct caller *caller);

/* Closes descriptors from `first` on. */
void perform_close(int first);

/* After the last change of ids: nothing inside outlives the launcher. */
void perform_follow(const struct plan *plan);

/* A session of its own, without the caller's terminal; where this process leads its group, in a child of it. */
void perform_session(void);

/* Returns in the process that becomes the program; process 1 stays behind as the init. */
void perform_init(const struct plan *plan);

/* ---- What only launches without the setuid program do: user namespaces, and file systems that are served or are layers
 * although the host has them. The setuid program has launcher/setuid/absent.c in its place. All stop the process on failure. */

/* Makes the user namespace and what must be made with it, and starts the servers of file systems. Returns which of the
 * plan's namespaces are still to be made. */
int unprivileged_namespaces(struct plan *plan, const struct caller *caller, struct fuse *servers);

/* A network carried from outside, where the plan has one: begun before the user namespace is made, connected when this process is in the
 * network namespace. In between, what begin has returned; -1: there is none. */
int network_begin(const struct plan *plan);
void network_connect(int hand);

/* Mounts a part that is served, or another directory than the image. */
int unprivileged_part(const struct plan *plan, const struct stage *stage, const struct part *part, struct fuse *server);

#endif
