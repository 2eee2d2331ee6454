/* The front door: from the command line and the environment to a launch request. Runs as the user, without privilege, before
 * any starter; reads files of the user's and of the installation, and no image. */
#ifndef SINGULARITY_FRONT_H
#define SINGULARITY_FRONT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "../commands/commands.h"
#include "../environment/arena.h"
#include "../environment/variables.h"
#include "../message.h"
#include "../request.h"
#include "../text_store.h"

/* ---- Where the parts of this installation are. */

struct installation {
    char starters[PATH_MAX];      /* directory of sexec-suid */
    char configuration[PATH_MAX]; /* directory of singularity.conf */
    char python[PATH_MAX];
};

/* As compiled in, or, in a relocatable build, as they lie around /proc/self/exe. False with the error set: a
 * relocatable build that cannot find itself, or too long a path. Opens nothing. */
bool installation_find(struct installation *installation, struct error *error);

/* The path of the setuid starter, into `path`; "": the launch needs none. `why` is a word on the choice. `userns`: a user
 * namespace was asked for. Only looks; the kernel and the starter decide what the program may do. */
bool installation_starter(const struct installation *installation, bool userns, char path[PATH_MAX], const char **why,
                          struct error *error);

/* NAME in the configuration directory. False: too long a path. Whether the file is there is not looked at. */
bool installation_file(const struct installation *installation, const char *name, char path[PATH_MAX]);

/* ---- The command line as words mean it: which options, which verb, which words are left. */

enum option_id {
#define OPTION(identifier, ...) OPTION_##identifier,
#define VARIABLE(identifier, ...) OPTION_##identifier,
#include "../options.def"
#undef OPTION
#undef VARIABLE
    OPTION_COUNT
};

/* FLAG: set or not, "--x=false" takes it back. COUNT: how often. TEXT: one value, the last one counts. LIST_CSV:
 * every use adds, values are divided by commas (CSV). LIST_RAW: every use adds, and the option's own function divides
 * its value (--bind, --env). OPTIONAL: a value behind "=" or none. NONE_HERE: known in the family and refused here
 * with a reason. */
enum option_kind { KIND_FLAG, KIND_COUNT, KIND_TEXT, KIND_LIST_CSV, KIND_LIST_RAW, KIND_OPTIONAL, KIND_NONE_HERE };

/* Where an option stands: the bits of its VERBS. */
enum option_scope {
    SCOPE_GLOBAL = 1 << 0,
    SCOPE_EXEC = 1 << 1,
    SCOPE_RUN = 1 << 2,
    SCOPE_SHELL = 1 << 3,
    SCOPE_TEST = 1 << 4,
    SCOPE_START = 1 << 5,        /* instance start */
    SCOPE_START_RUN = 1 << 6,    /* instance run */
    SCOPE_INSTANCE = SCOPE_START | SCOPE_START_RUN,
    SCOPE_FOREGROUND = SCOPE_EXEC | SCOPE_RUN | SCOPE_SHELL | SCOPE_TEST,
    SCOPE_ACTIONS = SCOPE_FOREGROUND | SCOPE_INSTANCE
};

struct option {
    const char *names; /* "--name,synonym,..."; "--" for a variable that has no option */
    const char *variables;
    const char *help;
    unsigned scopes;
    enum option_kind kind;
    char letter; /* 0: none */
    bool bare;   /* no value is named */
};
/* By option_id, from options.def; constant. */
extern const struct option option_table[OPTION_COUNT];

/* One use of an option: by a word of the command line or by a variable. */
struct option_value {
    enum option_id id;
    bool from_variable;
    const char *name; /* "--bind=...", "SINGULARITY_BIND=...": ends at its "=" or "," */
    const char *text; /* NULL: a flag that is set, or an OPTIONAL without its value */
};

/* The error of an option that is known and not available, by a word or a variable ("option", "variable"); false. */
bool option_refuse(const struct option_value *use, const char *what, struct error *error);

/* The two arguments of "%.*s" that show the name of a use. */
#define OPTION_NAME(value) (int)strcspn((value)->name, "=,"), (value)->name

enum { OPTION_VALUES = 4096, OPTION_NAME_SIZE = 64 };

