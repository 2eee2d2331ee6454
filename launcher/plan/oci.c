/* WORKDIR and USER of an image of Docker or OCI: where its program starts, and as whom. */
#include "plan.h"

#include <string.h>

/* Docker's own (moby/sys/user: ids from 0 to 2^31 - 1) */
enum { ID_LIMIT = INT32_MAX };

static const char user_key[] = "USER=", workdir_key[] = "WORKDIR=";

/* ---- lines of account files ---- */

/* Digits only, within Docker's limit. */
static bool id_read(const char *text, size_t length, unsigned *id)
{
    uint64_t value = 0;

    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || (value = value * 10 + (uint64_t)(text[i] - '0')) > ID_LIMIT)
            return false;
    }
    *id = (unsigned)value;
    return length > 0;
}

static bool field_is(const char *line, size_t size, int number, const char *text, size_t length)
{
    size_t found;
    const char *start = account_field(line, size, number, &found);

    return start != NULL && found == length && memcmp(start, text, length) == 0;
}

static bool field_id(const char *line, size_t size, int number, unsigned *id)
{
    size_t length;
    const char *start = account_field(line, size, number, &length);

    return start != NULL && id_read(start, length, id);
}

/* Docker's rule: digits are an id, even where an account has them for its name. */
static bool entry_matches(const char *line, size_t size, const char *wanted, size_t length)
{
    unsigned asked, id;

    if (id_read(wanted, length, &asked))
        return field_id(line, size, 2, &id) && id == asked;
    return field_is(line, size, 0, wanted, length);
}

/* ---- who that is ---- */

/* The two parts of USER[:GROUP]. */
static size_t name_length(const struct plan_user *user)
{
    return strcspn(user->spec, ":");
}

static const char *group_of(const struct plan_user *user)
{
    const char *group = user->spec + name_length(user);
    return *group == ':' ? group + 1 : group;
}

/* Docker takes a number without an entry as it is, with group 0 and "/" as its home; a name without an entry is an
 * error there, and a warning here. */
void plan_oci_passwd(struct plan *plan, const char *text)
{
    struct plan_user *user = &plan->user;
    const char *wanted = name_length(user) > 0 ? user->spec : "0";
    size_t length = name_length(user) > 0 ? name_length(user) : 1;
    unsigned uid = 0, gid = 0;

    user->found = id_read(wanted, length, &uid) || (length == 4 && strncmp(wanted, "root", length) == 0);
    user->home = "/";
    user->name = "";
    for (const char *line = text != NULL ? text : ""; *line != '\0'; line = account_next(line)) {
        size_t size = strcspn(line, "\n"), part;
        if (!entry_matches(line, size, wanted, length) || !field_id(line, size, 2, &uid) || !field_id(line, size, 3, &gid))
            continue;
        const char *home = account_field(line, size, 5, &part);
        if (home != NULL && *home == '/')
            user->home = plan_text(plan, "%.*s", (int)part, home);
        const char *name = account_field(line, size, 0, &part);
        user->name = plan_text(plan, "%.*s", (int)part, name);
        user->found = true;
        break;
    }
    user->uid = uid;
    user->gid = gid;
}

/* Whether the member list of the line has this name. */
static bool has_member(const char *line, size_t size, const char *name)
{
    size_t length, wanted = strlen(name);
    const char *list = account_field(line, size, 3, &length);

    for (const char *end = list != NULL ? list + length : NULL; list != NULL && list < end; list++) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        size_t part = (size_t)((comma != NULL ? comma : end) - list);
        if (part == wanted && memcmp(list, name, part) == 0)
            return wanted > 0;
        list += part;
    }
    return false;
}

/* With a group in USER there are no others; without one the user has those that list him as a member, as Docker gives
 * them. */
void plan_oci_group(struct plan *plan, const char *text)
{
    struct plan_user *user = &plan->user;
    const char *wanted = group_of(user);
    unsigned gid;

    if (*wanted != '\0') {
        bool number = id_read(wanted, strlen(wanted), &gid);
        if (number)
            user->gid = gid;
        for (const char *line = text != NULL ? text : ""; *line != '\0' && !number; line = account_next(line))
            if (field_is(line, strcspn(line, "\n"), 0, wanted, strlen(wanted)) && field_id(line, strcspn(line, "\n"), 2, &gid)) {
                user->gid = gid;
                return;
            }
        user->found &= number;
        return;
    }
    for (const char *line = text != NULL ? text : ""; *line != '\0'; line = account_next(line)) {
        size_t size = strcspn(line, "\n");
        if (user->group_count < PLAN_GROUPS && has_member(line, size, user->name) && field_id(line, size, 2, &gid))
            user->groups[user->group_count++] = gid;
    }
}

/* ---- what comes of it ---- */

