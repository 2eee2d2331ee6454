/* Fields of a text with commas and quotes, one after the other. */
#include "front.h"

#include <string.h>

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

/* `text` follows the opening quote; *end is left behind the closing one. Copied whole and shortened afterwards: how
 * long it is without its doubled quotes is known at its end. */
static enum csv_outcome read_quoted(struct text_store *store, const char *text, char **field, const char **end)
{
    char *copy = text_copy(store, text, strlen(text));
    char *out = copy;

    if (copy == NULL)
        return CSV_FULL;
    for (; *text != '\0'; text++) {
        if (*text == '"' && text[1] != '"') {
            *out = '\0';
            text_give_back(store, out + 1);
            *field = copy;
            *end = text + 1;
            return CSV_FIELD;
        }
        if (*text == '"')
            text++;
        *out++ = *text;
    }
    return CSV_UNCLOSED;
}

/* RFC 4180 within one line, and blanks behind a closing quote are let pass. */
enum csv_outcome csv_read(struct csv *csv, char **field)
{
    if (csv->next == NULL)
        return CSV_END;
    const char *text = csv->trim ? skip_blanks(csv->next) : csv->next;
    const char *end;
    if (*text == '"') {
        enum csv_outcome outcome = read_quoted(csv->store, text + 1, field, &end);
        if (outcome != CSV_FIELD)
            return outcome;
        end = skip_blanks(end);
        if (*end != ',' && *end != '\0')
            return CSV_UNCLOSED;
    } else {
        end = text + strcspn(text, ",");
        size_t length = (size_t)(end - text);
        while (csv->trim && length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t'))
            length--;
        *field = text_copy(csv->store, text, length);
        if (*field == NULL)
            return CSV_FULL;
    }
    csv->next = *end == ',' ? end + 1 : NULL;
    return CSV_FIELD;
}