struct options {
    struct option_value values[OPTION_VALUES];
    uint32_t count;
    bool given[OPTION_COUNT]; /* on the command line */
};

enum line_kind {
    LINE_LAUNCH, /* exec, run, shell, test, instance start, instance run: `scope` says which, `rest` is the image and what follows it */
    LINE_HELP,   /* `rest` names what about, or is empty */
    LINE_VERSION,
    LINE_BARE_VERSION,
    LINE_OTHER /* a verb that Python knows or will refuse: `rest` begins with it */
};

struct command_line {
    enum line_kind kind;
    unsigned scope;
    char *const *rest; /* NULL-terminated */
    struct options options;
};

/* `words` follow the program's name, NULL-terminated. False: wrong usage, which ends with EXIT_USAGE. */
bool command_line_parse(char *const *words, struct command_line *line, struct error *error);

/* "exec" for SCOPE_EXEC, "instance start" for SCOPE_START and so on; "" for none of them. */
const char *scope_verb(unsigned scope);

/* Adds one use; false with the error set when there are too many. */
bool options_add(struct options *options, struct option_value value, struct error *error);

/* A flag after all of its uses; the last one counts. */
bool options_flag(const struct options *options, enum option_id id);

/* How often a COUNT was given. */
int options_times(const struct options *options, enum option_id id);

/* The last use, or NULL. */
const struct option_value *options_last(const struct options *options, enum option_id id);

/* The last text given, or NULL. */
const char *options_text(const struct options *options, enum option_id id);

/* The family's spellings of true and false: Go's, and yes, on, y, no, off, n of 2.2, in any case. */
bool boolean_parse(const char *text, bool *value);

/* Whether a comma list holds this name; its place is left in `rank` unless that is NULL. */
bool name_listed(const char *list, const char *name, size_t length, unsigned *rank);

/* ---- The variables that stand for options: SINGULARITY_X and APPTAINER_X. */

enum { VARIABLE_NAMES = 4, VARIABLE_PREFIXES = 2 };

/* What the environment holds, by option, place of the name in the option's list, and prefix: whole "NAME=value" texts. */
struct option_variables {
    const char *entry[OPTION_COUNT][VARIABLE_NAMES][VARIABLE_PREFIXES];
};

/* One pass over the environment; empty and blank values count as unset. */
void option_variables_read(char *const *environment, struct option_variables *variables);

/* Adds to `options` what the variables of one scope say and the command line does not. A variable with both prefixes
 * and different values is warned of. False with the error set when a value is wrong. */
bool option_variables_apply(const struct option_variables *variables, unsigned scope, struct options *options, struct error *error);

/* ---- One line of comma separated values, a field in double quotes where it holds a comma, "" for a quote in it. */

/* FIELD: there is one. END: there was none left. UNCLOSED: a quote has no end, or something stands behind it. FULL:
 * the store has no room. */
enum csv_outcome { CSV_FIELD, CSV_END, CSV_UNCLOSED, CSV_FULL };

/* Begin with `next` at the text; each call copies one field to the store. Quotes count only at the start of a field. */
struct csv {
    const char *next; /* NULL: after the last field */
    struct text_store *store;
    bool trim;        /* blanks around fields do not count */
};

enum csv_outcome csv_read(struct csv *csv, char **field);

/* ---- Who the program will be inside: account and group names, read without NSS (nothing is loaded into this program). */

/* Files and program asked; the real ones, or a test's. */
struct account_sources {
    const char *passwd;
    const char *group;
    const char *nsswitch;
    const char *getent;
    const char *subuid;
    const char *subgid;
};
extern const struct account_sources account_sources_usual;

/* Sets account_* from the entry of `uid` and `group` from those of the `count` ids in `gids`, in their order. One pass
 * over each file; what the files lack is asked of getent, once each, where nsswitch.conf names another source. What is
 * found nowhere stays out: account_name is NULL then. */
void account_read(const struct account_sources *sources, uid_t uid, const gid_t *gids, uint32_t count,
                  struct request *request, struct text_store *store);

/* Sets id_ranges, by the name that account_read() has found, where both files give the user a range. Nobody is asked: a service that
 * has ranges of its own is that of newuidmap(1). */