static void choose_directory(struct plan *plan, const struct plan_inputs *inputs, const char *workdir)
{
    if (inputs->request->target_cwd != NULL)
        return;
    plan_oci_directory(plan, workdir, workdir[strspn(workdir, "/")] != '\0');
}

/* Exactly two lines, "USER=" and "WORKDIR=", each with its newline: written by a build, but found in an image that
 * anybody may have made (R-P1). Anything else says nothing. */
bool plan_oci(struct plan *plan, const struct plan_inputs *inputs, const char *text)
{
    const char *line_end = strchr(text, '\n'), *workdir = line_end != NULL ? line_end + 1 : "";
    size_t rest = strlen(workdir);

    if (rest == 0 || workdir[rest - 1] != '\n' || strncmp(text, user_key, strlen(user_key)) != 0 ||
        strncmp(workdir, workdir_key, strlen(workdir_key)) != 0)
        return false;
    plan->user.spec = plan_text(plan, "%.*s", (int)(line_end - text - (long)strlen(user_key)), text + strlen(user_key));
    workdir = plan_text(plan, "%.*s", (int)(rest - strlen(workdir_key) - 1), workdir + strlen(workdir_key));
    if (!plan->oci_wanted) {
        if (workdir[strspn(workdir, "/")] != '\0')
            message_verbose("WORKDIR %s of the image is not used (--compat does)", workdir);
        if (*plan->user.spec != '\0')
            message_verbose("USER %s of the image is not used (--compat does)", plan->user.spec);
        return false;
    }
    plan->oci_image = true;
    if (workdir[0] == '/' && !path_climbs(workdir) && strlen(workdir) < PATH_MAX)
        choose_directory(plan, inputs, workdir);
    else
        message_warning("WORKDIR %.200s of the image is not used: no plain path", workdir);
    return *plan->user.spec != '\0';
}

/* The caller has these ids anyway. */
static bool is_already(const struct plan *plan, const struct plan_inputs *inputs)
{
    return plan->user.uid == inputs->caller->uid && plan->user.gid == inputs->caller->gid;
}

/* No process can take an id that it has no right to; a user namespace inside the container shows the caller's own
 * under that number. */
bool plan_oci_user_needs_namespace(const struct plan *plan, const struct plan_inputs *inputs)
{
    return plan->user.found && plan->user.uid != 0 && plan->mode != MODE_ROOT && !plan->root_mapped &&
           !is_already(plan, inputs);
}

/* The account files are the image's own, for the program is one of its users; so is the home directory unless asked for. */
static void take_place(struct plan *plan, const struct plan_inputs *inputs)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].flags & (STEP_PASSWD | STEP_GROUP))
            plan->steps[i].skipped = "the program is a user of the image";
    if (inputs->request->home_source == NULL) {
        plan->home = plan->user.home;
        plan->home_yields = true;
    }
    message_verbose("USER %s of the image: uid %u, gid %u in the container", plan->user.spec, (unsigned)plan->user.uid,
                    (unsigned)plan->user.gid);
}

/* A user of the image is none of root's: without --allow-setuid there is no way back, as for setuid(2) by root
 * (capabilities(7)). */
static void become_really(struct plan *plan, const struct plan_inputs *inputs)
{
    plan->user.way = USER_REAL;
    if (plan->user.uid == 0)
        return;
    plan->keep_capabilities = plan->suid ? plan->keep_capabilities : 0;
    plan->no_new_privs = !plan->suid || inputs->request->no_privs;
}

/* /proc is where the kernel takes the maps of the namespace from. `why` names the first thing in the way; the program
 * runs in any case, since most images do as well under another id. */
void plan_oci_user(struct plan *plan, const struct plan_inputs *inputs, const char *obstacle)
{
    struct plan_user *user = &plan->user;
    const char *why = plan->root_mapped                                          ? NULL
                      : !user->found                                             ? "not in the image's account files"
                      : plan->mode == MODE_ROOT || user->uid == 0                ? NULL
                      : !inputs->config->allow_user_ns                           ? "\"allow user ns = no\" in the configuration"
                      : !plan_has_target(plan, "/proc") && !is_already(plan, inputs)           ? "that needs /proc in the container"
                                                                                 : obstacle;

    if (why != NULL)
        message_warning("USER %.200s of the image: the program runs as you all the same: %s", user->spec, why);
    else if (plan->root_mapped)
        message_verbose("USER %s of the image: --fakeroot goes before it", user->spec);
    else if (user->uid == 0 && plan->mode != MODE_ROOT)
        message_info("USER %s of the image is root: the program runs as you (--fakeroot makes you appear as root)", user->spec);
    else if (user->uid != 0 || !is_already(plan, inputs)) {
        if (plan->mode == MODE_ROOT)
            become_really(plan, inputs);
        else if (!is_already(plan, inputs))
            user->way = USER_NAMESPACE;
        take_place(plan, inputs);
    }
}
