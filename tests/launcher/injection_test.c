/* Variables for the container: --env, --env-file, and the init scripts of version 2. */
#include "front/front.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static struct arena arena;
static struct injection injection;
static struct error error;
static const struct option_value env_file = {.id = OPTION_env_file, .name = "--env-file,more"};
static char directory[] = "/tmp/injection_test.XXXXXX";
static char first_file[64], second_file[64];

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
}

static void begin(void)
{
    error = (struct error){.number = 0};
    injection_begin(&injection, &arena);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The entries in order, with a blank between. */
static const char *joined(char *const *environment)
{
    static char text[4096];
    char *entries[64];
    size_t used = 0, count = 0;

    while (environment[count] != NULL && count < 64) {
        entries[count] = environment[count];
        count++;
    }
    qsort(entries, count, sizeof entries[0], compare);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i > 0 ? " " : "", entries[i]);
    return text;
}

static const char *finished(char *const *before)
{
    static char *const arguments[] = {"one", "two words", NULL};
    char **after = injection_finish(&injection, (char **)(uintptr_t)before, arguments, &error);

    return after != NULL ? joined(after) : error.text;
}

static const char *env_gives(const char *text)
{
    static char *const nothing[] = {NULL};

    begin();
    return injection_take(&injection, text, &error) ? finished(nothing) : error.text;
}

static void gives(const char *text, const char *wanted)
{
    const char *got = env_gives(text);
    CHECK(strcmp(got, wanted) == 0, "--env '%s' gives %s%s%s", text, wanted, strcmp(got, wanted) == 0 ? "" : " and not ",
          strcmp(got, wanted) == 0 ? "" : got);
}

static void test_env(void)
{
    gives("A=1", "SINGULARITYENV_A=1");
    gives("A=", "SINGULARITYENV_A=");
    gives("A=1,B=2", "SINGULARITYENV_A=1 SINGULARITYENV_B=2");
    gives("A=1,2,3", "SINGULARITYENV_A=1,2,3");
    gives("\"A=1,2\",B=3", "SINGULARITYENV_A=1,2 SINGULARITYENV_B=3");
    gives("\"A=say \"\"x\"\"\"", "SINGULARITYENV_A=say \"x\"");
    gives("A=x y $Z 'q' \"r\"", "SINGULARITYENV_A=x y $Z 'q' \"r\"");
    gives("A=1,A=2", "SINGULARITYENV_A=2");
    gives("PATH=/x", "SINGULARITYENV_PATH=/x");
    gives("HOME=/x", "");
    gives("A=b=c,d", "--env: \"d\" is no NAME=VALUE (a value with a comma is quoted: '\"NAME=a,b\"')");
    gives("A-B=1", "--env: \"A-B\" is no name of a variable");
    gives("\"A=1", "--env \"A=1: a quote is not closed");
    gives("=1", "--env: \"\" is no name of a variable");
}

static void test_environment(void)
{
    static char *const before[] = {"X=1", "SINGULARITYENV_A=old", "APPTAINERENV_A=older",
                                   "SINGULARITYENV_AB=kept", "APPTAINERENV_B=kept", NULL};

    begin();
    CHECK(strcmp(finished(before), joined(before)) == 0, "without options the environment stays as it is");
    injection_take(&injection, "A=new", &error);
    CHECK(strcmp(finished(before), "APPTAINERENV_B=kept SINGULARITYENV_A=new SINGULARITYENV_AB=kept X=1") == 0,
          "a variable takes the place of what the caller injects by that name, under both prefixes");
}

