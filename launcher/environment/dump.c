/* Variables as text that a shell, or script_read_dump(), reads back. */
#include "environment/script.h"
#include "environment/text.h"

char *script_write_dump(const struct variables *variables, size_t *size)
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
    return dump.short_of_memory ? NULL : dump.bytes;
}
