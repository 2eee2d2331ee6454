/* Which instances there are, as files of the user's say it: found, reserved, written and read. As the user; whoever else can write there is
 * refused. */
#include "instance.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../named.h"
#include "../restriction.h"
#include "../variable.h"

enum { STATE_LIMIT = 3 << 20 };
#define LOCK "lock~" /* no name of an instance */

const char *instance_named(const char *image)
{
    const size_t length = strlen(INSTANCE_IMAGE);

    return strncmp(image, INSTANCE_IMAGE, length) == 0 ? image + length : NULL;
}

/* Also a name of a directory, which must not lead to another one. */
static bool name_valid(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    return *name != '\0' && strlen(name) <= INSTANCE_NAME && name[strspn(name, letters)] == '\0' && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* ---- which process ---- */

static ssize_t read_text(int directory, const char *path, char *text, size_t size)
{
    OWNED_FD file = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    size_t used = 0;

    for (ssize_t got = 1; file >= 0 && got > 0 && used < size - 1; used += got > 0 ? (size_t)got : 0)
        got = read(file, text + used, size - 1 - used);
    text[used] = '\0';
    return file < 0 ? -1 : (ssize_t)used;
}

/* The name of the program, in parentheses, may hold anything; the start is the 20th field behind it (proc_pid_stat(5)). A zombie has
 * ended. */
bool process_identity(pid_t process, char identity[INSTANCE_IDENTITY])
{
    char boot[64], text[1024], path[32], state;
    unsigned long long start;
    struct stat space;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
    if (stat("/proc/self/ns/pid", &space) < 0 || read_text(AT_FDCWD, "/proc/sys/kernel/random/boot_id", boot, sizeof boot) <= 0 ||
        read_text(AT_FDCWD, path, text, sizeof text) <= 0)
        return false;
    const char *behind = strrchr(text, ')');
    if (behind == NULL ||
        sscanf(behind + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &state, &start) != 2 ||
        state == 'Z' || state == 'X')
        return false;
    boot[strcspn(boot, "\n")] = '\0';
    snprintf(identity, INSTANCE_IDENTITY, "%.40s %llu %llu", boot, (unsigned long long)space.st_ino, start);
    return true;
}

/* ---- places ---- */

/* One directory, which nobody else can write, and no link; the one above is closed. */
static int descend(int above, const char *name, bool make, struct error *error)
{
    struct stat status;
    OWNED_FD parent = above;

    if (make && mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return error_set(error, errno, "instances: %s", name), -1;
    OWNED_FD here = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (here < 0 || fstat(here, &status) < 0)
        return error_set(error, errno, "instances: %s", name), -1;
    if (status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return error_set(error, 0, "instances: the directory %s is not yours alone (remove it, or: chmod go-w)", name), -1;
    return fd_give(&here);
}

/* The user's own directory may be a link to another place: it is named, and not found below another. */
static int open_directory(const struct instance *instance, bool make, struct error *error)
{
    struct stat status;

    if (make && mkdir(instance->directory, 0700) < 0 && errno != EEXIST)
        return error_set(error, errno, "%s", instance->directory), -1;
    OWNED_FD directory = open(instance->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || fstat(directory, &status) < 0)
        return error_set(error, errno, "%s", instance->directory), -1;
    if (status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return error_set(error, 0, "%s: not yours alone, as the list of your instances must be (name another with "
                         "SINGULARITY_CONFIGDIR, or: chmod go-w)", instance->directory), -1;
    return fd_give(&directory);
}

/* DIRECTORY/instances/KIND/HOST/USER */
static int open_place(const struct instance *instance, const char *kind, bool make, struct error *error)
{
    const char *const names[] = {"instances", kind, instance->host, instance->user};
    int place = open_directory(instance, make, error);

    for (size_t i = 0; i < sizeof names / sizeof names[0] && place >= 0; i++)
        place = descend(place, names[i], make, error);
    return place;
}

static bool is_component(const char *name)
{
    return *name != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* As singularity/instance/places.py finds them. */
static bool find_names(struct instance *instance, const struct invocation *invocation, char *const *environment)
{
    static char number[16];
    const char *name = invocation->request.account_name, *home = variable(environment, "HOME");
    const char *named = variable(environment, "SINGULARITY_CONFIGDIR");
    struct utsname host;
    int length;

    snprintf(number, sizeof number, "%u", (unsigned)getuid());
    instance->user = name != NULL && is_component(name) ? name : number;
    snprintf(instance->host, sizeof instance->host, "%s", uname(&host) == 0 && is_component(host.nodename) ? host.nodename : "localhost");
    if (named == NULL || *named == '\0')
        named = variable(environment, "APPTAINER_CONFIGDIR");
    if (home == NULL || *home == '\0')
        home = invocation->request.account_home;
    if (named != NULL && *named == '/')
        length = snprintf(instance->directory, PATH_MAX, "%s", named);
    else if (named != NULL && *named != '\0')
        length = snprintf(instance->directory, PATH_MAX, "%s/%s", invocation->cwd != NULL ? invocation->cwd : "", named);
    else
        length = snprintf(instance->directory, PATH_MAX, "%s/.singularity", home != NULL ? home : "");
    return length > 0 && length < PATH_MAX;
}

bool instance_open(struct instance *instance, const struct invocation *invocation, char *const *environment, const char *name,
                   bool make, struct error *error)
{
    instance->name = name;
    instance->states = instance->state = -1;
    if (!name_valid(name))
        return error_set(error, 0, "\"%.80s\" is no name of an instance (letters, digits, \".\", \"_\" and \"-\", at most %d)", name,
                         INSTANCE_NAME);
    if (!find_names(instance, invocation, environment))
        return error_set(error, ENAMETOOLONG, "the directory of your own files");
    instance->states = open_place(instance, "app", make, error);
    if (instance->states >= 0)
        instance->state = descend(dup(instance->states), name, make, error);
    return instance->state >= 0;
}

int instance_logs(const struct instance *instance, struct error *error)
{
    return open_place(instance, "logs", true, error);
}

/* ---- what is written down ---- */

static void put_text(FILE *file, const char *text)
{
    putc('"', file);
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (*at < 0x20 || *at == 0x7f)
            fprintf(file, "\\u%04x", *at);
        else
            fprintf(file, "%s%c", *at == '"' || *at == '\\' ? "\\" : "", *at);
    }
    putc('"', file);
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put_base64(FILE *file, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t three = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? (uint32_t)bytes[i + 2] : 0);
        for (unsigned place = 0; place < 4; place++)
            putc(place > left ? '=' : digits[three >> (18 - 6 * place) & 63], file);
    }
}

/* Only what enters needs: how it was started is over. */
static size_t encode(const struct request *request, bool userns, uint8_t bytes[REQUEST_LIMIT], struct error *error)
{
    static struct request kept; /* too large for a stack that may be limited */

    memcpy(&kept, request, offsetof(struct request, text_store));
    kept.instance_starts = false;
    kept.userns |= userns;
    kept.keep_fd_count = 0;
    kept.action = ACTION_EXEC;
    return request_encode(&kept, bytes, REQUEST_LIMIT, error);
}

/* The control group of version 2 that limits have made for a process and its children, as singularity/limits/groups.py names it; false: there
 * is none. */
static bool limited_group(pid_t process, char group[PATH_MAX])
{
    static const char own[] = "/singularity-";
    char path[40], text[2 * PATH_MAX];

    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)process);
    if (read_text(AT_FDCWD, path, text, sizeof text) <= 0)
        return false;
    const char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    if (line == NULL)
        return false;
    line = strchr(line, '/');
    snprintf(group, PATH_MAX, "%.*s", line != NULL ? (int)strcspn(line, "\n") : 0, line != NULL ? line : "");
    const char *last = strrchr(group, '/');
    return last != NULL && strncmp(last, own, strlen(own)) == 0;
}

/* Who enters is limited as the instance is; where the kernel does not let him into its group he hears it. */
static void share_limits(pid_t process, const char *name)
{
    char group[PATH_MAX], path[PATH_MAX + 40];

    if (!limited_group(process, group))
        return;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cgroup.procs", group);
    OWNED_FD procs = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (procs < 0 || write(procs, "0", 1) != 1)
        message_warning("instance %s: its limits do not hold for what is started here: %s: %s (systemd-run --user --scope starts where it may "
                    "be joined)", name, path, strerror(errno));
}

/* One that was started in another network namespace than this launch's is entered there: root's, of plugins or by --netns-path, for nobody
 * else could have got into it. */
static bool share_network(pid_t process, const char *name, struct error *error)
{
    char path[40];
    struct stat own, other;

    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)process);
    OWNED_FD space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || fstat(space, &other) < 0 || stat("/proc/self/ns/net", &own) < 0)
        return error_set(error, errno, "instance %s: its network", name);
    return own.st_ino == other.st_ino || setns(space, CLONE_NEWNET) == 0 || error_set(error, errno, "instance %s: its network", name);
}

