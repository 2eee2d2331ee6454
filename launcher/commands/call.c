/* One call of a command of the host, as bytes: pure. What comes from a stub was sent by whoever made the image. */
#include "commands.h"

#include <string.h>

bool call_head_valid(const struct call_head *head)
{
    return head->size <= COMMANDS_TEXTS && head->words > 0 && head->mask <= 0777 && head->words < head->size && head->variables < head->size;
}

bool call_read(const struct call_head *head, char *bytes, struct arena *arena, struct call *call)
{
    size_t count = 1 + (size_t)head->words + head->variables, found = 0;

    if (!call_head_valid(head) || bytes[head->size - 1] != '\0')
        return false;
    for (uint32_t i = 0; i < head->size; i++)
        found += bytes[i] == '\0';
    char **texts = found == count ? arena_take(arena, (count + 1) * sizeof *texts) : NULL;
    if (texts == NULL)
        return false;
    *call = (struct call){.directory = bytes, .words = texts, .variables = texts + head->words + 1};
    for (size_t i = 0; i < head->words; i++)
        call->words[i] = bytes += strlen(bytes) + 1;
    call->words[head->words] = NULL;
    for (size_t i = 0; i < head->variables; i++)
        call->variables[i] = bytes += strlen(bytes) + 1;
    call->variables[head->variables] = NULL;
    return true;
}

bool call_name_valid(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-";
    size_t length = strlen(name);

    return length > 0 && length < COMMANDS_NAME && strspn(name, letters) == length && *name != '.' && *name != '-';
}

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* "sbatch" has SBATCH_: letters as capitals, anything that no variable's name can have as "_". */
bool call_passes(const char *name, const char *variable)
{
    static const char *const never[] = {"LD_", "GLIBC_", "GCONV_", "BASH_", "SLURM_CONF"};

    if (strchr(variable, '=') == NULL)
        return false;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (begins_with(variable, never[i]))
            return false;
    if (begins_with(variable, "SLURM_"))
        return true;
    for (; *name != '\0'; name++, variable++) {
        bool small = *name >= 'a' && *name <= 'z', kept = (*name >= 'A' && *name <= 'Z') || (*name >= '0' && *name <= '9');
        if (*variable != (small ? (char)(*name - 'a' + 'A') : kept ? *name : '_'))
            return false;
    }
    return *variable == '_';
}
