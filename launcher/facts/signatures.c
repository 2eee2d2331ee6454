/* Signatures that the site requires: asks a process without any privilege, which also says how what is signed stays what it was. */
#include "facts.h"

#include <string.h>

#include "../privilege.h"

struct question {
    const struct caller *caller;
    struct seal_question seal;
};

static _Noreturn void judge(const void *asked, int to)
{
    const struct question *question = asked;

    privilege_forget(question->caller);
    seal_judge_and_tell(&question->seal, to);
}

static bool wanted(const struct plan_inputs *inputs)
{
    return (*inputs->config->require_signature == '/' || *inputs->config->execution_list == '/') && !request_enters(inputs->request);
}

bool facts_signature(struct part *part, const struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    enum seal_reader reader = part->way == WAY_KERNEL                              ? READER_KERNEL
                              : part->partition.filesystem == FILESYSTEM_SQUASHFS ? READER_SERVER : READER_OTHER;
    const struct question question = {inputs->caller, {part->fd, part->partition.offset, part->partition.size, reader,
                                                       plan->mode != MODE_USERNS}};
    static struct seal_verdict verdict;

    if (!wanted(inputs))
        return true;
    /* texts get their end here, and no letter that they have no use for: where users can trace the judge (fs.suid_dumpable = 1) it
     * may say what they want */
    bool asked = ask(judge, &question, &verdict, sizeof verdict);
    verdict.error.text[sizeof verdict.error.text - 1] = verdict.by[sizeof verdict.by - 1] = '\0';
    verdict.seal.table[sizeof verdict.seal.table - 1] = verdict.seal.known[sizeof verdict.seal.known - 1] = '\0';
    if (!asked || verdict.seal.table[strspn(verdict.seal.table, "0123456789abcdefhs -")] != '\0' || strchr(verdict.seal.known, '/') != NULL)
        return error_set(error, 0, "%.400s: its signature could not be checked", part->source);
    if (verdict.error.text[0] != '\0')
        return error_set(error, 0, "%.400s: %.600s", part->source, verdict.error.text);
    message_verbose("%s: signed by %s", part->source, verdict.by);
    part->seal = verdict.seal;
    return true;
}

/* What is written over an image is the user's own, as are his binds; but the kernel mounts nothing then that nobody has signed. */
bool facts_signatures(struct plan *plan, const struct plan_inputs *inputs, struct error *error)
{
    for (uint32_t i = 0; i < plan->part_count && wanted(inputs); i++) {
        struct part *part = &plan->parts[i];
        bool written = part->way == WAY_BIND || part->writable;
        if (written && (i == 0 || part->way == WAY_KERNEL))
            return error_set(error, 0, "%.400s: what can be written cannot be signed (\"require signature\" in %.200s)", part->source,
                             inputs->config->path);
        if (!written && !facts_signature(part, plan, inputs, error))
            return false;
    }
    return true;
}
