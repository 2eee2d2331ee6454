/* Environment scripts evaluated without a shell: what is understood, what is live code, and that shells agree. */
#include "environment/script.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "script_dump.h"

static struct arena arena;
static char directory[] = "/tmp/script_test.XXXXXX";

/* ---- small tools ---- */

static void write_file(const char *name, const char *bytes, size_t size)
{
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, bytes, size) != (ssize_t)size || close(file) != 0)
        abort();
}

static void start(struct variables *variables)
{
    arena_end(&arena);
    arena_begin(&arena, ARENA_LIMIT);
    variables_begin(variables, &arena);
}

static char *dump_of(const struct variables *variables)
{
    size_t size;
    char *dump = script_write_dump(variables, &size);
    if (dump == NULL)
        abort();
    return dump;
}

static enum script_outcome evaluate(const char *text, struct variables *variables, struct script_result *result)
{
    return script_evaluate("test.sh", text, strlen(text), variables, result);
}

/* ---- what is understood ---- */

struct applied_case {
    const char *what;
    const char *text;
    const char *dump; /* after a start with A='' and B='x y', both exported */
};

static const struct applied_case applied_cases[] = {
    {"an assignment keeps a variable exported and leaves a new one as it is", "B=2 C=3", "export A=''\nexport B='2'\nC='3'\n"},
    {"export of several names and values", "C=1; export C D=2 E", "export A=''\nexport B='x y'\nexport C='1'\nexport D='2'\nexport E\n"},
    {"arguments of export are expanded before any is set", "export B=1 C=$B", "export A=''\nexport B='1'\nexport C='x y'\n"},
    {"unset takes the export mark away", "unset B; B=1", "export A=''\nB='1'\n"},
    {"quotes of every kind", "C='a\"$B'\"b'$B\\\"\\x\"\\ c\\$d", "export A=''\nexport B='x y'\nC='a\"$Bb'\"'\"'x y\"\\x c$d'\n"},
    {"a dollar before nothing is a dollar", "C=\"$\"$ D=\"a$ b\" E=$%", "export A=''\nexport B='x y'\nC='$$'\nD='a$ b'\nE='$%'\n"},
    {"defaults look at empty or at unset", "C=${A:-1}${A-2}${Z:-3}${Z-4}", "export A=''\nexport B='x y'\nC='134'\n"},
    {"alternatives look at empty or at unset", "C=${A:+1}${A+2}${Z:+3}${Z+4}${B:+5}", "export A=''\nexport B='x y'\nC='25'\n"},
    {"a Docker variable in the form of today's images", "export K=\"${K:-\"a \\\"q\\\" \\$B \\\\ it's }\"}\"", "export A=''\nexport B='x y'\nexport K='a \"q\" $B \\ it'\"'\"'s }'\n"},
    {"a word that is not needed has no effect", "C=${B:-${D:-no}}", "export A=''\nexport B='x y'\nC='x y'\n"},
    {"if, elif and else take one branch", "if [ -n \"$A\" ]; then C=1\nelif test \"$B\" = 'x y'; then C=2; else C=3; fi", "export A=''\nexport B='x y'\nC='2'\n"},
    {"a branch that is not taken may hold other commands", "if [ ! -d / ]; then echo \"$@\" >&2 *; exit 1; fi", "export A=''\nexport B='x y'\n"},
    {"nothing taken is no failure", "if [ ]; then :; fi && C=1", "export A=''\nexport B='x y'\nC='1'\n"},
    {"and, or, not", "! [ ] && C=1 || C=2; [ ] ||\n# comment\nD=3", "export A=''\nexport B='x y'\nC='1'\nD='3'\n"},
    {"an empty unquoted word is no argument", "[ -n $A ] && C=1; [ -n \"$A\" ] || D=1", "export A=''\nexport B='x y'\nC='1'\nD='1'\n"},
    {"comments are passed over", "# it's $(not\nC=1 # \" more\n:;# `\n  #", "export A=''\nexport B='x y'\nC='1'\n"},
    {"continued lines in names, quotes and values", "ex\\\nport C=\"1\\\n2\"'a\\\nb'", "export A=''\nexport B='x y'\nexport C='12a\\\nb'\n"},
    {"a line ends that is none for us", "C=1\r\nexport D=2", "export A=''\nexport B='x y'\nC='1\r'\nexport D='2'\n"},
    {"bytes that are no characters", "C=\xff\xfe'\x80'", "export A=''\nexport B='x y'\nC='\xff\xfe\x80'\n"},
    {"a pattern in a value is its own", "C=a* D=[x]?", "export A=''\nexport B='x y'\nC='a*'\nD='[x]?'\n"},
    {"nothing at all", "", "export A=''\nexport B='x y'\n"},
    {"the colon takes any words", ": a 'b c' \"$B\" || C=1", "export A=''\nexport B='x y'\n"},
};

