/* Bytes of strangers, taken from the front: text, strings of SSH, base64. */
#include "signature.h"

#include <string.h>

bool span_take(struct span *from, const char *text)
{
    size_t length = strlen(text);

    if (from->length < length || memcmp(from->at, text, length) != 0)
        return false;
    *from = (struct span){from->at + length, from->length - length};
    return true;
}

bool ssh_string(struct span *from, struct span *string)
{
    if (from->length < 4)
        return false;
    size_t length = (size_t)from->at[0] << 24 | (size_t)from->at[1] << 16 | (size_t)from->at[2] << 8 | from->at[3];
    if (length > from->length - 4)
        return false;
    *string = (struct span){from->at + 4, length};
    *from = (struct span){from->at + 4 + length, from->length - 4 - length};
    return true;
}

bool base64_decode(struct span text, uint8_t *to, size_t room, size_t *size)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t count = 0, padding = 0;

    *size = 0;
    for (size_t i = 0; i < text.length; i++) {
        const char *letter = text.at[i] == '\0' ? NULL : strchr(letters, text.at[i]);
        if (text.at[i] == '\n')
            continue;
        if (text.at[i] == '=' && ++padding <= 2)
            letter = letters;
        else if (letter == NULL || padding > 0)
            return false;
        bits = bits << 6 | (uint32_t)(letter - letters);
        if (++count % 4 != 0)
            continue;
        if (*size + 3 > room)
            return false;
        for (int shift = 16; shift >= 0; shift -= 8)
            to[(*size)++] = (uint8_t)(bits >> shift);
        bits = 0;
    }
    if (count % 4 != 0)
        return false;
    for (; padding > 0; padding--) /* one spelling: bits that nobody decodes are none */
        if (to[--*size] != 0)
            return false;
    return true;
}
