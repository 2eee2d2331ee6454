/* What each option with a value does to the request, by the table of options.def. */
#include "front.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../suggest.h"

/* __NEW_UTS_LEN of the kernel (sethostname(2)) */
enum { HOSTNAME_LIMIT = 64, DNS_LIMIT = 512 };
#define LIST_LIMIT(list) (sizeof((struct request *)NULL)->list / sizeof(struct request_entry))

bool request_full(struct error *error)
{
    return error_set(error, 0, "the options of this launch are longer than %d bytes together", REQUEST_LIMIT);
}

/* A path of the host, into `member`. Made absolute here, since the starter has no current directory of the user's.
 * ".." stays: only the kernel knows where it leads past a link. */
static bool host_path(struct invocation *invocation, const struct option_value *use, const char *text, size_t length,
                      const char **member, struct error *error)
{
    if (text[0] != '/' && invocation->cwd == NULL)
        return error_set(error, ENOENT, "%.*s %.60s: relative to the current directory, which is gone", OPTION_NAME(use), text);
    *member = text_path(&invocation->store, invocation->cwd, text, length);
    if (*member != NULL && strlen(*member) >= PATH_MAX)
        return error_set(error, ENAMETOOLONG, "%.*s %.60s...", OPTION_NAME(use), text);
    return *member != NULL || request_full(error);
}

/* A path of the container, into `member`; a relative one starts at `base`, and is refused without one. ".." is folded
 * here: the path may not exist yet, so there is no link to ask. */
static bool container_path(struct invocation *invocation, const struct option_value *use, const char *base, const char *text,
                           const char **member, struct error *error)
{
    if (base == NULL && text[0] != '/')
        return error_set(error, 0, "%.*s: the path in the container must begin with \"/\", not \"%.60s\"", OPTION_NAME(use), text);
    *member = text_target(&invocation->store, base, text, strlen(text));
    if (*member != NULL && strlen(*member) >= PATH_MAX)
        return error_set(error, ENAMETOOLONG, "%.*s %.60s...", OPTION_NAME(use), text);
    return *member != NULL || request_full(error);
}

static bool list_add(struct request_entry *list, uint32_t *count, size_t limit, struct request_entry entry,
                     const struct option_value *use, struct error *error)
{
    if (*count == limit)
        return error_set(error, 0, "%.*s: more than %zu times", OPTION_NAME(use), limit);
    list[(*count)++] = entry;
    return true;
}

/* Not into the request but into the environment, where the starter, which does not look at it, passes it on. */
static bool take_env(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    (void)use;
    return injection_take(&invocation->injection, text, error);
}

static bool take_env_file(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return injection_take_file(&invocation->injection, use, text, error);
}

/* One colon at most; no escapes, unlike --bind, as in the rest of the family. */
static bool take_home(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    struct request *request = &invocation->request;
    size_t length = strcspn(text, ":");

    if (length == 0 || (text[length] == ':' && (text[length + 1] == '\0' || strchr(text + length + 1, ':') != NULL)))
        return error_set(error, 0, "%.*s %.200s: SOURCE or SOURCE:TARGET is wanted", OPTION_NAME(use), text);
    return host_path(invocation, use, text, length, &request->home_source, error) &&
           (text[length] == '\0' || container_path(invocation, use, NULL, text + length + 1, &request->home_target, error));
}

static bool take_workdir(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return host_path(invocation, use, text, strlen(text), &invocation->request.workdir, error);
}

static bool take_cwd(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    const char *base = invocation->cwd != NULL ? invocation->cwd : "/";

    return container_path(invocation, use, base, text, &invocation->request.target_cwd, error);
}

/* Without a base: a scratch directory has no reason to lie beneath a directory of the host. */
static bool take_scratch(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    struct request *request = &invocation->request;
    struct request_entry entry = {.second = ""};

    return container_path(invocation, use, NULL, text, &entry.first, error) &&
           list_add(request->scratch, &request->scratch_count, LIST_LIMIT(scratch), entry, use, error);
}

/* ":ro" and ":rw" at the end only, for a colon is a letter like any other in a path. */
static bool take_overlay(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    struct request *request = &invocation->request;
    size_t length = strlen(text);
    const char *suffix = length > 3 ? text + length - 3 : "";
    struct request_entry entry = {.second = "", .number = strcmp(suffix, ":ro") == 0 ? OVERLAY_READONLY : 0};

    if (entry.number != 0 || strcmp(suffix, ":rw") == 0)
        length -= 3;
    return host_path(invocation, use, text, length, &entry.first, error) &&
           list_add(request->overlay, &request->overlay_count, LIST_LIMIT(overlay), entry, use, error);
}