static void put_state(FILE *file, const struct instance *instance, const struct instance_state *state, const uint8_t *bytes, size_t size,
                      const char *image)
{
    char group[PATH_MAX];

    fprintf(file, "{\n\t\"pid\": %d,\n\t\"ppid\": %d,\n\t\"name\": \"%s\",\n\t\"user\": ", (int)state->process, (int)state->launcher,
            instance->name);
    put_text(file, instance->user);
    fputs(",\n\t\"image\": ", file);
    put_text(file, image);
    fputs(",\n\t\"config\": \"", file);
    put_base64(file, bytes, size);
    fprintf(file, "\",\n\t\"userns\": %s,\n\t\"cgroup\": %s,\n\t\"ip\": \"\",\n\t\"logErrPath\": ", state->userns ? "true" : "false",
            limited_group(getpid(), group) ? "true" : "false");
    put_text(file, instance->logs[1]);
    fputs(",\n\t\"logOutPath\": ", file);
    put_text(file, instance->logs[0]);
    fprintf(file, ",\n\t\"checkpoint\": \"\",\n\t\"sharensMode\": false,\n\t\"started\": \"%s\",\n\t\"pidNamespace\": %llu\n}\n", state->identity,
            state->space);
}

static const char *state_name(const struct instance *instance, char name[INSTANCE_NAME + 8])
{
    snprintf(name, INSTANCE_NAME + 8, "%.*s.json", INSTANCE_NAME, instance->name);
    return name;
}

