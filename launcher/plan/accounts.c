/* The container's /etc/passwd and /etc/group: the image's own, with the user's lines. Text in, text out. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

const char *account_field(const char *line, size_t size, int number, size_t *length)
{
    const char *end = line + size, *colon;

    *length = 0;
    for (; number > 0; number--, line = colon + 1)
        if ((colon = memchr(line, ':', (size_t)(end - line))) == NULL)
            return NULL;
    colon = memchr(line, ':', (size_t)(end - line));
    *length = (size_t)((colon != NULL ? colon : end) - line);
    return line;
}

const char *account_next(const char *line)
{
    line += strcspn(line, "\n");
    return line + (*line == '\n' ? 1 : 0);
}

/* The same, but a field that is not there is empty. */
static const char *field(const char *line, size_t size, int number, size_t *length)
{
    const char *start = account_field(line, size, number, length);

    return start != NULL ? start : "";
}

static bool number_is(const char *line, size_t size, int which, unsigned long number)
{
    size_t length;
    const char *text = field(line, size, which, &length);
    char *end;

    return length > 0 && strtoul(text, &end, 10) == number && end == text + length;
}

/* Without colons and newlines, which would add fields or lines to an account file. */
static const char *clean(struct plan *plan, const char *text)
{
    char *copy = (char *)plan_text(plan, "%s", text != NULL ? text : "");

    for (char *byte = copy; *byte != '\0'; byte++)
        if (*byte == ':' || *byte == '\n')
            *byte = ' ';
    return copy;
}

/* A copy in which `own` takes the place of the first line of this id. Written straight into the plan's store: the
 * text can be as long as the image's file, which open_small_file() bounds. What has no newline at its end gets one,
 * since our line may follow. */
static const char *rewrite(struct plan *plan, const char *text, const char *own, unsigned long number, bool *replaced)
{
    char *result = plan->text + plan->text_used;
    size_t room = sizeof plan->text - plan->text_used, used = 0;

    *replaced = false;
    while (*text != '\0') {
        size_t size = strcspn(text, "\n");
        bool same = own != NULL && !*replaced && number_is(text, size, 2, number);
        size_t length = same ? strlen(own) : size;
        if (used + length + 2 > room)
            stop(0, "the image's account files are too long");
        memcpy(result + used, same ? own : text, length);
        used += length;
        result[used++] = '\n';
        *replaced = *replaced || same;
        text += size + (text[size] == '\n' ? 1 : 0);
    }
    result[used] = '\0';
    plan->text_used += used + 1;
    return result;
}

/* The image's own line for this id keeps its group and shell; the caller's name, full name and home go in. root's
 * line stays root's but for the home: programs look up the name of uid 0. Names from the request are cleaned, for a
 * request may be forged and a colon in a name would give the user another shell or id in the eyes of programs. */
static const char *passwd_line(struct plan *plan, const struct plan_inputs *inputs, const char *text, unsigned long uid)
{
    const struct request *request = inputs->request;
    const char *home = *plan->home != '\0' ? plan->home : "/";
    const char *name = request->fakeroot ? "root" : clean(plan, request->account_name);
    const char *gecos = clean(plan, request->account_gecos);

    for (; *text != '\0'; text = account_next(text)) {
        size_t size = strcspn(text, "\n"), gid, shell, old_name;
        if (!number_is(text, size, 2, uid))
            continue;
        const char *gid_text = field(text, size, 3, &gid), *shell_text = field(text, size, 6, &shell);
        const char *name_text = field(text, size, 0, &old_name);
        return uid == 0 ? plan_text(plan, "%.*s:x:0:%.*s:root:%s:%.*s", (int)old_name, name_text, (int)gid, gid_text,
                                    clean(plan, home), (int)shell, shell_text)
                        : plan_text(plan, "%s:x:%lu:%.*s:%s:%s:%.*s", name, uid, (int)gid, gid_text, gecos,
                                    clean(plan, home), (int)shell, shell_text);
    }
    const char *shell = request->account_shell != NULL ? clean(plan, request->account_shell) : "/bin/sh";
    return plan_text(plan, "%s:x:%lu:%u:%s:%s:%s", name, uid, request->fakeroot ? 0 : (unsigned)inputs->caller->gid, gecos,
                     clean(plan, home), shell);
}

/* Without a name there is nothing to write: an account that getent does not know either has none, and the image's own
 * line for the id may be better. */
const char *plan_passwd(struct plan *plan, const struct plan_inputs *inputs, const char *text)
{
    const struct request *request = inputs->request;
    unsigned long uid = request->fakeroot ? 0 : inputs->caller->uid;
    bool replaced;

    if (request->account_name == NULL && !request->fakeroot)
        return rewrite(plan, text, NULL, 0, &replaced);
    const char *line = passwd_line(plan, inputs, text, uid);
    const char *rewritten = rewrite(plan, text, line, uid, &replaced);
    return replaced ? rewritten : plan_text(plan, "%s%s\n", rewritten, line);
}

static bool group_known(const char *text, unsigned long gid)
{
    for (; *text != '\0'; text = account_next(text))
        if (number_is(text, strcspn(text, "\n"), 2, gid))
            return true;
    return false;
}

/* Only groups that the kernel says the caller has: a forged request cannot put another one's name into the file. */
static bool group_held(const struct plan_inputs *inputs, uint64_t gid)
{
    for (int i = 0; i < inputs->caller->group_count; i++)
        if (inputs->caller->groups[i] == gid)
            return true;
    return inputs->caller->gid == gid;
}

/* The image's names go before the host's: what the image calls by this number its programs expect to see. */
const char *plan_group(struct plan *plan, const struct plan_inputs *inputs, const char *text)
{
    const struct request *request = inputs->request;
    const char *member = clean(plan, request->account_name);
    bool replaced;
    const char *result = rewrite(plan, text, NULL, 0, &replaced);

    for (uint32_t i = 0; i < request->group_count; i++) {
        uint64_t gid = request->group[i].number;
        const char *name = request->group[i].first;
        if (group_held(inputs, gid) && !group_known(result, gid) && strpbrk(name, ":\n") == NULL)
            plan_text_more(plan, "%s:x:%lu:%s\n", name, (unsigned long)gid, member);
    }
    return result;
}