static void check_applied(void)
{
    for (size_t at = 0; at < sizeof applied_cases / sizeof *applied_cases; at++) {
        const struct applied_case *each = &applied_cases[at];
        struct script_result result;
        struct variables variables;
        start(&variables);
        if (!variables_put(&variables, "A", "") || !variables_put(&variables, "B", "x y"))
            abort();
        CHECK(evaluate(each->text, &variables, &result) == SCRIPT_APPLIED && strcmp(dump_of(&variables), each->dump) == 0,
              "%s", each->what);
    }
}

/* ---- what is live code ---- */

struct live_case {
    const char *text;
    unsigned line;
};

static const struct live_case live_cases[] = {
    {"A=1\nB=$(date)", 2}, {"A=`date`", 1}, {"A=$((1+1))", 1}, {"A=$[1]", 1}, {"A=$'x'", 1}, {"A=$\"x\"", 1}, {"A=~", 1},
    {"A=x:~/y", 1}, {"export A=~", 1}, {"export A={a,b}", 1}, {"A=${B#x}", 1}, {"A=${B%x}", 1}, {"A=${#B}", 1},
    {"A=${B:?x}", 1}, {"A=${B:0:1}", 1}, {"A=${!B}", 1}, {"A=${B/x/y}", 1}, {"A=$1", 1}, {"A=$@", 1}, {"A=$?", 1},
    {"A=$$", 1}, {"A=${1}", 1}, {"A=\"${B:-it's}\"", 1}, {"A=\"${Z:-\"$B\"z}\"", 1}, {"A=(1 2)", 1}, {"A+=1", 1},
    {"A[0]=1", 1}, {"A=1 :", 1}, {"for i in a; do :; done", 1}, {"while false; do :; done", 1}, {"case x in x) ;; esac", 1},
    {"f() { :; }", 1}, {"function f { :; }", 1}, {"{ A=1; }", 1}, {"(A=1)", 1}, {"[[ -n x ]]", 1}, {"A=1 > /dev/null", 1},
    {"A=1; echo x", 1}, {"A=1 & B=2", 1}, {": | :", 1}, {"cat <<E\nE", 1}, {"exit 1", 1}, {"return", 1}, {"cd /", 1},
    {"set -e", 1}, {"eval A=1", 1}, {"readonly A", 1}, {"local A", 1}, {"alias a=b", 1}, {"trap : EXIT", 1},
    {"command true", 1}, {"ulimit -n 1", 1}, {"export -p", 1}, {"export", 1}, {"export 1x=2", 1}, {"export -n A", 1},
    {"export A*", 1}, {"unset -f A", 1}, {"A={a,b}", 1}, {"A=\"$@\"", 1}, {": \"$@\"", 1}, {"\"$@\"", 1},
    {". ./inner.sh \"$@\"x", 1}, {"export B=\"$@\"", 1}, {"A=${Z:-\"$@\"}", 1}, {"if [ ]; then : > ; fi", 1},
    {"if [ ]; then : << E; fi", 1}, {". \"$@\"", 1}, {"unset 1x", 1}, {"umask", 1}, {"umask u=rwx", 1}, {"umask 027", 1},
    {": ${A:=1}", 1}, {"test -n x -a -n y", 1}, {"[ -n x -o y ]", 1}, {"[ 1 -eq 1 ]", 1}, {"[ a -nt b ]", 1}, {"[ -n x", 1},
    {"[ ( a ) ]", 1}, {"[ -k / ]", 1}, {"[ a b ]", 1}, {"[ -f *.sh ]", 1}, {"[ -n $B ]", 1}, {"[ -f ~ ]", 1},
    {". relative.sh", 1}, {". /does/not/exist", 1}, {". /dev/null/x", 1}, {". /", 1}, {". ./inner.sh a b", 1},
    {"'export' A=1", 1}, {"\\export A=1", 1}, {"$A A=1", 1}, {"if :; then A=1", 1}, {"if :; then fi", 1},
    {"if ; then A=1; fi", 1}, {"then", 1}, {"fi", 1}, {"A=1; fi", 1}, {"if :; A=1; fi", 1}, {"if :; then A=1; fi > x", 1},
    {"true", 1}, {"if : && then :; fi", 1}, {"else", 1}, {"!", 1}, {"! ! :", 1}, {"A=1;; B=2", 1}, {"; A=1", 1},
    {"&& A=1", 1}, {"A=1 &&", 1}, {"A='x", 1}, {"A=\"x", 1}, {"A=${B", 1}, {"A=${B:-x", 1}, {"A=x\\", 1}, {"IFS=:", 1},
    {"export IFS", 1}, {"unset IFS", 1}, {"A=$RANDOM", 1}, {"RANDOM=1", 1}, {"A=$LINENO", 1}, {"A=$BASH_VERSION", 1},
    {"A=1\n\n# c\nB='\n'\necho", 6}, {"A='\n\n'\n$(x)", 4}, {"A=1\\\n2\\\n3; x", 3},
};

