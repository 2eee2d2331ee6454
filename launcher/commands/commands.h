/* --host-cmd: commands of the host that a program in the container calls. A helper stays outside, as the user, listens on a socket that the
 * container sees, and starts what it is asked for, if it is one of the commands of the launch. Who asks is the image's: nothing that it
 * sends is believed. No privilege, and no part of the setuid program. */
#ifndef SINGULARITY_COMMANDS_H
#define SINGULARITY_COMMANDS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "../environment/arena.h"
#include "../environment/environment.h"
#include "../message.h"

/* What is in COMMANDS_INSIDE: the socket, and in bin/ the stub under the name of each command, which is the first directory of the program's
 * PATH. */
#define COMMANDS_SOCKET "socket"
#define COMMANDS_BIN "bin"

/* COMMANDS_LIMIT: of one launch. COMMANDS_AT_ONCE: calls that are carried out at a time; more wait. COMMANDS_TEXTS: bytes of one call, what
 * execve(2) takes at the usual limit of the stack. COMMANDS_PATIENCE: seconds in which a call must have come and be begun. */
enum { COMMANDS_LIMIT = 64, COMMANDS_NAME = 64, COMMANDS_AT_ONCE = 256, COMMANDS_TEXTS = 2 << 20, COMMANDS_PATIENCE = 60 };

/* ---- One call, as it goes over the socket: the head, sent together with four descriptors, then the texts, each ended by a NUL:
 * the directory, the words (the name first), the variables. There is nothing else in it, so there is nothing to get wrong. */

enum { CALL_STREAMS = 3, CALL_DIRECTORY = CALL_STREAMS, CALL_DESCRIPTORS };

struct call_head {
    uint32_t size;      /* bytes of all texts */
    uint32_t words;     /* 1 at least */
    uint32_t variables;
    uint32_t mask;      /* umask(2) */
    uint64_t ignored;   /* signals that the caller ignores, bit N - 1 for signal N */
    uint64_t blocked;
};

struct call {
    const char *directory; /* "": it has none */
    char **words;          /* NULL-terminated, as are the variables */
    char **variables;
};

/* What follows on the same connection: from the stub a byte for each signal that it gets; from the helper these two bytes. */
/* What a stub sends meanwhile: the number of a signal, with this bit where it came from the terminal, for the whole process group then. */
enum { CALL_OF_TERMINAL = 0x80 };
enum call_word { CALL_EXITED = 'e', CALL_KILLED = 'k', CALL_STOPPED = 's' };
struct call_news {
    uint8_t word;
    uint8_t number; /* exit status or signal */
};

/* Whether the head can be one. */
bool call_head_valid(const struct call_head *head);

/* Finds the texts in `bytes`, which stay in use. False: they are not what the head says, or the arena is full. */
bool call_read(const struct call_head *head, char *bytes, struct arena *arena, struct call *call);

/* Whether a variable (NAME=VALUE) of the caller reaches the command `name`: those of Slurm and those that begin with the command's own
 * name, such as SBATCH_. Never one that says which code the command loads: SLURM_CONF names a file that names plugins. */
bool call_passes(const char *name, const char *variable);

/* Whether this is a name of a command: no part of a path, and nothing that a terminal or a shell takes for something else. */
bool call_name_valid(const char *name);

/* ---- The helper. */

struct command {
    const char *name;
    const char *path; /* of the host, absolute */
};

/* Another name that a directory of the host has in the container. */
struct shown_directory {
    const char *host, *inside;
};

struct commands {
    const struct command *list;
    const struct shown_directory *shown;
    uint32_t count, shown_count;
    char *const *environment;  /* of the launch */
    const char *cwd;           /* of the launch; NULL: it is gone */
    struct rlimit stack;       /* the caller's */
    char **line;               /* the command line, which `hide` takes away from those who list processes */
    void (*hide)(char **line);
};

/* Starts the helper, which is nobody's child. It listens in a directory of its own in the first of these places that takes it; `path` is that
 * of the socket. It serves until the launch, which is this process, has ended and nothing that it was asked for runs any more, and takes the
 * name of the socket away when somebody connects. False with the error set, and nothing left behind. */
bool commands_start(const struct commands *commands, const char *const *places, char path[static PATH_MAX], struct error *error);

/* In a container: a connection to the helper; -1: errno says why not. */
int commands_connect(void);

/* Before the program starts: such a connection and no more. Nothing where there is no socket. */
void commands_greet(void);

/* One call on a connection: in a process of its own, which it ends. `helper` is the parent. */
_Noreturn void commands_perform(const struct commands *commands, int connection, pid_t helper);

#endif
