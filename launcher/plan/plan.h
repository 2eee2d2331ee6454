/* The plan of a launch: what will be done, in order, each step with its reason. Data from data: request, configuration and
 * facts in, a plan out. Nothing in this room asks the kernel anything or acts, so that tests compare plans as text.
 *
 * A plan has two halves. plan_mode() and plan_steps() say by which means and which mounts, from what is known of the host;
 * plan_layers() says what is left out and what the root is laid out of, from what was seen in the image (facts/facts.h).
 */
#ifndef SINGULARITY_PLAN_H
#define SINGULARITY_PLAN_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "../caller.h"
#include "../config.h"
#include "../image/images.h"
#include "../request.h"
#include "../signature/seal.h"

enum { PLAN_STEPS = 1024, PLAN_LAYERS = 32, PLAN_PARTS = 48, PLAN_GROUPS = 64, PLAN_TEXT = 1 << 20, PLAN_LIST = 64 << 10 };

/* Where the right to mount comes from. */
enum mode { MODE_ROOT, MODE_SETUID, MODE_USERNS };

/* How the file system of an image becomes visible. KEPT: it is a mount already, which a keeper of the user's has (--linger). */
enum mount_way { WAY_BIND, WAY_KERNEL, WAY_FUSE, WAY_KEPT };

/* What stands beneath the program's root directory. */
enum layer { LAYER_NONE, LAYER_OVERLAY, LAYER_OVERLAY_FUSE, LAYER_UNDERLAY };

enum loss { LOSS_QUIET, LOSS_WARN, LOSS_STOP }; /* what a missing source or target means */

enum step_kind {
    STEP_BIND,       /* source: a path of the host, opened as the user */
    STEP_DIRECTORY,  /* source: a directory of ours in the session directory, shown at the target */
    STEP_FILE,       /* source: a file of ours in the session directory with `content`, shown read-only at the target */
    STEP_FILESYSTEM, /* source: the type of a new file system, content: its options */
    STEP_LINK,       /* source: the text of a symbolic link made at the target */
    STEP_PLACE,      /* nothing is shown: the target is a directory, made where it is missing */
};

enum step_flag {
    STEP_READONLY = 1 << 0,
    STEP_NODEV = 1 << 1,
    STEP_NOEXEC = 1 << 2,
    STEP_UNLESS_SAME = 1 << 3,  /* skipped when the target already shows the source */
    STEP_MAKE_SOURCE = 1 << 4,  /* the source directory is made when missing, by the user and with his rights (--workdir) */
    STEP_ONLY_IF_FILE = 1 << 5, /* skipped when the image lacks the target */
    STEP_PASSWD = 1 << 6,       /* the content is made from the image's own file */
    STEP_GROUP = 1 << 7,
    STEP_STICKY = 1 << 8,       /* a directory for all: mode 1777 */
    STEP_SUID = 1 << 9,         /* without nosuid (root's --allow-setuid) */
    STEP_OWN = 1 << 10,         /* the source must be the caller's own (a home directory, where users may bind nothing) */
    STEP_ROOT_OWNED = 1 << 11,  /* the source must belong to root (user bind control = no) */
    STEP_ROOT_NAMED = 1 << 15,  /* ... and so must the directory that has its name, all the way up */
    STEP_ONLY_IF_MISSING = 1 << 12, /* skipped when the image has the target */
    STEP_LIBRARY = 1 << 13,     /* skipped unless the image needs it and it can load there */
    STEP_IS_DIRECTORY = 1 << 14, STEP_IN_IMAGE = 1 << 16, /* the source must be a directory; it lies in an image (plan->data) */
};

/* What a look at the host and into the image found about one step. */
struct step_facts {
    int source_fd;          /* O_PATH, or -1; of an account file the image's own, to be read */
    bool copied;            /* ... of a copy of its mounts, to be attached */
    int made_fd;            /* of an account file the one that is shown, to be written; -1 */
    dev_t named_device;     /* of a source that root alone must have named: what root did; inode 0: it is not root's alone */
    ino_t named_inode;
    mode_t source_type;     /* S_IFDIR, S_IFREG, ... ; 0: missing */
    int source_error;       /* errno of a missing source */
    bool covered;           /* the target lies inside an earlier step's: looked at when its turn comes */
    bool target_found;
    mode_t target_type;
    const char *parent;     /* the deepest directory of the target that exists in the image, without links */
    const char *rest;       /* what is missing below it, without a leading slash */
    uint32_t parent_entries;/* how many entries that directory has, counted up to a limit */
};

struct step {
    enum step_kind kind;
    const char *source;
    const char *target;     /* in the container; "" for a directory that only other steps use */
    const char *content;
    uint32_t flags;
    enum loss missing_source;
    enum loss missing_target;
    uint64_t library;       /* LIBRARY_* of the request */
    const char *reason;
    const char *skipped;    /* why it is not done, or NULL */
    struct step_facts facts;
};

/* A file system that becomes part of the root: the image itself, then overlays. */
struct part {
    struct partition partition;
    enum mount_way way;
    int fd;                 /* of the image file or directory; borrowed */
    bool writable;
    const char *source;     /* for messages */
    const char *reason;
    struct seal seal;       /* where signatures are required */
};

