/* Which of two shared libraries is newer, by their numbers and the symbol versions that they define. */
#include "libraries.h"

#include <string.h>

static bool digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

/* Numbers of any length: without leading zeros the longer one is larger. */
static int number_compare(const char *one, size_t one_length, const char *other, size_t other_length)
{
    for (; one_length > 1 && *one == '0'; one_length--)
        one++;
    for (; other_length > 1 && *other == '0'; other_length--)
        other++;
    if (one_length != other_length)
        return one_length < other_length ? -1 : 1;
    return memcmp(one, other, one_length);
}

/* "2.9" < "2.10", which strcmp(3) gets wrong; a number is newer than a word in its place ("1.0.1" and "1.0.rc1"). */
int version_compare(const char *one, const char *other)
{
    static const char digits[] = "0123456789";

    while (*one != '\0' && *other != '\0') {
        size_t one_length = strspn(one, digits), other_length = strspn(other, digits);
        if (one_length > 0 && other_length > 0) {
            int order = number_compare(one, one_length, other, other_length);
            if (order != 0)
                return order;
            one += one_length;
            other += other_length;
        } else if (*one != *other) {
            return digit(*one) ? 1 : digit(*other) ? -1 : (unsigned char)*one < (unsigned char)*other ? -1 : 1;
        } else {
            one++;
            other++;
        }
    }
    return *one != '\0' ? 1 : *other != '\0' ? -1 : 0;
}

const char *library_number(const char *name)
{
    const char *at = strstr(name, ".so.");

    return at != NULL && digit(at[4]) ? at + 4 : "";
}

/* GLIBC_PRIVATE and the like. */
static bool private_version(const char *version)
{
    return strstr(version, "PRIVATE") != NULL;
}

const char *library_lacks(const struct elf *one, const struct elf *other)
{
    struct elf_definition definition = {.version = NULL};

    while (elf_next_definition(other, &definition))
        if (!definition.base && !private_version(definition.version) && !elf_defines(one, definition.version))
            return definition.version;
    return NULL;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Not more than a hint: a file's name is its packager's. */
static enum version_order order_by_number(const char *one, const char *other)
{
    int order = version_compare(one, other);

    if (order == 0)
        return VERSION_SAME;
    if (starts_with(one, other) || starts_with(other, one))
        return VERSION_UNKNOWN; /* "1" and "1.2.3": one of them does not say */
    return order > 0 ? VERSION_NEWER : VERSION_OLDER;
}

/* One that has all versions of the other and more is newer. If each has some that the other lacks they have grown
 * apart, and nothing can be said. */
enum version_order library_version_order(const struct shared_object *one, const struct shared_object *other)
{
    bool one_has = library_lacks(&one->elf, &other->elf) == NULL, other_has = library_lacks(&other->elf, &one->elf) == NULL;

    if (one_has != other_has)
        return one_has ? VERSION_NEWER : VERSION_OLDER;
    if (!one_has)
        return VERSION_UNKNOWN;
    enum version_order order = order_by_number(library_number(one->name), library_number(other->name));
    return order == VERSION_SAME && one->elf.size != other->elf.size ? VERSION_UNKNOWN : order;
}