static void check_live(void)
{
    size_t wrong = 0;

    for (size_t at = 0; at < sizeof live_cases / sizeof *live_cases; at++) {
        const struct live_case *each = &live_cases[at];
        struct script_result result;
        struct variables variables;
        char *before;
        bool holds;
        start(&variables);
        if (!variables_put(&variables, "A", "0") || !variables_put(&variables, "B", "x y"))
            abort();
        before = dump_of(&variables);
        holds = evaluate(each->text, &variables, &result) == SCRIPT_LIVE && result.line == each->line &&
                result.why != NULL && strcmp(result.file, "test.sh") == 0 &&
                strcmp(dump_of(&variables), before) == 0;
        if (!holds)
            printf("# %s: line %u, %s\n", each->text, result.line, result.why == NULL ? "applied" : result.why);
        wrong += holds ? 0 : 1;
    }
    CHECK(wrong == 0, "%zu kinds of live code leave the table alone and name their line", sizeof live_cases / sizeof *live_cases);
}

/* ---- files ---- */

static void check_files(void)
{
    struct script_result result;
    struct variables variables;
    static const char inner[] = "INNER=$OUTER.in\nexport INNER\n", live[] = "INNER=1\n\nls\n";
    static const char again[] = ". ./again.sh\n. ./again.sh\n";
    char nothing[64] = {0};

    write_file("inner.sh", inner, sizeof inner - 1);
    write_file("live.sh", live, sizeof live - 1);
    write_file("again.sh", again, sizeof again - 1);
    write_file("nul.sh", nothing, sizeof nothing);
    if (mkfifo("fifo.sh", 0644) != 0)
        abort();
    start(&variables);
    CHECK(evaluate("OUTER=1; . ./inner.sh \"$@\"; source ./inner.sh", &variables, &result) == SCRIPT_APPLIED &&
              strcmp(dump_of(&variables), "OUTER='1'\nexport INNER='1.in'\n") == 0,
          "a sourced file shares the variables");
    start(&variables);
    CHECK(evaluate("OUTER=1\n. ./live.sh", &variables, &result) == SCRIPT_LIVE && result.line == 3 &&
              strcmp(result.file, "./live.sh") == 0 && variables_get(&variables, "OUTER") == NULL,
          "live code in a sourced file undoes the outer one too, and is named with its own line");
    CHECK(evaluate(". ./again.sh", &variables, &result) == SCRIPT_LIVE && variables.count == 0,
          "a file that sources itself comes to an end");
    CHECK(evaluate(". ./nul.sh", &variables, &result) == SCRIPT_LIVE, "a NUL is live code");
    CHECK(evaluate(". ./fifo.sh", &variables, &result) == SCRIPT_LIVE, "a pipe is not read");
    start(&variables);
    CHECK(evaluate("if [ -f ./inner.sh ] && [ -r ./inner.sh ] && [ -e . ] && [ -d . ] && [ -s ./inner.sh ] && [ ! -x ./inner.sh ] "
                   "&& [ ! -L ./inner.sh ] && test ! -f . && test ! -d ./inner.sh && [ ! -e ./none ]; then C=1; fi",
                   &variables, &result) == SCRIPT_APPLIED && variables_get(&variables, "C") != NULL,
          "tests of files");
}

/* ---- bounds ---- */

/* `start`, `unit` so many times, `middle`, `end` as many times. */
static char *nested(const char *begin, const char *unit, size_t times, const char *middle, const char *end)
{
    char *text = malloc(strlen(begin) + (strlen(unit) + strlen(end)) * times + strlen(middle) + 1);
    char *at = text;

    if (text == NULL)
        abort();
    at = stpcpy(at, begin);
    for (size_t count = 0; count < times; count++)
        at = stpcpy(at, unit);
    at = stpcpy(at, middle);
    for (size_t count = 0; count < times; count++)
        at = stpcpy(at, end);
    return text;
}

/* Evaluates the text, which it frees. */
static bool applies(char *text)
{
    struct script_result result;
    struct variables variables;
    bool applied;

    start(&variables);
    applied = evaluate(text, &variables, &result) == SCRIPT_APPLIED;
    free(text);
    return applied;
}