/* How the program comes to be a user of the image. */
enum user_way {
    USER_CALLER,    /* not at all: it is who the launch makes it */
    USER_NAMESPACE, /* a user namespace shows the caller's ids as these */
    USER_REAL,      /* root takes these ids for good */
};

struct plan_user {
    enum user_way way;
    uid_t uid;
    gid_t gid;
    gid_t groups[PLAN_GROUPS]; /* besides gid; for USER_REAL */
    uint32_t group_count;
    const char *spec;       /* USER of the image as written; "" none */
    const char *name;       /* its entry in the image's passwd file; "" none */
    const char *home;
    bool found;             /* in the image's account files, or a number */
};

struct plan {
    enum mode mode;
    const char *mode_reason;
    uint64_t namespaces;    /* CLONE_NEW* */
    bool propagation_slave;
    bool root_mapped, one_id; /* --fakeroot: user id 0 inside; and, once that is known, no other */
    bool tells_removed;       /* the image lists names that were removed from it */
    bool emulates;            /* what the kernel refuses such a root is answered as done */
    bool init;              /* a PID namespace with an init of ours */
    int report_fd;          /* in it: where the program's wait status goes; in a keeper: where it says that all is ready */
    int alive_fd;           /* in both, and where a launcher waits for a server: hangs up when it is gone; 0: none does */
    int server_fd;          /* can be read, or hangs up, when the file system server of what is written has ended; 0: there is none */
    int unmounted_fd;       /* then: tells when nobody uses the container's root directory any more */
    int trace_fd;           /* --trace: its file, or 0 */
    const char *trace_file; /* ... and its name */
    bool join;              /* the container is shared with other launches of the job step, or is an instance */
    bool instance;          /* ... the latter: it stays under its name */
    const char *join_reason;/* why it is, or why not; NULL: nothing asks for it */
    int keeper_fd;          /* where this process will be asked for the container that it sets up for others; -1 */
    int kept_user, kept_mount, kept_tree; /* namespaces of the keeper that has the image mounted, and a copy of that mount, where it
                                           * had to be made early; 0: there is none */
    const char *container_dir;
    const char *session_size; /* of the session's memory file system, as tmpfs(5) has it */
    const char *hostname, *id_ranges; /* or NULL; those of the request, where they are mapped */
    const char *network_ports; /* of a network that is carried from outside: those forwarded to it; NULL: there is none */
    bool loops_shared;
    uint32_t loop_devices;

    struct part parts[PLAN_PARTS]; /* [0] is the image */
    uint32_t part_count;
    bool image_writable;
    bool dev_staged;        /* /dev is one of ours, with only the nodes that the steps name */
    bool suid;              /* root's --allow-setuid: mounts without nosuid */

    enum layer layer;
    const char *layer_reason;
    enum layer second;      /* where the kernel refuses the overlay */
    bool second_possible;   /* the root can do with that */
    int writable_part;      /* index of the part that takes the overlay's writes, -1: none, 0: memory */
    int guard_lock, guard_watch, guard_go, guard_directory; /* where that is a directory of the host: its lock, and what its guard hears */
    const char *guard_removes; /* ... and what goes afterwards, by its name in guard_directory; NULL: it stays */
    const char *foreign_hint; /* what to do where that part's directories belong to somebody else */
    struct step layers[PLAN_LAYERS]; /* directories of the image under which bind points are made (underlay) */
    uint32_t layer_count;

    struct data_images *data; /* images with directories that are bound, or NULL (perform/data_images.h) */
    struct fuse_mounts *fuse_mounts; /* --fusemount, or NULL (perform/fuse_mounts.h) */
    struct step steps[PLAN_STEPS];
    uint32_t step_count;

    const char *home;       /* inside; "" none */
    bool home_yields;       /* HOME is only set where the image's variables do not */
    const char *directory;  /* where the program starts, first choice */
    const char *directory_asked; /* --cwd, or its variable: a failure is fatal; NULL: not asked for */
    const char *directory_reason; /* for what is not the caller's choice, or NULL */
    bool oci_wanted;        /* WORKDIR and USER of the image hold, by option or configuration */
    bool oci_image;         /* ... and the image is one that has them */
    struct plan_user user;
    bool binds_ignored;     /* the site lets users bind nothing */

    uint64_t keep_capabilities;
    bool no_new_privs;

    bool dry;               /* nothing is performed and nothing written: the plan is printed */

    size_t text_used;
    char text[PLAN_TEXT];
};

/* What the kernel says of an open image. The lists are those of the configuration ("limit container ..."); what it does not
 * limit is listed. */
struct image_facts {
    bool served; /* lies in a FUSE file system: whose files it shows, and when it answers, its server says */
    bool owner_listed, group_listed, place_listed;
};

/* A list of the installation (NAMEliblist.conf), where users may bind nothing but what it names. */
struct list_facts {
    char text[PLAN_LIST];
    struct error error; /* why it cannot be relied on; then there is no text */
};

