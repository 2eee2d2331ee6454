/* --read-only-home, --deny-net, --allow-paths and --security: what a program does without, as entries of the request. */
#include "front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../restriction.h"
#include "../suggest.h"

enum { RESTRICTION_LIMIT = sizeof((struct request *)NULL)->restriction / sizeof(struct request_entry) };

static bool add(struct invocation *invocation, const struct option_value *use, enum restriction kind, const char *text, struct error *error)
{
    struct request *request = &invocation->request;
    struct request_entry entry = {.first = text, .second = text_copy(&invocation->store, use->name, strcspn(use->name, "=,")), .number = kind};

    if (entry.first == NULL || entry.second == NULL)
        return request_full(error);
    if (request->restriction_count == RESTRICTION_LIMIT)
        return error_set(error, 0, "%.*s: more than %d restrictions", OPTION_NAME(use), (int)RESTRICTION_LIMIT);
    request->restriction[request->restriction_count++] = entry;
    return true;
}

/* ":ro" and ":rw" at the end only, as for --overlay. In the container, so ".." is folded here, like that of --cwd. */
bool allow_path_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    size_t length = strlen(text);
    const char *suffix = length > 3 ? text + length - 3 : "", *path;
    bool readonly = strcmp(suffix, ":ro") == 0;

    if (readonly || strcmp(suffix, ":rw") == 0)
        length -= 3;
    if (text[0] != '/' && invocation->cwd == NULL)
        return error_set(error, ENOENT, "%.*s %.60s: relative to the current directory, which is gone", OPTION_NAME(use), text);
    path = text_target(&invocation->store, invocation->cwd, text, length);
    if (path != NULL && strlen(path) >= PATH_MAX)
        return error_set(error, ENAMETOOLONG, "%.*s %.60s...", OPTION_NAME(use), text);
    return add(invocation, use, readonly ? RESTRICTION_PATH_READ : RESTRICTION_PATH, path, error);
}

/* Numbers alone: a name would be the host's or the image's, and nobody could say which. The largest stands for "none" in the kernel. */
static bool add_id(struct invocation *invocation, const struct option_value *use, enum restriction kind, const char *text, size_t length,
                   struct error *error)
{
    uint64_t value = 0;
    bool number = length > 0;

    for (size_t i = 0; i < length && number; i++) {
        number = text[i] >= '0' && text[i] <= '9';
        value = value * 10 + (uint64_t)(text[i] - '0');
        number = number && value < UINT32_MAX;
    }
    if (!number)
        return error_set(error, 0, "%.*s: \"%.*s\" is no number of a %s", OPTION_NAME(use), length < 60 ? (int)length : 60, text,
                         kind == RESTRICTION_UID ? "user" : "group");
    return add(invocation, use, kind, text_copy(&invocation->store, text, length), error);
}

static bool add_groups(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    for (;;) {
        size_t length = strcspn(text, ":");
        if (!add_id(invocation, use, RESTRICTION_GID, text, length, error))
            return false;
        if (text[length] == '\0')
            return true;
        text += length + 1;
    }
}

static bool add_profile(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    if (text[0] != '/' && invocation->cwd == NULL)
        return error_set(error, ENOENT, "%.*s %.60s: relative to the current directory, which is gone", OPTION_NAME(use), text);
    return add(invocation, use, RESTRICTION_FILTER, text_path(&invocation->store, invocation->cwd, text, strlen(text)), error);
}

bool security_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    static const char *const names[] = {[RESTRICTION_FILTER] = "seccomp", [RESTRICTION_APPARMOR] = "apparmor",
                                        [RESTRICTION_SELINUX] = "selinux", [RESTRICTION_UID] = "uid", [RESTRICTION_GID] = "gid"};
    size_t length = strcspn(text, ":");
    const char *value = text + length + 1;
    struct suggestion nearest = {.word = text, .length = length};

    for (int kind = RESTRICTION_FILTER; kind <= RESTRICTION_GID; kind++) {
        suggest_from(&nearest, names[kind], strlen(names[kind]));
        if (strlen(names[kind]) != length || memcmp(names[kind], text, length) != 0)
            continue;
        if (text[length] == '\0' || *value == '\0')
            return error_set(error, 0, "%.*s %.60s: a value is wanted, as %s:VALUE", OPTION_NAME(use), text, names[kind]);
        if (kind == RESTRICTION_FILTER)
            return add_profile(invocation, use, value, error);
        if (kind == RESTRICTION_UID)
            return add_id(invocation, use, RESTRICTION_UID, value, strlen(value), error);
        return kind == RESTRICTION_GID ? add_groups(invocation, use, value, error)
                                       : add(invocation, use, (enum restriction)kind, value, error);
    }
    if (nearest.found_length > 0)
        return error_set(error, 0, "%.*s: unknown \"%.60s\" (did you mean %s:?)", OPTION_NAME(use), text, nearest.found);
    return error_set(error, 0, "%.*s: unknown \"%.60s\" (seccomp:FILE, apparmor:PROFILE, selinux:LABEL, uid:N and gid:N are known)",
                     OPTION_NAME(use), text);
}

/* What the Python half says of itself: the descriptor by which a recorder is told, which is kept as that of a filter is. A FILE never
 * comes here: see is_prepared(). */
static bool add_record(struct invocation *invocation, const struct options *options, struct error *error)
{
    const char *text = options_text(options, OPTION_record);
    const struct option_value *use = options_last(options, OPTION_record);

    if (text == NULL || text[0] != RECORD_HANDED)
        return true;
    if (!descriptor_keep(&invocation->request, use, text + 1, error) || !add(invocation, use, RESTRICTION_RECORD, "", error))
        return false;
    invocation->request.restriction[invocation->request.restriction_count - 1].number |= strtoull(text + 1, NULL, 10) << RESTRICTION_DESCRIPTOR;
    return true;
}

bool restriction_flags_take(struct invocation *invocation, const struct options *options, struct error *error)
{
    static const struct {
        enum option_id id;
        enum restriction kind;
    } flags[] = {{OPTION_read_only_home, RESTRICTION_HOME}, {OPTION_deny_net, RESTRICTION_NETWORK}};

    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (options_flag(options, flags[i].id) && !add(invocation, options_last(options, flags[i].id), flags[i].kind, "", error))
            return false;
    return add_record(invocation, options, error);
}
