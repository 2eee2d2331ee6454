/* One container for the launches of a job step: where they find each other, and how they enter. */
#ifndef SINGULARITY_SHARED_H
#define SINGULARITY_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "../plan/plan.h"
#include "../text_store.h"

/* ---- Where the launches that share a container find each other. One process of them, the keeper, listens on a socket
 * whose name is made of all that must be the same, or of an instance's name: it lies in no file system, and is gone with the last
 * process that has it open. The keeper has no privilege and does one thing: it hands descriptors of the container's namespaces to
 * whoever asks as the same user with the same key, until none of those who asked is alive, or the instance is stopped. Nothing here
 * raises privilege. */

/* A minute for the answer: setting up may mount an image over a slow network. */
enum { RENDEZVOUS_KEY = 60 << 10, RENDEZVOUS_SPACES = 8, RENDEZVOUS_PATIENCE = 60 };
#define RENDEZVOUS_FOREVER UINT64_MAX

struct rendezvous;

/* Where a keeper's id proves nothing, since programs in containers have it too: how it proves itself otherwise. */
struct outside {
    bool (*stands_here)(int connection);  /* whether who opened the other side of a connection is to be believed */
    int (*begin)(const struct rendezvous *rendezvous, int place); /* starts a keeper; in its place what join_keep() gives to it, or -1 */
    void (*keep)(const struct rendezvous *rendezvous, int hand, const int *spaces, size_t count); /* gives, and does not return */
};

struct rendezvous {
    struct sockaddr_un address;
    socklen_t address_size;
    uid_t keeper;           /* who must have opened the socket for it to be believed */
    const struct outside *outside; /* ... and how; NULL: that is root */
    int patience;           /* seconds to wait for an answer */
    uint64_t linger;        /* seconds for which the keeper stays after its last guest, or RENDEZVOUS_FOREVER */
    const char *shown;      /* what a keeper that stays says of itself, or NULL */
    int inside, watch;      /* what the keeper must hold open, the former to ask whether its container is alive; 0: nothing */
    void (*attend)(int inside); /* called when there is something to be read from the former; NULL: it is only asked */
    pid_t script;           /* what an instance was started for, a child of its first process, which is this one; 0: nothing */
    int program;            /* the setuid program's keeper, opened on the host; -1: this one */
    uint8_t key[RENDEZVOUS_KEY];
    size_t key_size;
};

/* The key of this launch: user, job step, image, request, configuration, and the namespaces that it comes from. Returns
 * NULL, or what is in the way, in a few words. */
const char *rendezvous_prepare(struct rendezvous *rendezvous, const struct plan *plan, const struct plan_inputs *inputs);

/* Makes the name, which begins so, from the key. */
void rendezvous_name(struct rendezvous *rendezvous, const char *begin);

/* A socket with that name, on which listen() is to be called; -1: another has it. */
int rendezvous_bind(const struct rendezvous *rendezvous);

/* Whether the kernel says of who opened the other side that it is this user's process, and stands where it must. */
bool rendezvous_peer_is(const struct rendezvous *rendezvous, int connection, uid_t uid);

/* A connection on which the question has been asked. -1: nobody listens, yet or any more, unless `obstacle` is set. */
int rendezvous_ask(const struct rendezvous *rendezvous, const char **obstacle);

/* Waits for the answer, `count` descriptors that the caller owns. False: the keeper is gone, unless `obstacle` is set. */
bool rendezvous_answered(int connection, int *spaces, size_t count, const char **obstacle);

/* This launch has its container for itself: says so, and takes plan->join back. Stops where an instance was meant. */
void rendezvous_missed(struct plan *plan, const struct request *request, const char *obstacle);

/* The process that opened the other side of a connection, by connect() or listen(): a pidfd, or -1 and ENOPROTOOPT where the kernel
 * cannot tell. */
int rendezvous_peer(int connection);

/* `size` bytes with descriptors, whole or not at all. */
bool rendezvous_send(int connection, const void *bytes, size_t size, const int *fds, size_t count);

