/* The nearest key of the configuration to one that is spelled wrongly. Not in the setuid program. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "suggest.h"

void config_suggest(const char *name, char *hint, size_t size)
{
    static const char *const names[] = {
#define CONFIG_BOOL(member, key, value) key,
#define CONFIG_CHOICE(member, key, value, ...) key,
#define CONFIG_NUMBER(member, key, value, maximum) key,
#define CONFIG_PLACE(member, key, value) key,
#define CONFIG_LIST(member, key, most) key,
#define CONFIG_PLACES(member, key, most) key,
#define CONFIG_FOREIGN(key) key,
#include "config.def"
    };
    struct suggestion nearest = {.word = name, .length = strlen(name)};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        suggest_from(&nearest, names[i], strlen(names[i]));
    if (nearest.found_length > 0)
        snprintf(hint, size, " (did you mean \"%.64s\"?)", nearest.found);
}
