/* `test` and `[`, by POSIX's rules for the number of words. */
#include "environment/condition.h"

#include <fcntl.h>
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

static enum condition file_has_type(const char *path, mode_t type)
{
    struct stat status;
    return truth(stat(path, &status) == 0 && (status.st_mode & S_IFMT) == type);
}

static enum condition unary(const char *operator, const char *operand)
{
    struct stat status;

    if (operator[0] != '-' || operator[1] == '\0' || operator[2] != '\0')
        return CONDITION_UNKNOWN;
    switch (operator[1]) {
    case 'n': return truth(operand[0] != '\0');
    case 'z': return truth(operand[0] == '\0');
    case 'd': return file_has_type(operand, S_IFDIR);
    case 'f': return file_has_type(operand, S_IFREG);
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

/* What any shell reads as an operator between two words: ours, and those that are left to it. */
static bool is_binary(const char *word)
{
    static const char *const operators[] = {"=",   "==",  "!=",  "=~",  "<",   ">",  "-eq", "-ne", "-gt",
                                            "-ge", "-lt", "-le", "-nt", "-ot", "-ef", "-a", "-o"};
    for (size_t at = 0; at < sizeof operators / sizeof *operators; at++)
        if (strcmp(word, operators[at]) == 0)
            return true;
    return false;
}

static enum condition binary(const char *left, const char *operator, const char *right)
{
    if (strcmp(operator, "=") == 0 || strcmp(operator, "==") == 0)
        return truth(strcmp(left, right) == 0);
    if (strcmp(operator, "!=") == 0)
        return truth(strcmp(left, right) != 0);
    return CONDITION_UNKNOWN;
}

static enum condition of_two(const char *const *words)
{
    if (strcmp(words[0], "!") == 0)
        return truth(words[1][0] == '\0');
    return unary(words[0], words[1]);
}

static enum condition of_three(const char *const *words)
{
    if (is_binary(words[1]))
        return binary(words[0], words[1], words[2]);
    if (strcmp(words[0], "!") == 0)
        return not(of_two(words + 1));
    return CONDITION_UNKNOWN;
}

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
