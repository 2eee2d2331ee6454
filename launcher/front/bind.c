/* --bind and --mount, and the variables that stand for them: text to binds of the request. */
#include "front.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BIND_PARTS = 3, BIND_LIMIT = sizeof((struct request *)NULL)->bind / sizeof(struct request_entry) };
enum { DATA_LIMIT = sizeof((struct request *)NULL)->data / sizeof(struct request_entry) };

/* What the words behind source and target say. */
struct bind_options {
    uint64_t flags;
    const char *inside; /* a directory of the image that the source is; NULL: it is no image, unless `id` is set */
    uint64_t id;        /* of a partition, 0: not said */
    bool write;         /* asked for by name */
};

/* By which option or variable does not matter. */
static bool same(const struct request_entry *a, const struct request_entry *b)
{
    return ((a->number ^ b->number) & (BIND_READONLY | BIND_NONESTED)) == 0 && strcmp(a->first, b->first) == 0 &&
           strcmp(a->second, b->second) == 0;
}

/* Given twice is given once: scripts put together their options from several places. */
static bool add(struct request *request, const struct option_value *use, const struct request_entry *bind,
                struct error *error)
{
    for (uint32_t i = 0; i < request->bind_count; i++)
        if (same(&request->bind[i], bind))
            return true;
    if (request->bind_count == BIND_LIMIT)
        return error_set(error, 0, "%.*s: more than %d binds (bind a directory above them)", OPTION_NAME(use), (int)BIND_LIMIT);
    request->bind[request->bind_count++] = *bind;
    return true;
}

/* Shown by a server of the user's, in a user namespace, whatever starts containers here: root needs none for that. */
static bool add_data(struct invocation *invocation, const struct option_value *use, const struct request_entry *bind,
                     const struct bind_options *options, struct error *error)
{
    struct request *request = &invocation->request;
    const char *inside = options->inside != NULL ? options->inside : "/";

    if (options->write)
        return error_set(error, 0, "%.*s %.200s: an image is bound read-only (--overlay takes what is written)", OPTION_NAME(use), bind->first);
    if (request->data_count + 2 > DATA_LIMIT)
        return error_set(error, 0, "%.*s: more than %d images", OPTION_NAME(use), (int)DATA_LIMIT / 2);
    const char *directory = text_target(&invocation->store, "/", inside, strlen(inside));
    if (directory == NULL)
        return request_full(error);
    request->data[request->data_count++] = (struct request_entry){bind->first, "", options->id};
    request->data[request->data_count++] = (struct request_entry){directory, bind->second, bind->number};
    if (!invocation->root && !request->userns) {
        request->userns = true;
        request->userns_reason = "a directory of an image is bound, which a server of the user's shows";
    }
    return true;
}

/* `source` and `target` as written; an empty target is the source's path. The source keeps its "..", since only the
 * kernel knows where that leads past a link; the target loses it, for there it must not depend on links of the image
 * (R-M4). */
static bool add_paths(struct invocation *invocation, const struct option_value *use, const char *source, const char *target,
                      const struct bind_options *options, struct error *error)
{
    struct text_store *store = &invocation->store;
    struct request_entry bind = {.number = options->flags | invocation_origin(invocation, use)};

    if (source[0] != '/' && invocation->cwd == NULL)
        return error_set(error, ENOENT, "%.*s %.200s: relative to the current directory, which is gone", OPTION_NAME(use), source);
    if (*target != '\0' && *target != '/')
        return error_set(error, 0, "%.*s %.200s: the path in the container must begin with \"/\", not \"%.60s\"",
                         OPTION_NAME(use), source, target);
    bind.first = text_path(store, invocation->cwd, source, strlen(source));
    bind.second = *target != '\0' ? text_target(store, "/", target, strlen(target))
                                  : text_target(store, invocation->cwd, source, strlen(source));
    if (bind.first == NULL || bind.second == NULL)
        return error_set(error, 0, "%.*s: too many long paths", OPTION_NAME(use));
    if (strlen(bind.first) >= PATH_MAX || strlen(bind.second) >= PATH_MAX)
        return error_set(error, ENAMETOOLONG, "%.*s %.60s...", OPTION_NAME(use), source);
    return options->inside != NULL || options->id > 0 ? add_data(invocation, use, &bind, options, error)
                                                      : add(&invocation->request, use, &bind, error);
}

/* By its own name: who asks for it under another one names a link of that name. */
bool bind_library_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    char target[PATH_MAX];
    const char *slash = strrchr(text, '/'), *name = slash != NULL ? slash + 1 : text;

    if (*name == '\0' || (size_t)snprintf(target, sizeof target, LIBRARIES_INSIDE "/%s", name) >= sizeof target)
        return error_set(error, 0, "%.*s %.60s: no name of a file", OPTION_NAME(use), text);
    return add_paths(invocation, use, text, target, &(struct bind_options){.flags = BIND_READONLY}, error);
}

