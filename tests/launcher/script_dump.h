/* Variables as a script that makes them again, for tests: script_evaluate() and script_read_dump() read it back. */
#ifndef SINGULARITY_TESTS_SCRIPT_DUMP_H
#define SINGULARITY_TESTS_SCRIPT_DUMP_H

#include "environment/text.h"
#include "environment/variables.h"

/* In the table's arena. */
static inline char *script_write_dump(const struct variables *variables, size_t *size)
{
    struct text dump = {.arena = variables->arena};

    text_add_string(&dump, "");
    for (uint32_t at = 0; at < variables->count; at++) {
        const struct variable *entry = &variables->entries[at];
        if (!entry->set && !entry->exported)
            continue;
        text_add_string(&dump, entry->exported ? "export " : "");
        text_add(&dump, entry->text, entry->name_length);
        if (entry->set) {
            text_add_string(&dump, "=");
            text_add_quoted(&dump, variable_value(entry));
        }
        text_add_string(&dump, "\n");
    }
    *size = dump.length;
    return dump.bytes;
}

#endif
