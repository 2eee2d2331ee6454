/* The table of names that the image server keeps: what was added is found, with what it stands for, up to a limit that is told. */
#include "serve/parts.h"

#include <string.h>

#include "check.h"

enum { MANY = 200000 };

static size_t name_of(unsigned number, char text[32])
{
    return (size_t)snprintf(text, 32, "name-%u", number);
}

static void what_was_added_is_found(void)
{
    static struct names names;
    char text[32];
    unsigned wrong = 0, strange = 0;

    names_begin(&names);
    CHECK(names_find(&names, 1, "a", 1) == NULL, "nothing is in an empty table");
    for (unsigned i = 0; i < MANY; i++) {
        struct name *name = names_add(&names, i % 7, text, name_of(i, text));
        if (name != NULL)
            name->node = i;
    }
    for (unsigned i = 0; i < MANY; i++) {
        size_t length = name_of(i, text);
        const struct name *name = names_find(&names, i % 7, text, length);
        wrong += name == NULL || name->node != i || names_add(&names, i % 7, text, length) != name;
        strange += names_find(&names, i % 7 + 1, text, length) != NULL || names_find(&names, i % 7, text, length - 1) == name;
    }
    CHECK(wrong == 0 && names.count == MANY && !names.full, "%u names are found, and none twice", MANY);
    CHECK(strange == 0, "not in other directories, nor by a part of the name");
    struct name *whole = names_add(&names, 3, "", 0);
    CHECK(whole != NULL && names_find(&names, 3, "", 0) == whole && names_find(&names, 4, "", 0) == NULL, "an empty name is one");
}

static void there_is_a_limit(void)
{
    static struct names names;
    char text[SQUASHFS_NAME + 2];
    unsigned added = 0;

    memset(text, 'x', sizeof text);
    CHECK(names_add(&names, 1, text, SQUASHFS_NAME) != NULL && !names.full, "the longest name of a squashfs");
    CHECK(names_add(&names, 1, text, SQUASHFS_NAME + 1) == NULL && names.full, "one that is longer");
    names.full = false;
    while (added < 4000000 && names_add(&names, added, "y", 1) != NULL)
        added++;
    CHECK(names.full && added < 4000000 && added > 500000, "%u names, and no more", added);
    CHECK(names_find(&names, added - 1, "y", 1) != NULL && names_find(&names, added, "y", 1) == NULL, "those before it stay");
}

int main(void)
{
    what_was_added_is_found();
    there_is_a_limit();
    return checks_end();
}