/* An unknown word is a warning and no error: newer programs of the family know more of them, and leaving out what is
 * never mounted is no loss. */
static bool take_no_mount(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    static const char words[] = "proc,sys,dev,devpts,home,tmp,hostfs,cwd,bind-paths";
    struct request *request = &invocation->request;
    struct request_entry entry = {.second = ""};
    struct suggestion nearest = {.word = text, .length = strlen(text)};

    if (text[0] != '/' && !name_listed(words, text, strlen(text), NULL)) {
        suggest_from_list(&nearest, words);
        message_warning("%.*s: \"%.60s\" is no mount of ours%s%.*s%s", OPTION_NAME(use), text,
                        nearest.found_length > 0 ? " (did you mean " : "", (int)nearest.found_length,
                        nearest.found != NULL ? nearest.found : "", nearest.found_length > 0 ? "?)" : "");
        return true;
    }
    if (text[0] == '/' && !container_path(invocation, use, NULL, text, &entry.first, error))
        return false;
    if (text[0] != '/' && (entry.first = text_copy(&invocation->store, text, strlen(text))) == NULL)
        return request_full(error);
    return list_add(request->no_mount, &request->no_mount_count, LIST_LIMIT(no_mount), entry, use, error);
}

static bool has_no_other(const char *network)
{
    return strcmp(network, "none") == 0 || strcmp(network, "host") == 0;
}

/* Decided when all options are known: network_decide(). An option replaces what a variable has said; of two options no one can tell which is
 * meant, and a container that was to have none would have the host's. */
static bool take_network(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    static const char *const ours[] = {"none", "host", "bridge", "fakeroot"};
    bool known = invocation->root;
    const char *before = use->from_variable == invocation->network_from_variable ? invocation->network : NULL;

    if (before != NULL && strcmp(before, text) != 0 && (has_no_other(before) || has_no_other(text)))
        return error_set(error, 0, "%.*s %.60s: %s goes with no other network (%s is asked for, too)", OPTION_NAME(use), text,
                         has_no_other(text) ? text : before, has_no_other(text) ? before : text);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        known |= strcmp(text, ours[i]) == 0;
    invocation->network = text;
    invocation->network_from_variable = use->from_variable;
    return known || error_set(error, 0, "%.*s %.60s: not available here (networks are none, host, and bridge or fakeroot, which pasta carries; "
                              "those of the site are root's)", OPTION_NAME(use), text);
}

/* A number from 1 to 65535, up to one of `ends`; its length, or 0. */
static size_t port_length(const char *text)
{
    size_t length = strspn(text, "0123456789");
    unsigned long value = length > 0 && length < 6 ? strtoul(text, NULL, 10) : 0;

    return value > 0 && value <= UINT16_MAX ? length : 0;
}

/* HOST[:CONTAINER][/tcp|/udp] */
static bool ports_valid(const char *text)
{
    size_t length = port_length(text);

    if (length > 0 && text[length] == ':')
        length = port_length(text + length + 1) > 0 ? length + 1 + port_length(text + length + 1) : 0;
    return length > 0 && (text[length] == '\0' || strcmp(text + length, "/tcp") == 0 || strcmp(text + length, "/udp") == 0);
}

/* Arguments of the network, of which ports are the one that a carried network has; "none" is what a launch that has them already says in
 * place of a variable. */
static bool take_network_args(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    static const char portmap[] = "portmap=";
    char list[NETWORK_PORTS];

    if (strcmp(text, "none") == 0)
        return true;
    if (strncmp(text, portmap, sizeof portmap - 1) != 0) {
        invocation->network_argument = *use;
        return strchr(text, '=') != NULL || error_set(error, 0, "%.*s: \"%.60s\": NAME=VALUE is wanted", OPTION_NAME(use), text);
    }
    if (!ports_valid(text + sizeof portmap - 1))
        return error_set(error, 0, "%.*s: \"%.60s\": \"portmap=HOST:CONTAINER/tcp\" is wanted, or /udp", OPTION_NAME(use), text);
    const char *before = invocation->network_ports != NULL ? invocation->network_ports : "";
    int length = snprintf(list, sizeof list, "%s%s%s", before, *before != '\0' ? "," : "", text + sizeof portmap - 1);
    if (length < 0 || (size_t)length >= sizeof list)
        return error_set(error, 0, "%.*s: too many ports", OPTION_NAME(use));
    invocation->network_ports = text_copy(&invocation->store, list, (size_t)length);
    return invocation->network_ports != NULL || request_full(error);
}

