/* What the files of this room use of each other; others need environment.h. Runs in the container, without privilege.
 * What takes memory here stops the process when there is none. */
#ifndef SINGULARITY_ENVIRONMENT_PARTS_H
#define SINGULARITY_ENVIRONMENT_PARTS_H

#include <sys/types.h>

#include "environment/environment.h"
#include "environment/text.h"

/* ---- variables of the caller (host.c) ---- */

/* Those that the program gets unless the image or the caller sets them. The texts are `caller_environment`'s own.
 * `host_mpi`: the program is started with the host's MPI, so that where its parts lie holds inside too. */
void host_variables(char *const *caller_environment, bool cleanenv, bool host_mpi, struct variables *host);

/* What the caller sets by SINGULARITYENV_NAME and APPTAINERENV_NAME, under the names that the scripts of images know;
 * a warning where two differ (the first kind counts) or a name is not for that. */
void host_injected(char *const *caller_environment, struct variables *injected);

/* ---- PATH and LD_LIBRARY_PATH (path.c) ---- */

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define LIBRARY_DIRECTORY "/.singularity.d/libs"

/* Exports PATH; one that has no value gets the default. */
void path_begin(struct variables *variables);

/* Appends the directories of the default that PATH lacks. */
void path_complete(struct variables *variables);

/* Where there are commands of the host, they are found before all others, whatever else is said of PATH. */
void path_commands_first(struct variables *variables);

/* Applies SING_USER_DEFINED_PREPEND_PATH, ..._APPEND_PATH and ..._PATH. */
void path_change(struct variables *variables);

/* Takes those three away. */
void path_changes_drop(struct variables *variables);

/* Adds LIBRARY_DIRECTORY to LD_LIBRARY_PATH if it is not in it: at its end, or before all that the image has. */
void library_path_complete(struct variables *variables, bool first);

/* ---- the scripts that an image has (scripts.c) ---- */

#define SCRIPTS_DIRECTORY "/.singularity.d/env"

struct scripts {
    const char **paths; /* in the order in which they are evaluated */
    size_t count;
    bool modern;        /* from SCRIPTS_DIRECTORY; else /environment, or none */
};

enum script_kind {
    SCRIPT_OWN,      /* any other */
    SCRIPT_FIRST,    /* 01-base.sh and what a Docker image declares: before them PATH has no value */
    SCRIPT_DOCKER,   /* one of those that set PATH as the Docker image has it */
    SCRIPT_LATE      /* after 99-base.sh: the caller's variables are there */
};

/* Lists *.sh in the order of their bytes. */
void scripts_list(struct arena *arena, struct scripts *scripts);

enum script_kind script_kind(const char *path);

/* ---- live code: the image's own shell evaluates it, once, as a child (live.c) ---- */

struct live {
    const char *shell;                /* of the image */
    const struct payload *payload;    /* its arguments are what the scripts see as $1 and so on */
    const struct scripts *scripts;
    const struct variables *injected;
    const struct variables *host;     /* a script may set one of them without exporting it: the program has it not then */
};

/* The shell for live code: /bin/bash, since Apptainer evaluates scripts by a shell that knows much of bash's language and
 * images rely on it; else /bin/sh. NULL: the image has neither. */
const char *live_shell(void);

/* Replaces `variables`, which the shell starts with, by those that it has in the end; returns the umask that it has.
 * Stops the process with the shell's status when a script ends it. */
mode_t live_evaluate(const struct live *live, struct variables *variables);

/* ---- the text that this shell runs (live_text.c) ---- */

/* Whether a value that is live code is complete, so that it cannot break the text it is put into. */
bool live_value_complete(const char *value);

/* Sources the scripts and sets the injected variables by the rules that the evaluation without a shell has. It writes to
 * descriptor 9: "before" and which of the host's variables the shell has of its own, "after" and which have a value in the
 * end, the umask, "variables", and `export -p`. */
void live_text_write(const struct live *live, const struct variables *variables, struct text *text);

#endif
