/* The launch request as it grows from options: where each value came from, for messages and for the starter. */
#include "front.h"

#include <errno.h>
#include <linux/capability.h>
#include <stddef.h>
#include <string.h>

enum { VARIABLE_LIMIT = sizeof((struct request *)NULL)->variable / sizeof(struct request_entry) };
_Static_assert((int)OPTION_COUNT < (int)VARIABLE_LIMIT, "every option may come from a variable");

/* The store is the end of the request itself: texts stand where request_encode() finds them. */
void invocation_begin(struct invocation *invocation, struct arena *arena, const char *cwd, bool root)
{
    invocation->store = (struct text_store){invocation->request.text_store, sizeof invocation->request.text_store};
    invocation->cwd = cwd;
    invocation->root = root;
    injection_begin(&invocation->injection, arena);
}

/* ---- flags ---- */

static const struct {
    enum option_id id;
    size_t member;
} flags[] = {
#define SAME_NAME(name) {OPTION_##name, offsetof(struct request, name)}
    SAME_NAME(userns),         SAME_NAME(pid),      SAME_NAME(ipc),        SAME_NAME(net),      SAME_NAME(uts),
    SAME_NAME(no_init),        SAME_NAME(writable), SAME_NAME(writable_tmpfs), SAME_NAME(contain), SAME_NAME(cleanenv),
    SAME_NAME(no_home),        SAME_NAME(no_eval),  SAME_NAME(no_umask),   SAME_NAME(fakeroot), SAME_NAME(keep_privs),
    SAME_NAME(no_privs),       SAME_NAME(allow_setuid), SAME_NAME(underlay), SAME_NAME(nv),     SAME_NAME(rocm),
    SAME_NAME(new_session),    {OPTION_disable_overlayfs, offsetof(struct request, disable_overlay)},
    {OPTION_no_compat, offsetof(struct request, no_oci_defaults)}, {OPTION_read_only_home, offsetof(struct request, home_readonly)},
#undef SAME_NAME
};

/* --compat and --containall stand for several flags, as the family has them; --no-pid and --no-nv take one back
 * again, whatever order they stand in. */
static void take_flags(struct request *request, const struct options *options)
{
    bool compat = options_flag(options, OPTION_compat);
    bool containall = compat || options_flag(options, OPTION_containall);

    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        *(bool *)((char *)request + flags[i].member) = options_flag(options, flags[i].id);
    request->contain |= containall;
    request->cleanenv |= containall;
    request->ipc |= containall;
    request->pid = (request->pid || containall) && !options_flag(options, OPTION_no_pid);
    request->no_init |= compat;
    request->no_umask |= compat;
    request->no_eval |= compat;
    request->writable_tmpfs |= compat || (options_flag(options, OPTION_nvccli) && !request->writable);
    request->oci_defaults |= compat;
    request->nv &= !options_flag(options, OPTION_no_nv);
    request->rocm &= !options_flag(options, OPTION_no_rocm);
}

/* ---- uses ---- */

/* Blanks count on the command line, where somebody has quoted them, and not in a variable, where they are for the
 * eye. */
static bool take_list(struct invocation *invocation, const struct option_value *use, struct error *error)
{
    struct csv csv = {.next = use->text, .store = &invocation->store, .trim = use->from_variable};
    enum csv_outcome outcome;
    char *field;

    while ((outcome = csv_read(&csv, &field)) == CSV_FIELD)
        if (*field != '\0' && !option_takers[use->id](invocation, use, field, error))
            return false;
    if (outcome == CSV_UNCLOSED)
        return error_set(error, 0, "%.*s %.200s: a quote is not closed", OPTION_NAME(use), use->text);
    return outcome == CSV_END || request_full(error);
}

/* The starter reads no variable of the user's (R-L2): it is told which one stands for which option, so that its messages can
 * name what the user has really set. */
static bool note_variable(struct invocation *invocation, const struct option_value *use, struct error *error)
{
    struct request *request = &invocation->request;
    const char *option = option_table[use->id].names;
    struct request_entry entry = {.first = text_copy(&invocation->store, use->name, strcspn(use->name, "=")),
                                  .second = text_copy(&invocation->store, option, strcspn(option, ","))};

    if (entry.first == NULL || entry.second == NULL || request->variable_count == VARIABLE_LIMIT)
        return request_full(error);
    request->variable[request->variable_count++] = entry;
    return true;
}

/* Called while that use is being taken, so its variable is the last one noted. */
uint64_t invocation_origin(const struct invocation *invocation, const struct option_value *use)
{
    uint64_t variable = use->from_variable ? invocation->request.variable_count : 0; /* its own entry is the last one */

    return (use->id == OPTION_mount ? BIND_MOUNT : 0) | variable << BIND_VARIABLE;
}

static bool take_use(struct invocation *invocation, const struct option_value *use, struct error *error)
{
    message_debug("%s %.*s = '%s'", use->from_variable ? "variable" : "option", OPTION_NAME(use),
                  use->text != NULL ? use->text : "");
    if (use->from_variable && !note_variable(invocation, use, error))
        return false;
    if (option_takers[use->id] == NULL)
        return true;
    if (option_table[use->id].kind == KIND_LIST_CSV)
        return take_list(invocation, use, error);
    return option_takers[use->id](invocation, use, use->text, error);
}