/* An instance has its network; all others have entered this one already. */
static bool take_netns_path(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    (void)use, (void)error;
    invocation->request.net |= strcmp(text, "none") != 0;
    return true;
}

/* "none" is what a new network namespace is by itself, and has no use for addresses that somebody asks plug-ins for. Root's networks are those of
 * the site: a launch of them is not this far yet (singularity/network), and an instance has its network. */
bool network_decide(struct invocation *invocation, struct error *error)
{
    struct request *request = &invocation->request;
    const char *name = invocation->network;

    const struct option_value *argument = &invocation->network_argument;

    if (name == NULL && invocation->network_ports == NULL && argument->name == NULL)
        return true;
    if (name != NULL && has_no_other(name)) {
        request->net = strcmp(name, "none") == 0;
        return invocation->network_ports == NULL || error_set(error, 0, "--network-args: network %s has no ports that could be forwarded", name);
    }
    if (argument->name != NULL && !invocation->root)
        return error_set(error, 0, "%.*s: \"%.60s\": \"portmap=HOST:CONTAINER/tcp\" is wanted, or /udp", OPTION_NAME(argument), argument->text);
    request->net = true;
    request->userns |= !invocation->root; /* who carries it must be able to enter the namespaces, as the user */
    request->network_ports = invocation->network_ports != NULL ? invocation->network_ports : "";
    return true;
}

/* RFC 952 and 1123: labels of letters, digits and inner hyphens, up to what the kernel holds. */
static bool hostname_valid(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

    if (strlen(name) > HOSTNAME_LIMIT)
        return false;
    for (;;) {
        size_t length = strcspn(name, ".");
        if (length == 0 || strchr(letters, name[0]) == NULL || strchr(letters, name[length - 1]) == NULL)
            return false;
        for (size_t i = 0; i < length; i++)
            if (name[i] != '-' && strchr(letters, name[i]) == NULL)
                return false;
        if (name[length] == '\0')
            return true;
        name += length + 1;
    }
}

/* A name of one's own needs a UTS namespace, so it brings one along. */
static bool take_hostname(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    if (!hostname_valid(text))
        return error_set(error, 0, "%.*s %.80s: no host name (letters, digits, hyphens and dots, at most %d)",
                         OPTION_NAME(use), text, HOSTNAME_LIMIT);
    invocation->request.hostname = text;
    invocation->request.uts = true;
    return true;
}

/* Addresses only: resolv.conf(5) knows no names for servers. */
static bool take_dns(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    struct request *request = &invocation->request;
    const char *before = request->dns != NULL ? request->dns : "";
    size_t used = strlen(before), size = strlen(text);
    unsigned char address[sizeof(struct in6_addr)];
    char list[DNS_LIMIT];

    if (inet_pton(AF_INET, text, address) != 1 && inet_pton(AF_INET6, text, address) != 1)
        return error_set(error, 0, "%.*s: \"%.60s\" is no IP address", OPTION_NAME(use), text);
    if (used + size + 2 > sizeof list)
        return error_set(error, 0, "%.*s: too many addresses", OPTION_NAME(use));
    memcpy(list, before, used);
    if (used > 0)
        list[used++] = ',';
    memcpy(list + used, text, size);
    request->dns = text_copy(&invocation->store, list, used + size);
    return request->dns != NULL || request_full(error);
}

static bool take_shell(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    (void)error;
    (void)use;
    invocation->request.shell = text;
    return true;
}

/* A name becomes a part of a path inside: "/" and a dot at the start would lead somewhere else. */
static bool take_app(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    if (strchr(text, '/') != NULL || text[0] == '.')
        return error_set(error, 0, "%.*s %.60s: no name of an application", OPTION_NAME(use), text);
    invocation->request.app = text;
    return true;
}

static bool take_add_caps(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return capability_take(use, text, &invocation->request.add_caps, error);
}

static bool take_drop_caps(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return capability_take(use, text, &invocation->request.drop_caps, error);
}

/* By number, as the descriptor itself is inherited. */
static bool take_keep_fd(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return descriptor_keep(&invocation->request, use, text, error);
}

static bool take_join(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    bool truth = true;

    invocation->join_name = NULL;
    if (strcmp(text, "auto") == 0)
        invocation->join = JOIN_AUTO;
    else if (text[0] == '@' && text[1] != '\0' && strlen(text) <= JOIN_NAME) {
        invocation->join = JOIN_YES;
        invocation->join_name = text + 1;
    } else if (boolean_parse(text, &truth))
        invocation->join = truth ? JOIN_YES : JOIN_NO;
    else
        return error_set(error, 0, "%.*s %.60s: \"auto\", \"yes\", \"no\" or @ and a name is wanted", OPTION_NAME(use), text);
    return true;
}

