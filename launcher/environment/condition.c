/* `test` and `[`, by POSIX's rules for the number of words. Looks at files; changes nothing. */
#include "environment/word.h"

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum condition truth(bool holds)
{
    return holds ? CONDITION_TRUE : CONDITION_FALSE;
}

static enum condition not(enum condition condition)
{
    return condition == CONDITION_UNKNOWN ? condition : truth(condition == CONDITION_FALSE);
}

/* -t, -o and what else POSIX or bash know is live code: what it says depends on a shell. */
static enum condition of_two(const char *const *words)
{
    const char *operator = words[0], *operand = words[1];
    struct stat status;

    if (strcmp(operator, "!") == 0)
        return truth(operand[0] == '\0');
    if (operator[0] != '-' || operator[1] == '\0' || operator[2] != '\0')
        return CONDITION_UNKNOWN;
    switch (operator[1]) {
    case 'n': return truth(operand[0] != '\0');
    case 'z': return truth(operand[0] == '\0');
    case 'd': return truth(stat(operand, &status) == 0 && S_ISDIR(status.st_mode));
    case 'f': return truth(stat(operand, &status) == 0 && S_ISREG(status.st_mode));
    case 'e': return truth(stat(operand, &status) == 0);
    case 's': return truth(stat(operand, &status) == 0 && status.st_size > 0);
    case 'L':
    case 'h': return truth(lstat(operand, &status) == 0 && S_ISLNK(status.st_mode));
    case 'r': return truth(access(operand, R_OK) == 0);
    case 'w': return truth(access(operand, W_OK) == 0);
    case 'x': return truth(access(operand, X_OK) == 0);
    default: return CONDITION_UNKNOWN;
    }
}

/* An operator between two words comes before a `!`; those that are not ours are no unary ones of ours either. */
static enum condition of_three(const char *const *words)
{
    if (strcmp(words[1], "=") == 0 || strcmp(words[1], "==") == 0)
        return truth(strcmp(words[0], words[2]) == 0);
    if (strcmp(words[1], "!=") == 0)
        return truth(strcmp(words[0], words[2]) != 0);
    return strcmp(words[0], "!") == 0 ? not(of_two(words + 1)) : CONDITION_UNKNOWN;
}

/* POSIX decides by the number of words, so that operands that look like operators are harmless ("test", Operands).
 * Five words and more it leaves open, and shells differ. */
enum condition condition_evaluate(const char *const *words, size_t count)
{
    switch (count) {
    case 0: return CONDITION_FALSE;
    case 1: return truth(words[0][0] != '\0');
    case 2: return of_two(words);
    case 3: return of_three(words);
    case 4: return strcmp(words[0], "!") == 0 ? not(of_three(words + 1)) : CONDITION_UNKNOWN;
    default: return CONDITION_UNKNOWN;
    }
}