static void test_files(void)
{
    static char *const nothing[] = {NULL};

    write_text(first_file, "# comment\nA=1\nexport B=\"$A two\"\nC='$x'\n");
    write_text(second_file, "A=second\n");
    begin();
    injection_take_file(&injection, &env_file, first_file, &error);
    CHECK(strcmp(finished(nothing), "SINGULARITYENV_A=1 SINGULARITYENV_B=1 two SINGULARITYENV_C=$x") == 0,
          "a file of assignments");
    injection_take_file(&injection, &env_file, second_file, &error);
    injection_take(&injection, "C=option", &error);
    CHECK(strcmp(finished(nothing), "SINGULARITYENV_A=second SINGULARITYENV_B=1 two SINGULARITYENV_C=option") == 0,
          "a later file goes before an earlier one, and --env before both");
    write_text(first_file, "A=$(echo live)\nB=\"$1+$2+$#\"\necho noise\nC='a\nb'\n[ -n \"$HOME\" ] && D=leak\nfalse\n");
    begin();
    injection_take_file(&injection, &env_file, first_file, &error);
    CHECK(strcmp(finished(nothing), "SINGULARITYENV_A=live SINGULARITYENV_B=one+two words+2 SINGULARITYENV_C=a\nb") == 0,
          "live code runs in a shell with the program's arguments and nothing of the environment");
    write_text(first_file, "A=$(\n");
    begin();
    injection_take_file(&injection, &env_file, first_file, &error);
    CHECK(strstr(finished(nothing), "/bin/sh could not evaluate it (status") != NULL, "a broken script stops the launch");
    begin();
    injection_take_file(&injection, &env_file, "/nonexistent/file", &error);
    CHECK(strcmp(finished(nothing), "--env-file: /nonexistent/file: No such file or directory") == 0, "so does a missing one");
    begin();
    injection_take_file(&injection, &env_file, "/", &error);
    CHECK(strcmp(finished(nothing), "--env-file: /: Is a directory") == 0, "and a directory");
    begin();
    for (int i = 0; i < INJECTION_FILES; i++)
        injection_take_file(&injection, &env_file, second_file, &error);
    CHECK(!injection_take_file(&injection, &env_file, second_file, &error), "there is a limit to their number");
}

static const char *init_gives(const char *script, char *const *before)
{
    write_text(first_file, script);
    error = (struct error){.number = 0};
    char **after = init_script_apply(first_file, true, (char **)(uintptr_t)before, &arena, &error);
    return after != NULL ? joined(after) : error.text;
}

static void test_init(void)
{
    static char *const before[] = {"PATH=/bin", "X=1", "BASH_ENV=y", "odd-name=1", NULL};
    static char *const injected[] = {"SINGULARITYENV_LD_LIBRARY_PATH=/mine", NULL};

    CHECK(strcmp(init_gives("unset BASH_ENV\nPATH=\"$PATH:/sbin\"\nZ=local\nexport NEW=1\n", before),
                 "NEW=1 PATH=/bin:/sbin X=1 odd-name=1") == 0,
          "an init script changes, adds and removes variables that are exported");
    CHECK(strcmp(init_gives("LD_LIBRARY_PATH=/opt/cuda\nexport LD_LIBRARY_PATH\n", before),
                 "BASH_ENV=y LD_LIBRARY_PATH=/opt/cuda PATH=/bin "
                 "SINGULARITYENV_LD_LIBRARY_PATH=/opt/cuda X=1 odd-name=1") == 0,
          "its library path reaches the container");
    CHECK(strcmp(init_gives("export LD_LIBRARY_PATH=/opt/cuda\n", injected),
                 "LD_LIBRARY_PATH=/opt/cuda SINGULARITYENV_LD_LIBRARY_PATH=/mine") == 0,
          "unless the user injects one");
    CHECK(strcmp(init_gives("for i in a b; do export L$i=$i; done\nunset X\n", before),
                 "BASH_ENV=y La=a Lb=b PATH=/bin odd-name=1") == 0,
          "live code runs in a shell with the caller's environment");
    unlink(first_file);
    CHECK(strcmp(joined(init_script_apply(first_file, true, (char **)(uintptr_t)before, &arena, &error)), joined(before)) == 0,
          "without the script nothing changes");
}

int main(void)
{
    arena_begin(&arena, ARENA_LIMIT);
    message_begin(LEVEL_FATAL, false);
    if (mkdtemp(directory) == NULL)
        return 1;
    snprintf(first_file, sizeof first_file, "%s/first", directory);
    snprintf(second_file, sizeof second_file, "%s/second", directory);
    test_env();
    test_environment();
    test_files();
    test_init();
    unlink(first_file);
    unlink(second_file);
    rmdir(directory);
    arena_end(&arena);
    return checks_end();
}