/* IMAGE:TARGET, all of an image that holds data. */
bool data_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    const char *colon = strrchr(text, ':');
    const char *image = colon != NULL ? text_copy(&invocation->store, text, (size_t)(colon - text)) : NULL;

    if (colon == NULL || colon == text || colon[1] == '\0')
        return error_set(error, 0, "%.*s %.200s: IMAGE:TARGET is wanted", OPTION_NAME(use), text);
    return image != NULL ? add_paths(invocation, use, image, colon + 1, &(struct bind_options){.inside = "/"}, error) : request_full(error);
}

static bool option_known(const char *option)
{
    return strcmp(option, "ro") == 0 || strcmp(option, "rw") == 0 || strcmp(option, "nonested") == 0 ||
           strncmp(option, "image-src=", 10) == 0 || strncmp(option, "id=", 3) == 0;
}

static bool read_id(const struct option_value *use, const char *text, struct bind_options *options, struct error *error)
{
    char *end;

    options->id = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
    return (options->id > 0 && options->id <= UINT32_MAX && *end == '\0') ||
           error_set(error, 0, "%.*s: id=%.60s: the number of a partition is wanted (singularity sif list)", OPTION_NAME(use), text);
}

/* The last of several counts, as for other options. */
static bool option_take(const struct option_value *use, const char *option, struct bind_options *options, struct error *error)
{
    if (!option_known(option))
        return error_set(error, 0, "%.*s: \"%.60s\" is not a valid bind option (ro, rw, nonested, image-src=DIR and id=N are)",
                         OPTION_NAME(use), option);
    if (strncmp(option, "id=", 3) == 0)
        return read_id(use, option + 3, options, error);
    if (strncmp(option, "image-src=", 10) == 0)
        options->inside = option + 10;
    else if (strcmp(option, "nonested") == 0)
        options->flags |= BIND_NONESTED;
    else {
        options->write = strcmp(option, "rw") == 0;
        options->flags = options->write ? options->flags & ~(uint64_t)BIND_READONLY : options->flags | BIND_READONLY;
    }
    return true;
}

/* ---- SOURCE[:TARGET[:OPTIONS]] ---- */

/* Copies one part without its escapes; the character that ended it is left in `end`, '\0' at the end of the text. A
 * colon or comma is a letter of a path when a backslash is before it, any other backslash is itself: paths of other
 * tools stay as they are. */
static char *read_part(struct text_store *store, const char **text, char *end)
{
    const char *from = *text;
    char *copy = text_copy(store, from, strlen(from));
    char *out = copy;

    if (copy == NULL)
        return NULL;
    while (*from != '\0' && *from != ':' && *from != ',') {
        if (*from == '\\' && (from[1] == ':' || from[1] == ','))
            from++;
        *out++ = *from++;
    }
    *out = '\0';
    text_give_back(store, out + 1);
    *end = *from;
    *text = from + (*from != '\0');
    return copy;
}

/* In "a:b:ro,rw" what follows the comma is an option, not a source. */
static bool options_go_on(struct text_store *store, const char *text)
{
    struct text_store peek = *store;
    char end;
    const char *part = read_part(&peek, &text, &end);

    return part != NULL && end != ':' && option_known(part);
}

/* Parts are divided by colons, binds by commas, and options by commas too: which of the two a comma is only the next
 * part says. */
static bool read_bind(struct text_store *store, const struct option_value *use, const char **text, const char *parts[BIND_PARTS],
                      struct bind_options *options, struct error *error)
{
    const char *whole = *text;
    char end = ':';

    for (int i = 0; end == ':'; i++) {
        if (i == BIND_PARTS)
            return error_set(error, 0, "%.*s %.200s: more than two colons (SOURCE[:TARGET[:OPTIONS]], a colon in a path is "
                                       "written \"\\:\")", OPTION_NAME(use), whole);
        parts[i] = read_part(store, text, &end);
        if (parts[i] == NULL)
            return error_set(error, 0, "%.*s: too many long paths", OPTION_NAME(use));
    }
    if (parts[2] == NULL)
        return true;
    if (!option_take(use, parts[2], options, error))
        return false;
    while (end == ',' && options_go_on(store, *text))
        if (!option_take(use, read_part(store, text, &end), options, error))
            return false;
    return true;
}

