/* Instances as the front door knows them: files of the user's that say which there are (docs/instances.md), and the wait for a new one. */
#ifndef SINGULARITY_INSTANCE_H
#define SINGULARITY_INSTANCE_H

#include "front.h"

#define INSTANCE_IMAGE "instance://"
enum { INSTANCE_NAME = 200, INSTANCE_HOST = 65, INSTANCE_IDENTITY = 96 };

/* Descriptors that a launch which starts an instance has first in keep_fd: to who waits for it, and the logs. */
enum { INSTANCE_TOLD, INSTANCE_OUTPUT, INSTANCE_ERRORS, INSTANCE_DESCRIPTORS };

/* What an image is called that is an instance; NULL: it is none. */
const char *instance_named(const char *image);

/* ---- Where they are written down: DIRECTORY/instances/app/HOST/USER/NAME/NAME.json. A name is one user's on one host. */

struct instance {
    const char *name, *user;
    char host[INSTANCE_HOST];
    char directory[PATH_MAX]; /* the user's own files */
    int states;               /* of this user on this host, open */
    int state;                /* of this instance, open; -1 */
    int told;                 /* the word that it is ready is read from there */
    char logs[2][PATH_MAX];   /* standard output, standard error */
};

/* What is written down of a running one. `identity` is that of the first process, or, before there is one, of who starts it. */
struct instance_state {
    pid_t process, launcher;
    bool userns;
    unsigned long long space; /* the number of its PID namespace; 0: not known */
    char identity[INSTANCE_IDENTITY];
};

/* Boot, PID namespace and start of a process: nothing else on this machine is ever the same. False: there is no such process. */
bool process_identity(pid_t process, char identity[INSTANCE_IDENTITY]);

/* Finds the places; the account of the request must be known. `make`: what is missing is made, for the user alone. False with the error set:
 * a place is not the user's alone, or (ENOENT) it is missing. */
bool instance_open(struct instance *instance, const struct invocation *invocation, char *const *environment, const char *name,
                   bool make, struct error *error);

/* The directory of its logs, made where it is missing; -1 with the error set. */
int instance_logs(const struct instance *instance, struct error *error);

/* Writes it down, whole or not at all. */
bool instance_write(const struct instance *instance, const struct instance_state *state, const struct request *request,
                    struct error *error);

/* Nothing is written down of it from here on. */
void instance_remove(const struct instance *instance);

/* The name is this process's from here on, if nobody has it. */
bool instance_reserve(struct instance *instance, const struct request *request, struct error *error);

/* The request of a launch that enters the instance `name`: that which made its container, with what is each launch's own. */
bool instance_find(struct invocation *invocation, char *const *environment, const char *name, struct error *error);

/* ---- A new one. */

/* Fills in the request, reserves the name and opens the logs. */
bool instance_prepare(struct instance *instance, struct invocation *invocation, char *const *environment, struct error *error);

/* Returns in a process of its own that is to do the launch, without terminal; this one waits until all is ready, and ends. */
void instance_detach(const struct instance *instance, struct invocation *invocation);

#endif
