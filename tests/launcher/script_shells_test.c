/* What the evaluator makes of a script is what real shells make of it, and what they export can be read back. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "environment/script.h"
#include "script_dump.h"

enum { SCRIPTS = 500, WORDS = 8 };

struct shell {
    const char *name;
    const char *words[WORDS];
};

static const struct shell shells[] = {
    {"dash", {"/bin/dash"}},
    {"bash", {"/bin/bash", "--norc", "--noprofile"}},
    {"bash --posix", {"/bin/bash", "--posix"}},
    {"busybox ash", {"/bin/busybox", "ash"}},
};

static struct arena arena;
static char directory[] = "/tmp/script_shells_test.XXXXXX";

/* ---- small tools ---- */

static void fail(const char *what)
{
    printf("not ok 0 - %s: %s\n", what, strerror(errno));
    exit(1);
}

static void write_file(const char *name, const char *bytes, size_t size)
{
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0 || write(file, bytes, size) != (ssize_t)size || close(file) != 0)
        fail(name);
}

static bool present(const struct shell *shell)
{
    if (access(shell->words[0], X_OK) == 0)
        return true;
    CHECK(true, "%s is not on this machine # SKIP", shell->name);
    return false;
}

/* Runs the shell with more words; its standard output goes to a file. */
static void run(const struct shell *shell, const char *const *more, char *const *environment, const char *output)
{
    char *words[2 * WORDS] = {NULL};
    size_t count = 0;
    int status;
    pid_t child;

    for (size_t at = 0; shell->words[at] != NULL; at++)
        words[count++] = (char *)(uintptr_t)shell->words[at];
    for (; *more != NULL; more++)
        words[count++] = (char *)(uintptr_t)*more;
    fflush(stdout);
    child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        int file = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0644), nothing = open("/dev/null", O_RDWR);
        if (dup2(nothing, 0) == 0 && dup2(file, 1) == 1 && dup2(nothing, 2) == 2)
            execve(words[0], words, environment);
        _exit(99);
    }
    if (waitpid(child, &status, 0) != child)
        fail("waitpid");
}

