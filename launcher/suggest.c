/* The spelling that was perhaps meant. */
#include "suggest.h"

#include <string.h>

enum { SUGGEST_LENGTH = 64 };

/* "_" for "-": names of variables and of options are the same words in two spellings. */
static char folded(char letter)
{
    if (letter >= 'A' && letter <= 'Z')
        return (char)(letter - 'A' + 'a');
    return letter == '_' ? '-' : letter;
}

static size_t least(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Letters put in, left out, replaced or swapped with a neighbour; case and "_" for "-" cost nothing.
 * Damerau-Levenshtein in its restricted form ("optimal string alignment"), by three rows of the table instead of all. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][SUGGEST_LENGTH + 1];
    size_t *before = rows[0], *above = rows[1], *here = rows[2];

    for (size_t j = 0; j <= b_length; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        here[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t differs = folded(a[i - 1]) != folded(b[j - 1]) ? 1 : 0;
            here[j] = least(above[j] + 1, here[j - 1] + 1, above[j - 1] + differs);
            if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) && folded(a[i - 2]) == folded(b[j - 1]) &&
                before[j - 2] + 1 < here[j])
                here[j] = before[j - 2] + 1;
        }
        size_t *spare = before;
        before = above;
        above = here;
        here = spare;
    }
    return above[b_length];
}

/* A third of the letters may differ, one in short words: further away a suggestion is a guess. Of two that are
 * equally near the first one stays. */
void suggest_from(struct suggestion *suggestion, const char *candidate, size_t length)
{
    size_t longer = length > suggestion->length ? length : suggestion->length;

    if (length == 0 || longer > SUGGEST_LENGTH)
        return;
    size_t distance = edit_distance(suggestion->word, suggestion->length, candidate, length);
    size_t allowed = longer < 4 ? 1 : longer / 3;
    if (distance > allowed || distance >= longer || (suggestion->found_length > 0 && distance >= suggestion->distance))
        return;
    suggestion->found = candidate;
    suggestion->found_length = length;
    suggestion->distance = distance;
}

void suggest_from_list(struct suggestion *suggestion, const char *list)
{
    while (*list != '\0') {
        size_t size = strcspn(list, ",");
        suggest_from(suggestion, list, size);
        list += size + (list[size] == ',');
    }
}