/* What the host says before anything is planned. */
struct host_facts {
    bool machines_namespace;   /* the user namespace is the machine's, so that root may mount images there */
    const char *architecture;  /* in the words of the SIF format, "" when it has none */
    bool runs;                 /* the image's architecture, natively or by binfmt_misc */
    const char *home;          /* of the caller by /etc/passwd; NULL: there is none, or nobody asks */
    const char *const *mounts; /* for "mount hostfs", or NULL */
    struct image_facts image, overlays[IMAGES_OVERLAYS];
    struct list_facts lists[LIBRARY_FABRIC + 1]; /* by LIBRARY_*, of those that the request needs */
};

struct plan_inputs {
    const struct request *request;
    const struct config *config;
    const struct image *image;
    const struct image *overlays; /* opened in the order of request->overlay */
    const struct caller *caller;
    const struct host_facts *host;
    bool setuid;            /* privilege can be raised */
};

/* Text that lives as long as the plan; stops the process when the store is full. */
const char *plan_text(struct plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends to the text made last. */
void plan_text_more(struct plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* May this image be launched here, and by which means? Chooses the mode and how each part is mounted. */
bool plan_mode(struct plan *plan, const struct plan_inputs *inputs, struct error *error);

/* Which mounts are wanted, in the order in which they will be made. */
bool plan_steps(struct plan *plan, const struct plan_inputs *inputs, struct error *error);
/* The second half of plan_steps(): what the user asks for, after what the site gives. */
bool plan_user_steps(struct plan *plan, const struct plan_inputs *inputs, struct error *error);

/* What a message is to name where an option asked for something: the variable that stood for it, or the option itself. */
const char *plan_asked(const struct plan_inputs *inputs, const char *option);

/* Whether the target lies in what an earlier step mounts: it can be looked at only when that is there. */
bool step_covered(const struct plan *plan, uint32_t number);


/* With the facts of the image: what is skipped, and what the root must be layered with. */
bool plan_layers(struct plan *plan, const struct plan_inputs *inputs, struct error *error);

/* Why the launch ends when the kernel has refused the overlay and the second choice is not possible; false. */
bool plan_refused_overlay(const struct plan *plan, const struct plan_inputs *inputs, int number, struct error *error);

/* The contents of /etc/passwd and /etc/group: the image's own text with the caller's entries. */
const char *plan_passwd(struct plan *plan, const struct plan_inputs *inputs, const char *text);
const char *plan_group(struct plan *plan, const struct plan_inputs *inputs, const char *text);

/* What an image of Docker or OCI says of where and as whom its program starts: the text of its file. Chooses the
 * directory; true: there is a USER, who is to be found with the two calls below. */
bool plan_oci(struct plan *plan, const struct plan_inputs *inputs, const char *text);

/* The program starts in this WORKDIR; `placed`: it is made where it is missing. */
void plan_oci_directory(struct plan *plan, const char *workdir, bool placed);

/* The texts of the image's own account files, NULL where there are none, by the rules of Docker. */
void plan_oci_passwd(struct plan *plan, const char *text);
void plan_oci_group(struct plan *plan, const char *text);

/* Whether the program becomes that user only where the kernel makes user namespaces. */
bool plan_oci_user_needs_namespace(const struct plan *plan, const struct plan_inputs *inputs);

/* How the program becomes that user, or one line that says why not. `obstacle`: why there is no user namespace, or NULL. */
void plan_oci_user(struct plan *plan, const struct plan_inputs *inputs, const char *obstacle);

/* Whether a step's mount point is missing in the image and is made in a layer; whether it is a directory. */
bool step_must_be_made(const struct step *step);
bool step_is_directory(const struct step *step);

/* Why a mount is left out for want of its mount point, `number` an errno. */
const char *step_loss(int number);

/* Targets in order, so that what lies in another comes after it; equal ones as they stood. */
void steps_sort(struct step *steps, uint32_t count);

/* Whether something is planned at this very target; whether --no-mount names this word or path; whether ".." is in a path. */
bool plan_has_target(const struct plan *plan, const char *target);
bool plan_kept_out(const struct request *request, const char *word);
bool path_climbs(const char *path);

/* Lines of colon-separated fields: the start of a field, NULL with no length where the line has no such field; the next line. */
const char *account_field(const char *line, size_t size, int number, size_t *length);
const char *account_next(const char *line);

/* Adds one step and returns it; stops the process when there are too many. */
struct step *plan_add(struct plan *plan, enum step_kind kind, const char *source, const char *target, uint32_t flags,
                      const char *reason);

/* As text for people or as JSON; stops the process when it cannot be written. */
void plan_print(const struct plan *plan, const struct plan_inputs *inputs, bool json, FILE *file);

/* ---- Which files of the host may go in where users may bind nothing: what the lists of the installation name, whatever a
 * request says. */

enum listed {
    LISTED_NOT,
    LISTED_PATH, /* by its whole path */
    LISTED_NAME, /* by its name, or as a part of an MPI: only where nobody but root makes names */
};

enum listed listed(const struct request_entry *library, const struct list_facts *lists);

#endif