static void check_bounds(void)
{
    static const char half_a_mebibyte[] = "A=12345678\nA=$A$A$A$A\nA=$A$A$A$A\nA=$A$A$A$A\nA=$A$A$A$A\nA=$A$A$A$A\n"
                                          "A=$A$A$A$A\nA=$A$A$A$A\nA=$A$A$A$A\n";

    CHECK(applies(nested("", "A=1\n", SCRIPT_LIMIT / 4, "", "")), "a script of 1 MiB is evaluated");
    CHECK(!applies(nested("\n", "A=1\n", SCRIPT_LIMIT / 4, "", "")), "one of a byte more is left to a shell");
    CHECK(applies(nested("", "if :; then ", 64, ":", "; fi")), "64 levels of if");
    CHECK(!applies(nested("", "if :; then ", 65, ":", "; fi")), "not 65");
    CHECK(applies(nested("A=", "${B:-", 64, "x", "}")), "64 levels of ${ }");
    CHECK(!applies(nested("A=", "${B:-", 65, "x", "}")), "not 65");
    CHECK(!applies(nested("A=xxxxxxxx\n", "A=$A$A\n", 60, "", "")), "a value that doubles comes to an end");
    CHECK(applies(nested(half_a_mebibyte, "[ \"$A\" ]\n", 64, "", "")), "32 MiB of words");
    CHECK(!applies(nested(half_a_mebibyte, "[ \"$A\" ]\n", 1000, "", "")), "work comes to an end");
    CHECK(applies(nested("", "[ -n \"\" ] || ", 30000, ":", "")), "a long list");
}

static void check_large(void)
{
    static const size_t count = 10000, size = 100 << 10;
    struct script_result result;
    struct variables variables;
    char *text = malloc(count * 32 + size + 64), *at = text, *large;

    if (text == NULL)
        abort();
    for (size_t number = 0; number < count; number++)
        at += sprintf(at, "export V%zu='%zu'\n", number, number);
    start(&variables);
    CHECK(evaluate(text, &variables, &result) == SCRIPT_APPLIED && variables.count == count &&
              strcmp(dump_of(&variables), text) == 0,
          "ten thousand variables");
    large = nested("export LARGE='", "0123456789abcde\n", size / 16, "'\n", "");
    start(&variables);
    CHECK(evaluate(large, &variables, &result) == SCRIPT_APPLIED && strcmp(dump_of(&variables), large) == 0 &&
              strlen(variables_get(&variables, "LARGE")) == size,
          "a value of 100 KiB");
    free(large);
    free(text);
}

/* ---- single values ---- */

struct value_case {
    const char *value;
    const char *expanded; /* NULL: live code */
};

static const struct value_case value_cases[] = {
    {"plain", "plain"},         {"", ""},
    {"a b  c", "a b  c"},       {"say \"hi\" and 'ho'", "say \"hi\" and 'ho'"},
    {"$B/${A:-none}", "x y/none"}, {"pa$$ costs 5$ or $5", "pa$$ costs 5$ or $5"},
    {"C:\\new\\$B\\\\", "C:\\new$B\\"}, {"line\nline", "line\nline"},
    {"*?[~{", "*?[~{"},         {"a\\\nb", "ab"},
    {"$(date)", NULL},          {"`date`", NULL},
    {"${B%x}", NULL},           {"${B", NULL},
    {"${C:=1}", NULL},          {"$((1))", NULL},
    {"\\", "\\"},               {"$", "$"},
    {"\\\"", "\""},             {"${B}\"${B}\"", "x y\"x y\""},
    {"$\\\nB", "$B"},
};

static void check_values(void)
{
    for (size_t at = 0; at < sizeof value_cases / sizeof *value_cases; at++) {
        const struct value_case *each = &value_cases[at];
        const char *expanded = NULL;
        struct script_result result;
        struct variables variables;
        bool applied;
        start(&variables);
        if (!variables_put(&variables, "A", "") || !variables_put(&variables, "B", "x y"))
            abort();
        applied = script_expand(each->value, &variables, &expanded, &result) == SCRIPT_APPLIED;
        CHECK(each->expanded == NULL ? !applied : applied && strcmp(expanded, each->expanded) == 0,
              "value %s", strchr(each->value, '\n') == NULL ? each->value : "of two lines");
    }
}

static void remove_files(void)
{
    static const char *const names[] = {"inner.sh", "live.sh", "again.sh", "nul.sh", "fifo.sh"};

    for (size_t at = 0; at < sizeof names / sizeof *names; at++)
        if (unlink(names[at]) != 0)
            abort();
    if (chdir("/") != 0 || rmdir(directory) != 0)
        abort();
}

int main(void)
{
    arena_begin(&arena, ARENA_LIMIT);
    if (mkdtemp(directory) == NULL || chdir(directory) != 0)
        abort();
    check_applied();
    check_live();
    check_files();
    check_bounds();
    check_large();
    check_values();
    remove_files();
    arena_end(&arena);
    return checks_end();
}