static bool take_pid_file(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return host_path(invocation, use, text, strlen(text), &invocation->pid_file, error);
}

static bool take_exit_statuses(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    invocation->request.family_statuses = strcmp(text, "family") == 0;
    invocation->statuses_said = true;
    return invocation->request.family_statuses || strcmp(text, "shell") == 0 ||
           error_set(error, 0, "%.*s %.60s: shell or family is wanted", OPTION_NAME(use), text);
}

/* Digits and one unit; a number alone is seconds. */
static bool take_linger(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    enum { DAY = 86400 };
    char *unit;
    unsigned long time = strtoul(text, &unit, 10), scale = *unit == 'h' ? 3600 : *unit == 'm' ? 60 : 1;

    if (*text < '0' || *text > '9' || (*unit != '\0' && (strchr("smh", *unit) == NULL || unit[1] != '\0')) || time > DAY / scale)
        return error_set(error, 0, "%.*s %.60s: a time is wanted, as 60s, 5m or 2h, of a day at most; 0 for none", OPTION_NAME(use),
                         text);
    invocation->linger = time * scale;
    invocation->linger_said = true;
    return true;
}

/* Without a value as text; "false" takes it back, as for flags. */
static bool take_dry_run(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    bool truth = true;

    if (text == NULL || strcmp(text, "text") == 0)
        invocation->request.dry_run = DRY_RUN_TEXT;
    else if (strcmp(text, "json") == 0)
        invocation->request.dry_run = DRY_RUN_JSON;
    else if (boolean_parse(text, &truth))
        invocation->request.dry_run = truth ? DRY_RUN_TEXT : DRY_RUN_NO;
    else
        return error_set(error, 0, "%.*s=%.60s: \"text\" or \"json\" is wanted", OPTION_NAME(use), text);
    return true;
}

static bool take_word(const char **list, uint32_t *count, const struct option_value *use, const char *text, struct error *error)
{
    if (*count == ASKED_DEVICES)
        return error_set(error, 0, "%.*s: more than %d", OPTION_NAME(use), ASKED_DEVICES);
    list[(*count)++] = text;
    return true;
}

/* What it needs is in the site's specifications, which Python reads. */
static bool take_device(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return take_word(invocation->devices, &invocation->device_count, use, text, error);
}

static bool take_cdi_directory(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return take_word(invocation->cdi_directories, &invocation->cdi_directory_count, use, text, error);
}

static bool take_fabric(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    static const char *const words[] = {[FABRIC_CONTAINER] = "container", [FABRIC_AUTO] = "auto", [FABRIC_HOST] = "host"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i]) == 0) {
            invocation->fabric = (enum fabric)i;
            return true;
        }
    return error_set(error, 0, "%.*s=%.60s: \"auto\", \"host\" or \"container\" is wanted", OPTION_NAME(use), text);
}

/* MPI_UNSAID, the first of the enum, is no word: the site's configuration decides then. */
static bool take_mpi(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    static const char *const words[] = {[MPI_CONTAINER] = "container", [MPI_AUTO] = "auto", [MPI_HOST] = "host"};

    for (size_t i = MPI_CONTAINER; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i]) == 0) {
            invocation->mpi = (enum mpi_choice)i;
            return true;
        }
    return error_set(error, 0, "%.*s=%.60s: \"auto\", \"host\" or \"container\" is wanted", OPTION_NAME(use), text);
}

/* Digits only; the largest number stands for "none" in the kernel. */
static bool take_id(const struct option_value *use, const char *text, uint64_t *member, struct error *error)
{
    uint64_t value = 0;

    for (const char *digit = text; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9' || (value = value * 10 + (uint64_t)(*digit - '0')) >= UINT32_MAX)
            return error_set(error, 0, "variable %.*s: \"%.60s\" is no user or group number", OPTION_NAME(use), text);
    }
    *member = value + 1;
    return true;
}

/* Users have no say in whom they are: from them the variable is passed over without a word, as it may stand in any
 * environment. */
static bool take_target_uid(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return !invocation->root || take_id(use, text, &invocation->request.target_uid, error);
}

static bool take_target_gid(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    return !invocation->root || take_id(use, text, &invocation->request.target_gid, error);
}