void account_ranges(const struct account_sources *sources, uid_t uid, struct request *request, struct text_store *store);

/* ---- Descriptors of the caller: standard streams, and those that the program gets too. */

/* Opens /dev/null in place of a closed standard stream, so that no later file becomes one. Stops when it cannot. */
void descriptors_begin(void);

/* Adds "N" or "all" (those that are open now) to the request's keep_fd. A directory is refused: it would lead out of
 * the container. */
bool descriptor_keep(struct request *request, const struct option_value *use, const char *text, struct error *error);

/* Adds the descriptor that `value` (the variable PMI_FD of an MPI launcher) names if it is a socket or a pipe. */
void descriptor_keep_pmi(struct request *request, const char *value);

/* ---- Names of capabilities. */

/* Adds one capability to a bit mask: its name with or without "CAP_", in any case, or "all". */
bool capability_take(const struct option_value *use, const char *name, uint64_t *mask, struct error *error);

/* The name of a bit of such a mask, without "CAP_" and in small letters. */
const char *capability_name(unsigned number);

/* ---- Options that people bring from Docker, and what stands in their place here: words for messages, nothing else. */

/* Of an option by its long name without dashes, which is none of ours; NULL: it is none of Docker's either. */
const char *docker_long(const char *name, size_t length);

/* Of a letter that is no option of a launch; `value` is what stands behind it, "" for nothing. NULL as above. */
const char *docker_letter(char letter, const char *value);

/* Of a flag of ours that has a value there, and the image behind it, which may be meant for that value. NULL as above. */
const char *docker_value(const char *flag, const char *image);

/* ---- Shell scripts that are read on the host, as the user: --env-file, and the init scripts of version 2. */

/* Evaluates the script at `path` in a shell that has `environment` and, as $1 and so on, `arguments` (both ended by
 * NULL), and leaves the variables of that shell in `variables`, whose arena must be ready. `own`: those that the script has
 * set, exported or not, and no others. Plain assignments are evaluated here; for anything else /bin/sh runs.
 * False with the error set; its number is ENOENT when there is no such file. */
bool host_script_evaluate(const char *path, char *const *environment, char *const *arguments, bool own,
                          struct variables *variables, struct error *error);

/* PWD, OLDPWD, SHLVL and _ : a shell's own, which say nothing about its script. */
bool host_script_own_variable(const char *name, size_t length);

/* ---- The init scripts of version 2: SYSCONFDIR/init of the site and ~/.singularity-init of the user set variables on the
 * host before a launch. */

/* `environment` as it is after the script at `path`, or itself where there is no such script. An LD_LIBRARY_PATH that the
 * script sets reaches the container too, where it is injected by nobody else. A script of the user's home must belong to
 * the caller or root, or is left out with a warning. NULL with the error set. */
char **init_script_apply(const char *path, bool of_home, char **environment, struct arena *arena, struct error *error);

/* ---- Variables for the container: --env and --env-file, handed on as SINGULARITYENV_NAME. */

enum { INJECTION_FILES = 64 };

struct injection {
    struct variables given; /* --env */
    struct {
        const char *path;
        const struct option_value *use;
    } files[INJECTION_FILES];
    uint32_t file_count;
};

/* Nothing is given yet. All texts and tables that follow live in `arena`. */
void injection_begin(struct injection *injection, struct arena *arena);

/* "NAME=VALUE" or, quoted as CSV, several. False with the error set. */
bool injection_take(struct injection *injection, const char *text, struct error *error);

/* A file for injection_finish to read; `use` is what names it. */
bool injection_take_file(struct injection *injection, const struct option_value *use, const char *path, struct error *error);

/* Reads the files and returns the environment to hand on: `environment` with SINGULARITYENV_NAME for all that was
 * given, in place of what it has by that name and by APPTAINERENV_NAME. --env goes before files, a later file before an
 * earlier one. `arguments` are the program's, which a file sees as $1 and so on. NULL with the error set. */
char **injection_finish(struct injection *injection, char **environment, char *const *arguments, struct error *error);

/* ---- The word that names the image, and the directory that words of the command line start from. */