/* The bytes received, -1 on failure; other numbers of descriptors than `count` are closed, and `fds` filled with -1. */
ssize_t rendezvous_receive(int connection, void *bytes, size_t size, int *fds, size_t count);

/* Closes all but these, which it renumbers, and nothing is heard or said any more on the first three. */
void rendezvous_settle(int *fds, size_t count);

/* The keeper's work: answers on `place` until no process that asked is left, then ends. Closes every other descriptor. Not in the setuid
 * program. */
_Noreturn void rendezvous_keep(const struct rendezvous *rendezvous, int place, const int *spaces, size_t count);

/* The program that keeps what this one sets up, opened, or -1; to be found while the host's root directory is the root. */
int keeper_program(void);

/* From here on this process is a keeper, by that program. `place`: the socket, or what outside->begin() has returned. */
_Noreturn void keeper_run(const struct rendezvous *rendezvous, int place, const int *spaces, size_t count);

/* ---- An instance: a container that stays under a name. Not in the setuid program. */

/* Its first process, before it attends to signals. */
void instance_begin(struct rendezvous *rendezvous);

/* Of a launch that starts one, when all is ready: tells who waits for it, and goes on when that one has written it down; from here on
 * what the program says goes to the instance's logs. Nothing to do for other launches. */
void instance_tell(const struct request *request, bool userns);

/* ---- Keepers that stand where the launches come from, and prove it. Not in the setuid program. */

extern const struct outside outside_keeper;

/* A new process, nobody's child and without privilege, that listens at `place`. True in it. `hand` connects the two: who sets up
 * gives by it, and each learns the other's end. -1: there is no such process. */
bool outside_begin(int place, int *hand);

/* In that process: what it is given. Ends with whoever was to give. */
size_t outside_receive(int hand, int *fds);

/* Who can read the command line of this process sees `name` and the words from `program` on. */
void outside_hide_options(char **line, char *const *program, const char *name);

/* ---- --linger: an image stays mounted after its last launch. Its keeper has a launch of its own, of the same image and as the same
 * user, with nothing of the host in it and the waiting in place of a program: nobody mounts anything for it that he would not mount
 * anyway. Launches that the kernel mounts images for share its loop device and page cache by its being there; those in user
 * namespaces are handed its namespaces, and copy its mount. */

/* Before a launch, in the front door: sees to it that a keeper has the image for so many seconds, and that it knows of this process.
 * True: this is another process, whose request is that of the keeper's launch. The keeper itself does not return. */
bool linger_begin(struct request *request, uint64_t seconds, char **line, struct text_store *store);

/* A launch through a user namespace that would have the image served: by the keeper's mount where there is one. */
void linger_use(struct plan *plan, const struct plan_inputs *inputs);

/* Of a keeper's launch, before it leaves the host: what it will hand out is kept open. */
void linger_prepare(const struct plan *plan, struct request *request);

/* In the container of a keeper's launch, in place of a program. */
_Noreturn void linger_keep(const struct request *request, const struct caller *caller);

/* ---- One container for several launches of a job step, or for those that name an instance. */

/* `obstacle`: what rendezvous_prepare() said. True: this process is in a container that another process keeps. False: the
 * container is to be set up here, either for others too (with plan->keeper_fd set; for a job step in a child that this returns in) or
 * for this launch alone (with plan->join taken back). */
bool join_container(struct plan *plan, const struct plan_inputs *inputs, const struct rendezvous *rendezvous, const char *obstacle);

/* What becomes of the child that has set up a container for others: without any privilege it keeps the namespaces until
 * the last of those that joined has ended. */
_Noreturn void join_keep(struct plan *plan, const struct plan_inputs *inputs, const struct rendezvous *rendezvous);

/* Of a launch that starts an instance, when all is set up: a process that keeps it does not return. Nothing to do for others. */
void join_stay(const struct plan *plan, const struct plan_inputs *inputs, struct rendezvous *rendezvous);

#endif