bool instance_write(const struct instance *instance, const struct instance_state *state, const struct request *request,
                    struct error *error)
{
    static uint8_t bytes[REQUEST_LIMIT];
    char name[INSTANCE_NAME + 8];
    size_t size = encode(request, state->userns, bytes, error);

    if (size == 0)
        return false;
    (void)unlinkat(instance->state, "new", 0);
    int fd = openat(instance->state, "new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL)
        return error_set(error, errno, "write down instance %s in %s", instance->name, instance->directory);
    put_state(file, instance, state, bytes, size, image_named(request));
    bool written = ferror(file) == 0;
    if (fclose(file) == 0 && written && renameat(instance->state, "new", instance->state, state_name(instance, name)) == 0)
        return true;
    error_set(error, errno, "write down instance %s in %s", instance->name, instance->directory);
    (void)unlinkat(instance->state, "new", 0);
    return false;
}

void instance_remove(const struct instance *instance)
{
    char name[INSTANCE_NAME + 8];

    (void)unlinkat(instance->state, state_name(instance, name), 0);
    (void)unlinkat(instance->state, "new", 0);
    (void)unlinkat(instance->states, instance->name, AT_REMOVEDIR);
}

/* ---- ... and read ---- */

/* Where the value of a member begins. Quotes within texts are escaped, so that nothing else looks like it. */
static const char *member(const char *text, const char *name)
{
    char key[32];

    snprintf(key, sizeof key, "\n\t\"%s\": ", name);
    const char *at = strstr(text, key);
    return at != NULL ? at + strlen(key) : "";
}

/* The bytes of a text; 0: it is none, or too long. */
static size_t decode(const char *text, uint8_t *bytes, size_t room)
{
    uint32_t bits = 0;
    size_t size = 0, count = 0;

    for (; *text != '"' && *text != '='; text++) {
        const char *digit = *text != '\0' ? strchr(digits, *text) : NULL;
        if (digit == NULL || size == room)
            return 0;
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (++count % 4 != 1)
            bytes[size++] = (uint8_t)(bits >> (2 * ((4 - count % 4) % 4)));
    }
    return size;
}

enum life { NONE, GONE, ALIVE, ELSEWHERE };

/* Of another PID namespace nobody here can say whether it lives; before another start of the machine nothing does. */
static enum life look(const char *text)
{
    const char *started = member(text, "started");
    pid_t process = atoi(member(text, "pid"));
    char identity[INSTANCE_IDENTITY], own[INSTANCE_IDENTITY];