/* Empty elements are passed over: "a,,b" and a comma at the end come from scripts. */
bool bind_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    while (*text != '\0') {
        const char *parts[BIND_PARTS] = {NULL, NULL, NULL};
        const char *whole = text;
        struct bind_options options = {.flags = 0};
        if (!read_bind(&invocation->store, use, &text, parts, &options, error))
            return false;
        if (*parts[0] == '\0' && parts[1] == NULL)
            continue;
        if (*parts[0] == '\0')
            return error_set(error, 0, "%.*s %.200s: no source before the colon", OPTION_NAME(use), whole);
        if (!add_paths(invocation, use, parts[0], parts[1] != NULL ? parts[1] : "", &options, error))
            return false;
    }
    return true;
}

/* ---- type=bind,source=S,target=T ---- */

/* What one line of --mount says, NULL where it says nothing. */
struct mount {
    const char *type;
    const char *source;
    const char *target;
    struct bind_options options;
};

/* "readonly" alone, "readonly=true" and "readonly=1", as Docker's --mount has it. */
static bool read_switch(const struct option_value *use, const char *key, const char *value, uint64_t flag, struct bind_options *options,
                        struct error *error)
{
    bool on = strcmp(value, "") == 0 || strcmp(value, "true") == 0 || strcmp(value, "1") == 0;

    if (!on && strcmp(value, "false") != 0 && strcmp(value, "0") != 0)
        return error_set(error, 0, "%.*s: %s=%.60s is neither true nor false", OPTION_NAME(use), key, value);
    options->flags = on ? options->flags | flag : options->flags & ~flag;
    options->write |= !on && flag == BIND_READONLY;
    return true;
}

/* The synonyms are Docker's (docker run --mount). */
static bool read_key(struct mount *mount, const struct option_value *use, char *key, struct error *error)
{
    char *equals = strchr(key, '=');
    const char *value = equals != NULL ? equals + 1 : "";

    if (equals != NULL)
        *equals = '\0';
    if (strcmp(key, "type") == 0)
        mount->type = value;
    else if (strcmp(key, "source") == 0 || strcmp(key, "src") == 0)
        mount->source = value;
    else if (strcmp(key, "target") == 0 || strcmp(key, "destination") == 0 || strcmp(key, "dst") == 0)
        mount->target = value;
    else if (strcmp(key, "ro") == 0 || strcmp(key, "readonly") == 0)
        return read_switch(use, key, value, BIND_READONLY, &mount->options, error);
    else if (strcmp(key, "nonested") == 0)
        return read_switch(use, key, value, BIND_NONESTED, &mount->options, error);
    else if (strcmp(key, "image-src") == 0)
        mount->options.inside = value;
    else if (strcmp(key, "id") == 0)
        return read_id(use, value, &mount->options, error);
    else if (strcmp(key, "bind-propagation") == 0)
        return error_set(error, 0, "%.*s: %s is not supported here (\"mount slave\" of the configuration is for all binds)",
                         OPTION_NAME(use), key);
    else
        return error_set(error, 0, "%.*s: invalid key \"%.60s\" in mount specification (type, source, target, readonly, image-src, id, "
                                   "nonested)", OPTION_NAME(use), key);
    return true;
}

/* CSV as Docker reads it: a value with a comma is quoted as a whole field ("source=/a,b"). */
static bool mount_line(struct invocation *invocation, const struct option_value *use, const char *line, struct error *error)
{
    struct csv csv = {.next = line, .store = &invocation->store};
    struct mount mount = {.type = NULL};
    enum csv_outcome outcome;
    char *field;

    while ((outcome = csv_read(&csv, &field)) == CSV_FIELD)
        if (!read_key(&mount, use, field, error))
            return false;
    if (outcome != CSV_END)
        return error_set(error, 0, "%.*s %.200s: %s", OPTION_NAME(use), line, outcome == CSV_FULL ? "too long" : "a quote is not closed");
    if (mount.type != NULL && strcmp(mount.type, "bind") != 0)
        return error_set(error, 0, "%.*s %.200s: unsupported mount type (\"type=bind\" is the only one)", OPTION_NAME(use), line);
    if (mount.source == NULL || *mount.source == '\0' || mount.target == NULL || *mount.target == '\0')
        return error_set(error, 0, "%.*s %.200s: source and target are both needed", OPTION_NAME(use), line);
    return add_paths(invocation, use, mount.source, mount.target, &mount.options, error);
}

/* Lines for the variable, which holds several mounts; an empty line is no mistake. */
bool mount_value_take(struct invocation *invocation, const struct option_value *use, const char *text, struct error *error)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        const char *line = text_copy(&invocation->store, text, length);
        if (line == NULL)
            return error_set(error, 0, "%.*s: too long", OPTION_NAME(use));
        if (line[strspn(line, " \t")] != '\0' && !mount_line(invocation, use, line, error))
            return false;
        text += length + (text[length] == '\n');
    }
    return true;
}