/* "TYPE:COMMAND ARGUMENT... MOUNTPOINT": words are divided by blanks, or stand in single or double quotes. */
static bool fuse_words(const char *text, char *words, size_t size, const char **last)
{
    size_t used = 0;
    char quote = '\0';

    for (*last = words; *text != '\0' && used + 2 < size; text++) {
        if (*text == '\n')
            return false;
        if (quote != '\0' ? *text == quote : *text == '\'' || *text == '"') {
            quote = quote != '\0' ? '\0' : *text;
        } else if (quote == '\0' && (*text == ' ' || *text == '\t')) {
            if (used > 0 && words[used - 1] != '\n' && text[strspn(text, " \t")] != '\0') {
                words[used++] = '\n';
                *last = words + used;
            }
        } else {
            words[used++] = *text;
        }
    }
    words[used] = '\0';
    return *text == '\0' && quote == '\0' && *last > words;
}

static bool take_fusemount(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    static const char *const types[] = {"container", "host", "container-daemon", "host-daemon"};
    struct request *request = &invocation->request;
    struct request_entry entry = {.number = 4};
    char words[PATH_MAX];
    const char *colon = strchr(text, ':'), *place;

    for (uint64_t i = 0; colon != NULL && i < 4; i++)
        if (strlen(types[i]) == (size_t)(colon - text) && strncmp(text, types[i], (size_t)(colon - text)) == 0)
            entry.number = i; /* in the order of FUSE_HOST and FUSE_DAEMON */
    if (entry.number == 4 || !fuse_words(colon + 1, words, sizeof words, &place))
        return error_set(error, 0, "%.*s: \"%.60s\": TYPE:COMMAND MOUNTPOINT is wanted (types are container, host, container-daemon and "
                                   "host-daemon)", OPTION_NAME(use), text);
    if (!container_path(invocation, use, NULL, place, &entry.second, error))
        return false;
    entry.first = text_copy(&invocation->store, words, (size_t)(place - words) - 1);
    if (entry.first == NULL)
        return request_full(error);
    if (!invocation->root && !request->userns) {
        request->userns = true;
        request->userns_reason = "a FUSE program of the user's serves a file system";
    }
    return list_add(request->fuse, &request->fuse_count, LIST_LIMIT(fuse), entry, use, error);
}

/* Who is not root has the image server in a user namespace alone; root has it anyway. */
static bool take_trace(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    struct request *request = &invocation->request;

    if (*text == '\0')
        return error_set(error, 0, "%.*s: a file is wanted", OPTION_NAME(use));
    if (text[0] != '/' && invocation->cwd == NULL)
        return error_set(error, ENOENT, "%.*s %.200s: relative to the current directory, which is gone", OPTION_NAME(use), text);
    request->trace = text_path(&invocation->store, invocation->cwd, text, strlen(text));
    if (!invocation->root) {
        request->userns = true;
        request->userns_reason = "--trace: the image server sees which names are used";
    }
    return request->trace != NULL || request_full(error);
}

/* An option without an entry is a flag, or one of the front door's own. */
take_value *const option_takers[OPTION_COUNT] = {
    [OPTION_bind] = bind_take,           [OPTION_mount] = mount_value_take,     [OPTION_home] = take_home,
    [OPTION_workdir] = take_workdir,     [OPTION_scratch] = take_scratch,       [OPTION_overlay] = take_overlay,
    [OPTION_no_mount] = take_no_mount,   [OPTION_network] = take_network,       [OPTION_hostname] = take_hostname,
    [OPTION_dns] = take_dns,             [OPTION_env] = take_env,               [OPTION_env_file] = take_env_file,
    [OPTION_cwd] = take_cwd,             [OPTION_app] = take_app,               [OPTION_shell] = take_shell,
    [OPTION_add_caps] = take_add_caps,   [OPTION_drop_caps] = take_drop_caps,   [OPTION_keep_fd] = take_keep_fd,
    [OPTION_exit_statuses] = take_exit_statuses,
    [OPTION_join] = take_join,           [OPTION_linger] = take_linger,
    [OPTION_dry_run] = take_dry_run,     [OPTION_target_uid] = take_target_uid, [OPTION_target_gid] = take_target_gid,
    [OPTION_network_args] = take_network_args, [OPTION_netns_path] = take_netns_path, [OPTION_fabric] = take_fabric,       [OPTION_mpi] = take_mpi,
    [OPTION_pid_file] = take_pid_file,   [OPTION_host_cmd] = host_command_take,
    [OPTION_allow_paths] = allow_path_take,
    [OPTION_security] = security_take,   [OPTION_device] = take_device,         [OPTION_cdi_dirs] = take_cdi_directory,
    [OPTION_containlibs] = bind_library_take, [OPTION_data] = data_take, [OPTION_fusemount] = take_fusemount,
    [OPTION_trace] = take_trace,
};
