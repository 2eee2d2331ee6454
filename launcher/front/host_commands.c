/* --host-cmd: which commands of the host programs in the container may call, and what the container sees of them. Asks the site's
 * configuration and the caller's PATH. */
#include "front.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../inside.h"
#include "../program.h"
#include "../restriction.h"
#include "../variable.h"

enum { ENTRIES = sizeof((struct request *)NULL)->bind / sizeof(struct request_entry), ALLOWED = 64 };
static const char option[] = "--host-cmd";

bool host_command_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    if (!call_name_valid(text))
        return error_set(error, 0, "%.*s: \"%.60s\" is no name of a command (a name without a path, which is looked for on the host)",
                         OPTION_NAME(use), text);
    for (uint32_t i = 0; i < invocation->host_command_count; i++)
        if (strcmp(invocation->host_commands[i], text) == 0)
            return true;
    if (invocation->host_command_count == COMMANDS_LIMIT)
        return error_set(error, 0, "%.*s: more than %d commands", OPTION_NAME(use), COMMANDS_LIMIT);
    invocation->host_commands[invocation->host_command_count++] = text;
    return true;
}

/* The entry of the list that stands for the name: itself, or a path that ends with it. NULL: there is none. */
static const char *allowed(const char *const *items, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(*items[i] == '/' ? path_last(items[i]) : items[i], name) == 0)
            return items[i];
    return NULL;
}

/* By absolute directories of the caller's PATH alone: what the others name depends on where somebody stands. */
static const char *on_path(struct text_store *store, const char *list, const char *name)
{
    char path[PATH_MAX];

    while (list != NULL) {
        int length = (int)strcspn(list, ":");
        if (*list == '/' && snprintf(path, sizeof path, "%.*s/%s", length, list, name) < (int)sizeof path && program_usable(path))
            return text_copy(store, path, strlen(path));
        list = list[length] == ':' ? list + length + 1 : NULL;
    }
    return NULL;
}

/* What is in the way of all of them; NULL: nothing. */
static const char *obstacle(const struct invocation *invocation)
{
    if (invocation->join == JOIN_YES)
        return "does not go with --join=yes: a shared container has the commands of nobody's launch";
    if (invocation->request.target_uid != 0)
        return "not for SINGULARITY_TARGET_UID: the commands would be root's";
    if (invocation->keys.binds_refused && !invocation->root)
        return "not possible here: it needs a bind (\"user bind control = no\" in singularity.conf)";
    return NULL;
}

static bool find_commands(struct invocation *invocation, const struct installation *installation, const char *path, struct command *list,
                          struct error *error)
{
    const char *items[ALLOWED];
    size_t count = config_list_read(installation, "host commands", &invocation->store, items, ALLOWED);

    for (uint32_t i = 0; i < invocation->host_command_count; i++) {
        const char *name = invocation->host_commands[i], *item = allowed(items, count, name);
        if (item == NULL)
            return error_set(error, 0, "%s %s: not allowed here (\"host commands\" in %s/singularity.conf is root's list of those that are)", option,
                             name, installation->configuration);
        list[i] = (struct command){name, *item != '/' ? on_path(&invocation->store, path, name) : program_usable(item) ? item : NULL};
        if (list[i].path == NULL)
            return error_set(error, 0, "%s %s: no such command on this host (%s)", option, name, *item == '/' ? item : "its PATH has none");
    }
    return true;
}

/* Read-only, and no part of what a launch in the container is told to bind again. Messages name the option. */
static bool add_bind(struct invocation *invocation, const char *source, const char *target, struct error *error)
{
    struct request *request = &invocation->request;
    const char *from = text_copy(&invocation->store, source, strlen(source)), *to = text_copy(&invocation->store, target, strlen(target));

    if (from == NULL || to == NULL)
        return request_full(error);
    if (request->bind_count == ENTRIES)
        return error_set(error, 0, "%s: more than %d binds", option, (int)ENTRIES);
    request->bind[request->bind_count++] =
        (struct request_entry){from, to, BIND_READONLY | BIND_NONESTED | (uint64_t)request->variable_count << BIND_VARIABLE};
    return true;
}

static bool add_to_request(struct invocation *invocation, const struct installation *installation, const char *path, struct error *error)
{
    const size_t variables = sizeof invocation->request.variable / sizeof invocation->request.variable[0];
    const size_t restrictions = sizeof invocation->request.restriction / sizeof invocation->request.restriction[0];
    struct request *request = &invocation->request;
    char stub[PATH_MAX], target[sizeof COMMANDS_INSIDE + sizeof COMMANDS_BIN + COMMANDS_NAME + 2];
    bool restricted = false;

    if (request->variable_count == variables || (size_t)snprintf(stub, sizeof stub, "%s/host-command", installation->starters) >= sizeof stub)
        return request_full(error);
    request->variable[request->variable_count++] = (struct request_entry){.first = option, .second = option};
    for (uint32_t i = 0; i < request->restriction_count; i++)
        restricted |= request->restriction[i].number == RESTRICTION_PATH || request->restriction[i].number == RESTRICTION_PATH_READ;
    if (restricted && request->restriction_count == restrictions)
        return error_set(error, 0, "%s: more than %zu restrictions", option, restrictions);
    if (restricted) /* --allow-paths: the stubs are no part of the image */
        request->restriction[request->restriction_count++] = (struct request_entry){COMMANDS_INSIDE, option, RESTRICTION_PATH_READ};
    for (uint32_t i = 0; i < invocation->host_command_count; i++) {
        snprintf(target, sizeof target, COMMANDS_INSIDE "/" COMMANDS_BIN "/%s", invocation->host_commands[i]);
        if (!add_bind(invocation, stub, target, error))
            return false;
    }
    return add_bind(invocation, path, COMMANDS_INSIDE "/" COMMANDS_SOCKET, error);
}

/* Names that directories of the host have in the container, for those who stand in one: the user's binds, and the home directory. */
static uint32_t list_shown(const struct request *request, struct shown_directory *shown)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < request->bind_count; i++)
        shown[count++] = (struct shown_directory){request->bind[i].first, request->bind[i].second};
    if (request->home_source != NULL && request->home_target != NULL)
        shown[count++] = (struct shown_directory){request->home_source, request->home_target};
    return count;
}

bool host_commands_begin(struct invocation *invocation, const struct installation *installation, struct commands *commands,
                         struct error *error)
{
    static struct command list[COMMANDS_LIMIT];
    static struct shown_directory shown[ENTRIES + 1];
    static char path[PATH_MAX];
    struct error reason = {.number = 0};
    const char *runtime = variable(commands->environment, "XDG_RUNTIME_DIR"), *temporary = variable(commands->environment, "TMPDIR");
    const char *const places[] = {runtime != NULL ? runtime : "/tmp", "/tmp", temporary, NULL};
    const char *why = obstacle(invocation);

    if (why != NULL)
        return error_set(error, 0, "%s %s", option, why);
    if (!find_commands(invocation, installation, variable(commands->environment, "PATH"), list, error))
        return false;
    commands->list = list;
    commands->count = invocation->host_command_count;
    commands->shown = shown;
    commands->shown_count = list_shown(&invocation->request, shown);
    commands->cwd = invocation->cwd;
    if (!commands_start(commands, places, path, &reason))
        return error_set(error, 0, "%s: %s", option, reason.text);
    return add_to_request(invocation, installation, path, error); /* the helper sees to the socket whatever comes of the launch */
}