/* Those of variables first: of two mounts on one target the later one shows, and the command line goes before. */
static bool take_uses(struct invocation *invocation, unsigned scope, const struct options *options, bool from_variable,
                      struct error *error)
{
    for (uint32_t i = 0; i < options->count; i++) {
        const struct option_value *use = &options->values[i];
        if (use->from_variable == from_variable && (option_table[use->id].scopes & scope) != 0 &&
            !take_use(invocation, use, error))
            return false;
    }
    return true;
}

static uint64_t action_of(unsigned scope)
{
    return scope == SCOPE_EXEC                               ? ACTION_EXEC
           : scope == SCOPE_RUN || scope == SCOPE_START_RUN  ? ACTION_RUN
           : scope == SCOPE_SHELL                            ? ACTION_SHELL
           : scope == SCOPE_START                            ? ACTION_START
                                                             : ACTION_TEST;
}

/* A system in a container of its own, as far as root's rights go: it has no say over the machine's power and ports. */
static bool take_boot(struct invocation *invocation, const struct options *options, struct error *error)
{
    struct request *request = &invocation->request;
    const struct option_value *use = options_last(options, OPTION_boot);

    if (!options_flag(options, OPTION_boot))
        return true;
    if (!invocation->root)
        return error_set(error, EPERM, "%.*s: only root can start a system", OPTION_NAME(use));
    request->action = ACTION_BOOT;
    request->contain = request->uts = request->net = true;
    request->drop_caps |= UINT64_C(1) << CAP_SYS_BOOT | UINT64_C(1) << CAP_SYS_RAWIO;
    return true;
}

/* Each namespace that an instance has is its own from its start on; the first one is what makes its end complete. */
static bool take_instance(struct invocation *invocation, unsigned scope, const struct options *options, struct error *error)
{
    struct request *request = &invocation->request;

    if ((scope & SCOPE_INSTANCE) == 0)
        return true;
    request->instance_starts = request->pid = true;
    request->no_init = false;
    invocation->linger_said = true; /* the site's, for launches that end */
    return take_boot(invocation, options, error);
}

/* The starter refuses it as well, but as a launch that cannot be; here it is wrong usage. Both names are given as
 * they were written, option or variable. */
static bool written_once(const struct request *request, const struct options *options, struct error *error)
{
    const struct option_value *writable = options_last(options, OPTION_writable);
    const struct option_value *other = options_last(options, request->writable_tmpfs ? OPTION_writable_tmpfs : OPTION_overlay);

    if (!request->writable || writable == NULL || (!request->writable_tmpfs && request->overlay_count == 0))
        return true;
    if (other == NULL)
        return error_set(error, 0, "%.*s does not go with --compat, which writes into memory", OPTION_NAME(writable));
    return error_set(error, 0, "%.*s does not go with %.*s", OPTION_NAME(writable), OPTION_NAME(other));
}

/* Ids of another user come as two variables, since each alone would leave the other one root's. */
bool invocation_take_options(struct invocation *invocation, unsigned scope, const struct options *options, struct error *error)
{
    struct request *request = &invocation->request;

    request->action = action_of(scope);
    take_flags(request, options);
    if (!take_uses(invocation, scope, options, true, error) || !take_uses(invocation, scope, options, false, error) ||
        !network_decide(invocation, error) || !restriction_flags_take(invocation, options, error))
        return false;
    request->pid |= request->fuse_count > 0 && !options_flag(options, OPTION_no_pid); /* so that its programs end with the launch */
    if ((request->target_uid != 0) != (request->target_gid != 0))
        return error_set(error, 0, "SINGULARITY_TARGET_UID and SINGULARITY_TARGET_GID go together: only one is set");
    return take_instance(invocation, scope, options, error) && written_once(request, options, error);
}

/* Absolute from here on: the starter stands in another directory later, and the name goes into messages and
 * variables. */
bool invocation_take_image(struct invocation *invocation, const char *image, struct error *error)
{
    struct request *request = &invocation->request;

    if (*image == '\0')
        return error_set(error, 0, "the name of the image is empty");
    if (image[0] != '/' && invocation->cwd == NULL)
        return error_set(error, ENOENT, "image %.200s: relative to the current directory, which is gone", image);
    request->image = text_path(&invocation->store, invocation->cwd, image, strlen(image));
    if (request->image != NULL && strlen(request->image) >= PATH_MAX)
        return error_set(error, ENAMETOOLONG, "image %.60s...", image);
    return request->image != NULL || request_full(error);
}

/* MESSAGELEVEL is the family's variable: 0 and negative numbers show what usual launches show, numbers above 5 all. */
bool options_level(const struct options *options, int *level, struct error *error)
{
    const char *text = options_text(options, OPTION_messagelevel);
    int times = options_times(options, OPTION_verbose);

    if (options_flag(options, OPTION_debug) || options_flag(options, OPTION_shdebug) || times > 3)
        *level = LEVEL_DEBUG;
    else if (times > 0)
        *level = LEVEL_DEBUG - 1;
    else if (options_flag(options, OPTION_quiet))
        *level = LEVEL_LOG;
    else if (options_flag(options, OPTION_silent))
        *level = LEVEL_ERROR;
    else if (text == NULL)
        *level = LEVEL_INFO;
    else if (text[strspn(text, "0123456789")] != '\0' && *text != '-')
        return error_set(error, 0, "variable %.*s: \"%.60s\" is no number",
                         OPTION_NAME(options_last(options, OPTION_messagelevel)), text);
    else
        *level = *text == '-' || *text == '0' ? LEVEL_INFO : text[1] != '\0' || *text > '5' ? LEVEL_DEBUG : *text - '0';
    return true;
}