/* Whether Python must make a path of it first: instance://, a URI, or an archive by its name. The only file that is
 * looked at is one whose name ends as an archive's: a directory of such a name is started as it is. */
bool image_name_resolved_elsewhere(const char *name);

/* What a SIF file says before it is launched; of any other file nothing. */
enum { BASE_DIGITS = 64 };
struct sif_look {
    bool encrypted;             /* Python decrypts it, and this program starts what it shows */
    bool lacks_names;           /* some were removed from it, and it has a list of them */
    char base[BASE_DIGITS + 1]; /* the SHA-256 of the image that it lies on; "": none */
    bool senseless;             /* what it says of that makes no sense, or it has overlays of its own: Python refuses it */
};
void sif_look(const char *name, struct sif_look *look);

/* Whether this node has a copy of an image, by `singularity stage`; then where it is. */
bool staged_find(const char *image, char *const *environment, char copy[PATH_MAX]);

/* Whether nothing in this directory makes it an image: neither what a root file system has, nor `program`, which may be
 * NULL. False for all that is no directory. */
bool image_name_mistaken(const char *directory, const char *program);

/* The current directory as the caller names it: PWD (`named`, may be NULL) when it is the same directory, else the
 * kernel's name. NULL: it was deleted, or lies outside of what this process can see. */
const char *current_directory(const char *named, char path[PATH_MAX]);

/* ---- From options to the launch request. */

/* --fabric: whose libraries for InfiniBand and the like a program uses. */
enum fabric { FABRIC_CONTAINER, FABRIC_AUTO, FABRIC_HOST };

/* --mpi: whose MPI a program is started with. */
enum mpi_choice { MPI_UNSAID, MPI_CONTAINER, MPI_AUTO, MPI_HOST };

/* What the front door must know of the site's configuration: "always use nv", "always use rocm", "mpi", "linger", "exit statuses", "user bind
 * control", "allow user ns". The starter reads and judges the whole of it. */
struct config_keys {
    bool always_nv;
    bool always_rocm;
    enum mpi_choice mpi;
    uint64_t linger; /* seconds */
    bool family_statuses;
    bool binds_refused, userns_refused;
};

/* --join: AUTO shares where a launcher of ranks names the job step, YES also where only the session is common, or a name
 * that was given, NO never. */
enum join_wish { JOIN_AUTO, JOIN_YES, JOIN_NO };
enum { JOIN_NAME = 200 }; /* bytes of such a name */

/* NETWORK_PORTS: how long the text of a network's ports may be. */
enum { ASKED_DEVICES = 64, NETWORK_PORTS = 1024 };

struct invocation {
    struct request request;
    struct injection injection; /* variables for the container travel in the environment, not in the request */
    struct text_store store;    /* room for the request's texts, in its own text_store */
    const char *cwd;            /* NULL: deleted */
    bool root;
    enum fabric fabric;
    enum mpi_choice mpi;
    enum join_wish join;
    const char *join_name;      /* of --join=@NAME; NULL: none */
    uint64_t linger;            /* seconds for which the image is to stay mounted */
    bool linger_said;           /* that is the user's word, 0 too */
    bool statuses_said;
    const char *pid_file;       /* where the number of an instance's first process is written; NULL: nowhere */
    const char *devices[ASKED_DEVICES], *cdi_directories[ASKED_DEVICES]; /* --device, --cdi-dirs */
    const char *network, *network_ports; /* --network, and the ports of --network-args; or NULL */
    bool network_from_variable;
    struct option_value network_argument; /* one that only plug-ins know; without a name: there is none */
    const char *host_commands[COMMANDS_LIMIT]; /* --host-cmd */
    uint32_t device_count, cdi_directory_count, host_command_count;
    struct config_keys keys;
};

/* An empty request, in an `invocation` that is all zero (it is large: fresh memory is not touched more than needed). `arena` is
 * for the variables of the container. */
void invocation_begin(struct invocation *invocation, struct arena *arena, const char *cwd, bool root);

/* Makes the lowest base the image, and lays what is on it over it, the lowest of all overlays; `look` is at the image, which may be
 * whole. UNKNOWN: Python must look for a base; REFUSED: the error is set. What Python has handed over leaves `environment`. */
