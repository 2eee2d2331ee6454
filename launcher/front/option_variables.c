/* SINGULARITY_NAME and APPTAINER_NAME in place of options: found in the environment, applied as if they were typed. */
#include "front.h"

#include <string.h>

/* In the order of precedence: today's name of the family first. */
static const char *const prefixes[VARIABLE_PREFIXES] = {"APPTAINER_", "SINGULARITY_"};

static bool blank(const char *text)
{
    return text[strspn(text, " \t")] == '\0';
}

/* SINGULARITY_IMAGE is a habit of 2.2, and only of 2.2. */
static bool prefix_counts(int id, int prefix)
{
    return id != OPTION_image || prefix == 1;
}

/* One variable may stand for several options (those of different verbs). */
static void keep(struct option_variables *variables, const char *entry, int prefix, const char *name, size_t length)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        unsigned rank;
        if (!prefix_counts(id, prefix) || !name_listed(option_table[id].variables, name, length, &rank))
            continue;
        if (option_table[id].kind == KIND_NONE_HERE)
            rank = 0; /* one is as good as another for being refused */
        if (rank < VARIABLE_NAMES)
            variables->entry[id][rank][prefix] = entry;
    }
}

/* The first letter first: an environment has a hundred variables, and few of them are ours. */
void option_variables_read(char *const *environment, struct option_variables *variables)
{
    for (; *environment != NULL; environment++) {
        const char *entry = *environment;
        if (entry[0] != 'A' && entry[0] != 'S')
            continue;
        for (int prefix = 0; prefix < VARIABLE_PREFIXES; prefix++) {
            size_t length = strlen(prefixes[prefix]);
            const char *equals = strchr(entry, '=');
            if (equals != NULL && strncmp(entry, prefixes[prefix], length) == 0 && !blank(equals + 1))
                keep(variables, entry, prefix, entry + length, (size_t)(equals - entry) - length);
        }
    }
}

static const char *value_of(const char *entry)
{
    return strchr(entry, '=') + 1;
}

/* Both set to the same is no reason for a warning: scripts that serve both programs set both. */
static const char *choose(const char *const entries[VARIABLE_PREFIXES])
{
    if (entries[0] == NULL || entries[1] == NULL)
        return entries[0] != NULL ? entries[0] : entries[1];
    if (strcmp(value_of(entries[0]), value_of(entries[1])) != 0)
        message_warning("%.*s and %.*s differ: %.*s is used", (int)strcspn(entries[0], "="), entries[0],
                        (int)strcspn(entries[1], "="), entries[1], (int)strcspn(entries[0], "="), entries[0]);
    return entries[0];
}

/* A flag's value must be a word of truth: SINGULARITY_PID=yes is set, "maybe" is a mistake, and neither is guessed
 * at. */
static bool apply(struct options *options, int id, const char *entry, struct error *error)
{
    struct option_value use = {.id = (enum option_id)id, .from_variable = true, .name = entry, .text = value_of(entry)};
    enum option_kind kind = option_table[id].kind;
    bool truth;

    if (kind == KIND_NONE_HERE)
        return (option_table[id].bare && boolean_parse(use.text, &truth) && !truth) || option_refuse(&use, "variable", error);
    if ((kind == KIND_FLAG || kind == KIND_COUNT) && !boolean_parse(use.text, &truth))
        return error_set(error, 0, "variable %.*s: \"%.60s\" is neither true nor false", OPTION_NAME(&use), use.text);
    return options_add(options, use, error);
}

/* The command line goes before a variable, but lists of mounts add up: a site sets SINGULARITY_BIND for all, and
 * users add theirs. Of several names of one option the first counts. */
bool option_variables_apply(const struct option_variables *variables, unsigned scope, struct options *options, struct error *error)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        bool adds_up = option_table[id].kind == KIND_LIST_RAW;
        if ((option_table[id].scopes & scope) == 0 || (options->given[id] && !adds_up))
            continue;
        for (int rank = 0; rank < VARIABLE_NAMES; rank++) {
            const char *entry = choose(variables->entry[id][rank]);
            if (entry == NULL)
                continue;
            if (!apply(options, id, entry, error))
                return false;
            if (!adds_up)
                break;
        }
    }
    return true;
}
