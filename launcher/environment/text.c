/* Text that grows in an arena. */
#include "environment/text.h"

#include <stdarg.h>
#include <string.h>

#include "environment/environment.h"

enum { FIRST_ROOM = 256 };

/* Room doubles, so that a text of n bytes is copied as a whole some log n times at most. */
void text_add(struct text *text, const char *bytes, size_t length)
{
    size_t needed = text->length + length + 1;

    if (needed > text->room) {
        size_t room = 2 * text->room > FIRST_ROOM ? 2 * text->room : FIRST_ROOM;
        room = room > needed ? room : needed;
        text->bytes = arena_grow(text->arena, text->bytes, text->length, room);
        text->room = room;
        environment_need(text->bytes != NULL);
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

void text_add_string(struct text *text, const char *string)
{
    text_add(text, string, strlen(string));
}

void text_add_strings(struct text *text, const char *first, ...)
{
    va_list strings;

    va_start(strings, first);
    for (const char *string = first; string != NULL; string = va_arg(strings, const char *))
        text_add_string(text, string);
    va_end(strings);
}

const char *text_join(struct arena *arena, const char *first, const char *second, const char *third)
{
    struct text text = {.arena = arena};

    text_add_strings(&text, first, second, third, NULL);
    return text.bytes;
}

/* Between single quotes nothing means anything to a shell but the quote itself, which goes between double ones. */
void text_add_quoted(struct text *text, const char *string)
{
    text_add(text, "'", 1);
    for (const char *quote = strchr(string, '\''); quote != NULL; quote = strchr(string, '\'')) {
        text_add(text, string, (size_t)(quote - string));
        text_add(text, "'\"'\"'", 5);
        string = quote + 1;
    }
    text_add_strings(text, string, "'", NULL);
}