enum base_outcome { BASE_FOUND, BASE_UNKNOWN, BASE_REFUSED };
enum base_outcome bases_take(struct invocation *invocation, const struct sif_look *look, char **environment, struct error *error);

/* Asks for the image server where it can be had, which tells of names that the image has no more. */
void removed_names_take(struct invocation *invocation, const struct options *options);

/* Fills in what the options say. Opens nothing. False with the error set: a value that cannot be meant. */
bool invocation_take_options(struct invocation *invocation, unsigned scope, const struct options *options, struct error *error);

/* BIND_* of a bind by this option or variable: what messages of the starter are to name. */
uint64_t invocation_origin(const struct invocation *invocation, const struct option_value *use);

/* Sets the image: a path, made absolute. */
bool invocation_take_image(struct invocation *invocation, const char *image, struct error *error);

/* The message level that options and variables ask for. False with the error set: MESSAGELEVEL is no number. */
bool options_level(const struct options *options, int *level, struct error *error);

/* ---- The two languages of user binds. */

/* After all that an option, a variable or the site's configuration says: what is written into the image goes to --workdir. */
void on_disk_take(struct invocation *invocation);

/* Adds the binds of "SOURCE[:TARGET[:OPTIONS]],..." to the request; "\:" and "\," stand for the characters. Relative
 * sources start at the current directory, targets are absolute. A bind that is there already is not added again.
 * False with the error set, which names the option or variable of `use`. */
bool bind_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error);

/* The same for "IMAGE:TARGET" of --data. */
bool data_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error);

/* A library of the host, shown where the loader of every container looks. */
bool bind_library_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error);

/* The same for "type=bind,source=S,target=T[,readonly]", one or several separated by newlines. */
bool mount_value_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error);

/* ---- What each option that has a value means: one function an option, from its text to the request. */

/* `text` is the value, or one element of a CSV list. False with the error set, which names the option. */
typedef bool take_value(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error);

/* By option; NULL where there is nothing to do with a value here. */
extern take_value *const option_takers[OPTION_COUNT];

/* Those of what a program does without (restrictions.c). */
take_value allow_path_take, security_take;

/* One name of --host-cmd (host_commands.c). */
take_value host_command_take;

/* And the flags of that kind, after all options. */
enum { RECORD_HANDED = '@' }; /* --record=@NUMBER: a descriptor, from the Python half */
bool restriction_flags_take(struct invocation *invocation, const struct options *options, struct error *error);

/* What --network and --network-args say together, into the request. */
bool network_decide(struct invocation *invocation, struct error *error);

/* Asks the Python half what only that knows, where the request has such questions: root's policy on capabilities, of which what it does
 * not allow is taken out with a warning; what devices need; and filters_take(). Ends the process with Python's own line and status where that
 * fails. */
bool answers_take(struct invocation *invocation, const struct installation *installation, const struct options *options, char *const *environment,
                  struct error *error);

/* Profiles of system calls, whose filters are open from then on; those that are open already stay. */
bool filters_take(struct invocation *invocation, const struct installation *installation, char *const *environment, struct error *error);

/* ---- Commands of the host for programs in the container (commands/commands.h). */

/* Finds the commands of --host-cmd on the host, if the site allows them, starts their helper, which lives as long as this process, and adds
 * to the request what the container sees of them. `commands` has the caller's environment, stack and command line. False with the error
 * set. */
bool host_commands_begin(struct invocation *invocation, const struct installation *installation, struct commands *commands,
                         struct error *error);

/* Sets the error of a request whose texts have no room left; always false. */
bool request_full(struct error *error);

/* ---- The site's configuration. */

/* Without a file, or with one that cannot be read, the defaults of config.def. */
void config_keys_read(const struct installation *installation, struct config_keys *keys);

/* The entries of a key that is a list, in the order of the file, copied into the store; those beyond `limit` are left out. */
size_t config_list_read(const struct installation *installation, const char *key, struct text_store *store, const char **items, size_t limit);

/* ---- Variables that the C library takes from a setuid program before it can look. */

/* The environment, and each such variable a second time under a name of ours; the starter gives them to the program. */
char **unsecure_variables_keep(struct arena *arena, char **environment);

#endif
