/* $'...': the quotes with escapes of ANSI C. */
#include "environment/word.h"

#include <string.h>

enum { NOT_A_DIGIT = 16 };

static unsigned digit_value(int character)
{
    if (character >= '0' && character <= '9')
        return (unsigned)(character - '0');
    if (character >= 'a' && character <= 'f')
        return (unsigned)(character - 'a' + 10);
    if (character >= 'A' && character <= 'F')
        return (unsigned)(character - 'A' + 10);
    return NOT_A_DIGIT;
}

/* At most `limit` digits of the base at the cursor. */
static unsigned read_number(struct evaluation *evaluation, unsigned base, unsigned limit)
{
    struct cursor *cursor = &evaluation->cursor;
    unsigned number = 0;

    for (unsigned used = 0; used < limit && cursor->at < cursor->end; used++) {
        unsigned digit = digit_value(*cursor->at);
        if (digit >= base)
            break;
        number = number * base + digit;
        evaluation_advance(evaluation);
    }
    return number;
}

static bool add_utf8(struct evaluation *evaluation, struct word *word, unsigned point)
{
    static const struct { unsigned below; unsigned lead; size_t rest; } forms[] = {
        {0x80, 0, 0}, {0x800, 0xc0, 1}, {0x10000, 0xe0, 2}, {0x110000, 0xf0, 3},
    };
    for (size_t form = 0; form < sizeof forms / sizeof *forms; form++) {
        char bytes[4];
        size_t rest = forms[form].rest;
        if (point >= forms[form].below)
            continue;
        bytes[0] = (char)(forms[form].lead | point >> (6 * rest));
        for (size_t at = 1; at <= rest; at++)
            bytes[at] = (char)(0x80 | (point >> (6 * (rest - at)) & 0x3f));
        return word_add(evaluation, word, bytes, rest + 1);
    }
    return evaluation_live(evaluation, "a character that does not exist");
}

/* What follows a backslash in $'...'. */
static bool read_escaped(struct evaluation *evaluation, struct word *word)
{
    static const char letters[] = "abefnrtvE";
    static const char meanings[] = "\a\b\033\f\n\r\t\v\033";
    struct cursor *cursor = &evaluation->cursor;
    char letter = *cursor->at;
    const char *known = strchr(letters, letter);
    unsigned number;
    char byte;

    if (digit_value(letter) < 8) {
        number = read_number(evaluation, 8, 3);
    } else {
        evaluation_advance(evaluation);
        if (letter == 'u' || letter == 'U')
            return add_utf8(evaluation, word, read_number(evaluation, 16, letter == 'u' ? 4 : 8));
        if (letter == 'x')
            number = read_number(evaluation, 16, 2);
        else if (known != NULL)
            number = (unsigned char)meanings[known - letters];
        else
            number = (unsigned char)letter;
    }
    byte = (char)number;
    return byte == '\0' ? evaluation_live(evaluation, "a NUL") : word_add(evaluation, word, &byte, 1);
}

bool word_read_ansi(struct evaluation *evaluation, struct word *word)
{
    struct cursor *cursor = &evaluation->cursor;

    word->field = true;
    while (cursor->at < cursor->end && *cursor->at != '\'') {
        char byte = *cursor->at;
        evaluation_advance(evaluation);
        if (byte != '\\') {
            if (!word_add(evaluation, word, &byte, 1))
                return false;
        } else if (cursor->at == cursor->end || !read_escaped(evaluation, word)) {
            return evaluation_live(evaluation, "a quote without its end");
        }
    }
    if (cursor->at == cursor->end)
        return evaluation_live(evaluation, "a quote without its end");
    evaluation_advance(evaluation);
    return true;
}