static bool own_variable(const char *text)
{
    return strncmp(text, "PWD=", 4) == 0 || strncmp(text, "OLDPWD=", 7) == 0 || strncmp(text, "SHLVL=", 6) == 0 ||
           strncmp(text, "_=", 2) == 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The variables in order, without those that a shell adds. */
static size_t tidy(char **environment)
{
    size_t used = 0;

    for (size_t at = 0; environment[at] != NULL; at++)
        if (!own_variable(environment[at]))
            environment[used++] = environment[at];
    environment[used] = NULL;
    qsort(environment, used, sizeof *environment, compare);
    return used;
}

static bool same(char **one, char **other)
{
    size_t count = tidy(one);

    if (tidy(other) != count)
        return false;
    for (size_t at = 0; at < count; at++)
        if (strcmp(one[at], other[at]) != 0)
            return false;
    return true;
}

/* What `env -0` wrote. */
static char **read_environment(const char *name)
{
    size_t size, count = 0;
    char *text = source_read(AT_FDCWD, name, &arena, &size);
    char **environment = arena_take(&arena, 4096 * sizeof *environment);

    if (text == NULL || environment == NULL)
        return NULL;
    for (size_t at = 0; at < size && count < 4095; at += strlen(text + at) + 1)
        environment[count++] = text + at;
    environment[count] = NULL;
    return environment;
}

/* ---- scripts by chance, always the same ones ---- */

static unsigned random_state = 2016;

static unsigned chance(unsigned below)
{
    random_state = random_state * 1103515245u + 12345u;
    return (random_state >> 16) % below;
}

#define ONE_OF(list) ((list)[chance(sizeof(list) / sizeof *(list))])

struct writer {
    char text[16384];
    size_t length;
};

static void add(struct writer *writer, const char *text)
{
    size_t length = strlen(text);
    if (writer->length + length < sizeof writer->text) {
        memcpy(writer->text + writer->length, text, length + 1);
        writer->length += length;
    }
}

static void add_word(struct writer *writer, unsigned parts)
{
    static const char *const list[] = {
        "a", "b c", "'q'", "\"d\"", "$A", "${B}", "\"$C\"", "${A:-x}", "${B:+y}", "${C-z w}", "\"${A:-\"i j\"}\"",
        "\"${B:-k}\"", "\\\"", "\\$", "\\\\", "\\x", "\"\\a\"", "\"\\$A\"", "\"\\\"\"", "\"\\'\"", "$", "\"$\"", "*", "?",
        "[x]", "~", ":", "=", "#", "{", "}", "{a,b}", "\\\n", "\n", " ", "\t", "\"\\\n\"", "!", "%", "/", ".", "-",
        "${A:=new}", "\"${B:=\"x y\"}\"", "${C:=\"p q\"}", "\"a$\"", "$%", "'$A'", "\"`\"", ";", "&&", "|", ">",
        "${A:-$B}", "${A:-${B:-deep}}", "\"${A:-${B:-\"d q\"}}\"", "\"\"", "''", "\"${A:+\"$B\"}\"", "${A+\"x y\"}", "\xc3\xa4",
        "${A:-a\\}b}", "\"${A:-a\\}b}\"", "\"${A:-\\a}\"", "${A:-\\a}", "$A$B", "${A}x", "\"$A\"x", "\\ ", "\"${A:-}\"",
        "${A:-\"}\"}", "${A:-'}'}", "\"${A:-\"}\"}\"", "\r", "\xff",
    };
    for (unsigned count = 1 + chance(parts); count > 0; count--)
        add(writer, ONE_OF(list));
}

static void add_name(struct writer *writer)
{
    static const char *const names[] = {"A", "B", "C", "D_1"};
    add(writer, ONE_OF(names));
}

static void add_assignment(struct writer *writer)
{
    add_name(writer);
    add(writer, "=");
    add_word(writer, 4);
}

static void add_condition(struct writer *writer)
{
    static const char *const forms[] = {"-n @", "-z @", "! -z @", "@ = @", "@ != @", "! @ = @", "-d @", "-f @", "-e @",
                                        "-x @", "@", "! @", "", "-r @", "-s @", "@ @", "-L @"};
    static const char *const arguments[] = {"\"$A\"", "$A", "${B:-}", "\"${C:-}\"", "x", "\"\"", "/tmp", "/etc/passwd"};
    const char *form = ONE_OF(forms);
    bool bracket = chance(2) == 0;

    add(writer, bracket ? "[ " : "test ");
    for (; *form != '\0'; form++) {
        char letter[2] = {*form, '\0'};
        if (*form != '@')
            add(writer, letter);
        else if (chance(8) == 0)
            add_word(writer, 2);
        else
            add(writer, ONE_OF(arguments));
    }
    add(writer, bracket ? " ]" : "");
}

static void add_command(struct writer *writer)
{
    switch (chance(10)) {
    case 0:
    case 1:
    case 2: add_assignment(writer); return;
    case 3:
    case 4: add(writer, "export "); add_assignment(writer); return;
    case 5: add(writer, "export "); add_name(writer); add(writer, " "); add_name(writer); return;
    case 6: add(writer, "unset "); add_name(writer); return;
    case 7: add(writer, chance(2) == 0 ? ": " : "! : "); add_word(writer, 3); return;
    case 8: add(writer, ". ./inner"); return;
    default: add_condition(writer); return;
    }
}

static void add_statement(struct writer *writer, unsigned depth)
{
    if (depth == 3 || chance(3) > 0) {
        add_command(writer);
        if (chance(4) == 0) {
            add(writer, chance(2) == 0 ? " && " : " ||\n");
            add_command(writer);
        }
        return;
    }
    add(writer, "if ");
    add_condition(writer);
    add(writer, chance(2) == 0 ? "; then\n" : "\nthen ");
    add_statement(writer, depth + 1);
    if (chance(3) == 0) {
        add(writer, "\nelif ");
        add_condition(writer);
        add(writer, "; then ");
        add_statement(writer, depth + 1);
    }
    if (chance(2) == 0) {
        add(writer, "; else # $(\n");
        add_statement(writer, depth + 1);
    }
    add(writer, "\nfi");
}

static const char *make_script(unsigned number)
{
    static struct writer writer;
    char name[32];

    writer.length = 0;
    for (unsigned count = 1 + chance(4); count > 0; count--) {
        add_statement(&writer, 0);
        add(&writer, count > 1 && chance(3) == 0 ? "; " : "\n");
    }
    snprintf(name, sizeof name, "script%u", number);
    write_file(name, writer.text, writer.length);
    return writer.text;
}

/* ---- the same by the evaluator and by a shell ---- */

static char *start_environment[] = {"A=", "B=x y", "PATH=/usr/bin:/bin", NULL};

/* NULL: live code. */
static char **evaluated(const char *text)
{
    struct variables variables;
    struct script_result result;

    variables_begin(&variables, &arena);
    if (!variables_put(&variables, "A", "") || !variables_put(&variables, "B", "x y") ||
        !variables_put(&variables, "PATH", "/usr/bin:/bin"))
        fail("variables");
    return script_evaluate("s", text, strlen(text), &variables, &result) == SCRIPT_APPLIED ? variables_environment(&variables)
                                                                                            : NULL;
}

static void compare_shell(const struct shell *shell, char **(*expected), unsigned applied)
{
    static const char *const words[] = {"driver", NULL};
    unsigned differing = 0;

    run(shell, words, start_environment, "output");
    for (unsigned number = 0; number < SCRIPTS; number++) {
        char name[32];
        char **found;
        if (expected[number] == NULL)
            continue;
        snprintf(name, sizeof name, "script%u.out", number);
        found = read_environment(name);
        if (found == NULL || !same(expected[number], found)) {
            size_t size;
            name[strlen(name) - 4] = '\0';
            printf("# %s differs on:\n%s\n# ends\n", shell->name, source_read(AT_FDCWD, name, &arena, &size));
            differing++;
        }
    }
    CHECK(differing == 0 && applied > SCRIPTS / 4, "%u of %d scripts end as in %s", applied, SCRIPTS, shell->name);
}

static void remove_outputs(void)
{
    for (unsigned number = 0; number < SCRIPTS; number++) {
        char name[32];
        snprintf(name, sizeof name, "script%u.out", number);
        unlink(name);
    }
}

static void check_scripts(void)
{
    static char **expected[SCRIPTS];
    static char driver[SCRIPTS * 96];
    static const char inner[] = "export INNER=\"$A.in\"\nB=${B:+q}\n";
    size_t used = 0;
    unsigned applied = 0;

    write_file("inner", inner, sizeof inner - 1);
    for (unsigned number = 0; number < SCRIPTS; number++) {
        expected[number] = evaluated(make_script(number));
        if (expected[number] == NULL)
            continue;
        applied++;
        used += (size_t)snprintf(driver + used, sizeof driver - used, "(. ./script%u; /usr/bin/env -0 >script%u.out)\n",
                                 number, number);
    }
    write_file("driver", driver, used);
    for (size_t at = 0; at < sizeof shells / sizeof *shells; at++) {
        if (present(&shells[at]))
            compare_shell(&shells[at], expected, applied);
        remove_outputs();
    }
}

/* ---- export -p ---- */

static char *large_value(void)
{
    static const char unit[] = "'\"$`\\ \n\t*~\x80";
    static char text[(100 << 10) + 8] = "LARGE=";

    for (size_t at = 6; at < sizeof text - 1; at++)
        text[at] = unit[at % (sizeof unit - 1)];
    return text;
}

static void check_dumps(void)
{
    static char *environment[] = {
        "EMPTY=", "BLANKS=  a  b  ", "QUOTES=it's \"it\"", "DOLLAR=$HOME $(x) `y` $",
        "SLASH=\\ \\n \\\\", "LINES=\n\na\nexport X=1\n", "TABS=\t\r\v\f\a\b\033",
        "BYTES=\xff\xc3\xa4\x01\x7f", "SIGNS=!#%&()*+,-./:;<=>?@[]^_{|}~", "EQUALS=a=b=c",
        "PATH=/usr/bin:/bin", NULL, NULL,
    };
    static const char *const words[] = {"-c", "unset NONE; export NONE; export -p", NULL};

    environment[sizeof environment / sizeof *environment - 2] = large_value();
    for (size_t at = 0; at < sizeof shells / sizeof *shells; at++) {
        struct variables variables;
        struct script_result result;
        size_t size;
        char *text;
        bool holds;
        if (!present(&shells[at]))
            continue;
        run(&shells[at], words, environment, "output");
        text = source_read(AT_FDCWD, "output", &arena, &size);
        variables_begin(&variables, &arena);
        holds = text != NULL && script_read_dump(text, size, &variables, &result);
        if (text != NULL && !holds)
            printf("# line %u: %s\n", result.line, result.why);
        CHECK(holds && same(variables_environment(&variables), environment), "what %s exports is read back, byte for byte",
              shells[at].name);
    }
}

static void check_dump_forms(void)
{
    static const char text[] = "declare -x A=\"1\"\ndeclare -ax LIST=([0]=\"a)\" [1]=\"b\")\ndeclare -rx B=$'\\x41\\u00e4\\102'\n"
                               "typeset -x C='it'\\''s'\ndeclare -x D\nexport E=plain{x}\n";
    struct variables variables;
    struct script_result result;
    size_t size;

    variables_begin(&variables, &arena);
    CHECK(script_read_dump(text, sizeof text - 1, &variables, &result) &&
              strcmp(script_write_dump(&variables, &size),
                     "export A='1'\nexport LIST\nexport B='A\xc3\xa4" "B'\nexport C='it'\"'\"'s'\nexport D\nexport E='plain{x}'\n") == 0,
          "other forms that shells export in");
    variables_begin(&variables, &arena);
    CHECK(!script_read_dump("export A='1\n", 12, &variables, &result), "half a dump is none");
    CHECK(!script_read_dump("hello\n", 6, &variables, &result), "other text is none");
}

static void remove_files(void)
{
    for (unsigned number = 0; number < SCRIPTS; number++) {
        char name[32];
        snprintf(name, sizeof name, "script%u", number);
        unlink(name);
    }
    unlink("inner");
    unlink("driver");
    unlink("output");
    if (chdir("/") != 0 || rmdir(directory) != 0)
        fail(directory);
}

int main(void)
{
    arena_begin(&arena, ARENA_LIMIT);
    if (mkdtemp(directory) == NULL || chdir(directory) != 0)
        fail(directory);
    check_scripts();
    check_dumps();
    check_dump_forms();
    remove_files();
    arena_end(&arena);
    return checks_end();
}