    if (*started != '"' || !process_identity(getpid(), own))
        return NONE;
    size_t boot = strcspn(own, " ") + 1, space = boot + strcspn(own + boot, " ") + 1, length = strcspn(++started, "\"");
    if (strncmp(started, own, boot) != 0)
        return GONE;
    if (strncmp(started, own, space) != 0)
        return ELSEWHERE;
    if (!process_identity(process > 0 ? process : atoi(member(text, "ppid")), identity))
        return GONE;
    return strlen(identity) == length && memcmp(identity, started, length) == 0 ? ALIVE : GONE;
}

/* The state of an instance as text, which the next call overwrites; "": there is none. */
static const char *read_state(const struct instance *instance)
{
    static char text[STATE_LIMIT]; /* too large for a stack that may be limited */
    char name[INSTANCE_NAME + 8];

    return read_text(instance->state, state_name(instance, name), text, sizeof text) > 0 ? text : "";
}

/* The lock is for the moment between look and word, for two who start one at once or find that it has ended. Where the file system has
 * none the moment is short. */
static int lock_states(const struct instance *instance)
{
    int lock = openat(instance->states, LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    while (lock >= 0 && flock(lock, LOCK_EX) < 0 && errno == EINTR)
        continue;
    return lock;
}

bool instance_reserve(struct instance *instance, const struct request *request, struct error *error)
{
    struct instance_state state = {.launcher = getpid()};
    OWNED_FD lock = lock_states(instance);
    enum life life = look(read_state(instance));

    if (life == ALIVE || life == ELSEWHERE)
        return error_set(error, 0, "instance %s already exists%s", instance->name, life == ELSEWHERE ? " (in another container)" : "");
    /* who ended one may have removed the directory since it was opened */
    fd_close(&instance->state);
    if ((instance->state = descend(dup(instance->states), instance->name, true, error)) < 0)
        return false;
    if (!process_identity(getpid(), state.identity))
        return error_set(error, 0, "an instance needs /proc, to be known again");
    return instance_write(instance, &state, request, error);
}

/* Of these one rules: two lists of paths would allow the sum of them, and the later of two labels would take the place of the other. */
static uint64_t ruling_kind(const struct request_entry *entry)
{
    const uint64_t kind = entry->number & RESTRICTION_KIND;

    if (kind == RESTRICTION_HOME || kind == RESTRICTION_NETWORK || kind == RESTRICTION_FILTER)
        return RESTRICTION_KINDS;
    return kind == RESTRICTION_PATH_READ ? RESTRICTION_PATH : kind;
}

static bool ruled_by(const struct request *own, const struct request_entry *entry)
{
    for (uint32_t i = 0; i < own->restriction_count; i++)
        if (ruling_kind(entry) != RESTRICTION_KINDS && ruling_kind(&own->restriction[i]) == ruling_kind(entry))
            return true;
    return false;
}

/* What a program of the instance does without, and what this one does without besides; of a filter only the profile is written down,
 * which is compiled once more. */
static bool take_restrictions(struct request *found, const struct request *own, struct error *error)
{
    const uint32_t limit = sizeof found->restriction / sizeof found->restriction[0], before = found->restriction_count;

    found->restriction_count = 0;
    for (uint32_t i = 0; i < before; i++)
        if (!ruled_by(own, &found->restriction[i])) {
            found->restriction[found->restriction_count] = found->restriction[i];
            found->restriction[found->restriction_count++].number &= RESTRICTION_KIND;
        }
    if (own->restriction_count > limit - found->restriction_count)
        return error_set(error, 0, "instance %s: more than %u restrictions, with those that it was started with", found->instance, limit);
    memcpy(found->restriction + found->restriction_count, own->restriction, own->restriction_count * sizeof own->restriction[0]);
    found->restriction_count += own->restriction_count;
    found->drop_caps |= own->drop_caps;
    found->no_privs |= own->no_privs;
    return true;
}

/* Less isolation than somebody relies on is no launch (R-L9). Of the other namespaces those who enter are told that they are what they are. */
static bool has_network(const struct request *found, const struct request *own, struct error *error)
{
    if (!own->net || (found->net && (own->network_ports == NULL) == (found->network_ports == NULL)))
        return true;
    return error_set(error, 0, "--net: instance %s has another network, and cannot get this one any more (start one with it)", found->instance);
}

/* What a launch that enters has of its own. */
static bool take_own(struct request *found, const struct request *own, struct error *error)
{
    found->action = own->action;
    found->level = own->level;
    found->colour = own->colour;
    found->new_session = own->new_session;
    found->cleanenv = own->cleanenv;
    found->no_eval = own->no_eval;
    found->no_umask = own->no_umask;
    found->family_statuses = own->family_statuses;
    found->stack_soft = own->stack_soft;
    found->shell = own->shell;
    found->app = own->app;
    found->cwd = own->cwd;
    found->target_cwd = own->target_cwd;
    memcpy(found->keep_fd, own->keep_fd, sizeof found->keep_fd);
    found->keep_fd_count = own->keep_fd_count;
    return has_network(found, own, error) && take_restrictions(found, own, error);
}

bool instance_find(struct invocation *invocation, char *const *environment, const char *name, struct error *error)
{
    static struct request found; /* its texts are used until the end */
    static uint8_t bytes[REQUEST_LIMIT];
    struct instance instance;
    struct error why = {0};
    const char *text;

    if (!instance_open(&instance, invocation, environment, name, false, &why) && why.number != ENOENT) {
        *error = why;
        return false;
    }
    text = instance.state >= 0 ? read_state(&instance) : "";
    enum life life = look(text);
    fd_close(&instance.state);
    fd_close(&instance.states);
    if (life == ELSEWHERE)
        return error_set(error, 0, "instance %s cannot be entered from here: it runs in another PID namespace", name);
    if (life != ALIVE || atoi(member(text, "pid")) <= 0)
        return error_set(error, 0, "no instance found with name %s (see: singularity instance list)", name);
    size_t size = decode(*member(text, "config") == '"' ? member(text, "config") + 1 : "", bytes, sizeof bytes);
    if (size == 0 || !request_decode(bytes, size, &found, &why) || found.instance == NULL || strcmp(found.instance, name) != 0)
        return error_set(error, 0, "instance %s: what is written down of it in %s cannot be read (was it started by another version?)", name,
                         instance.directory);
    if (!take_own(&found, &invocation->request, error))
        return false;
    memcpy(&invocation->request, &found, offsetof(struct request, text_store));
    share_limits(atoi(member(text, "pid")), name);
    return getuid() != 0 || found.net || share_network(atoi(member(text, "pid")), name, error);
}
