/* Actions: which program a launch becomes, with which words, and what is said when there is none. */
#include <elf.h>

#include "container.h"

static char *const nothing[] = {NULL};

static void act(enum action action, char *const *arguments)
{
    launch_begin(action);
    payload.arguments = arguments;
    launch(NULL);
}

/* The whole of what was printed, on both streams, and the status. */
static bool ended(int status, const char *out, const char *text)
{
    bool same = exit_status == status && strcmp(output, out) == 0 && strcmp(messages, text) == 0;

    if (!same)
        printf("# status %d\n# output %s\n# messages %s\n", exit_status, output, messages);
    return same;
}

/* A script that says which it is and what it was given. */
static void make_program(const char *path)
{
    char text[256];
    snprintf(text, sizeof text, "#!/bin/sh\necho \"%s[$0][$#]\" \"$@\"\n", path);
    make_file(path, 0755, text);
}

/* ---- exec ---- */

static void check_exec(void)
{
    char *const words[] = {"say", "a b", "*", "$HOME", "", NULL};
    char *const path[] = {"/opt/bin/say", "-x", NULL};
    char *const caller[] = {"SINGULARITYENV_PREPEND_PATH=/opt/none:/opt/plain:/opt/bin", NULL};
    char *const unusable[] = {"SINGULARITYENV_APPEND_PATH=/opt/plain:/opt/none", NULL};
    char *const status[] = {"sh", "-c", "exit 42", NULL};
    char *const killed[] = {"sh", "-c", "kill -15 $$", NULL};

    make_program("/opt/bin/say");
    make_file("/opt/plain/say", 0644, "not for running\n");
    launch_begin(ACTION_EXEC);
    payload.arguments = words;
    payload.caller_environment = caller;
    launch(NULL);
    CHECK(ended(0, "/opt/bin/say[/opt/bin/say][4] a b * $HOME \n", ""), "a program is found on the container's PATH");
    payload.caller_environment = unusable;
    launch(NULL);
    CHECK(ended(126, "", "FATAL:   \"/opt/plain/say\": permission denied\n"), "one that is there and not executable is named");
    act(ACTION_EXEC, path);
    CHECK(ended(0, "/opt/bin/say[/opt/bin/say][1] -x\n", ""), "or named by its path");
    act(ACTION_EXEC, status);
    CHECK(ended(42, "", ""), "its status is the launch's");
    act(ACTION_EXEC, killed);
    CHECK(ended(128 + 15, "", ""), "so is its death");
    act(ACTION_EXEC, nothing);
    CHECK(exit_status == 1 && strstr(messages, "FATAL:   no program is named") != NULL, "no program named");
}

static void open_five(void)
{
    if (dup2(STDOUT_FILENO, 5) != 5)
        _exit(201);
}

static void check_descriptors(void)
{
    char *const words[] = {"sh", "-c", "for n in 3 4 5 6 7 8 9; do (: >&$n) 2>&- && echo $n; (: <&$n) 2>&- && echo $n; done; :", NULL};

    make_file("/.singularity.d/env/90-environment.sh", 0644, "for i in 1; do export A=1; done\n");
    act(ACTION_EXEC, words);
    CHECK(ended(0, "", ""), "a program gets the three standard descriptors and no other");
    launch(open_five);
    CHECK(ended(0, "5\n5\n", ""), "but those that are open for it");
    remove_tree("/.singularity.d");
}

static char *const *one_word(const char *word)
{
    static char *words[2];
    words[0] = (char *)(uintptr_t)word;
    return words;
}

struct failure {
    const char *word;
    int status;
    const char *text;
};

static const struct failure failures[] = {
    {"nowhere", 127, "FATAL:   \"nowhere\": executable file not found in $PATH\n"},
    {"", 127, "FATAL:   \"\": executable file not found in $PATH\n"},
    {"/no/where", 127, "FATAL:   \"/no/where\": executable file not found in the container\n"},
    {"/bin/sh/x", 127, "FATAL:   \"/bin/sh/x\": executable file not found in the container: a part of its path is no directory\n"},
    {"/opt", 126, "FATAL:   \"/opt\": is a directory\n"},
    {"/opt/plain/say", 126, "FATAL:   \"/opt/plain/say\": permission denied\n"},
    {"/opt/odd/interpreter", 127, "FATAL:   \"/opt/odd/interpreter\" needs the interpreter /usr/bin/perl, which the image lacks\n"},
    {"/opt/odd/returns", 127, "FATAL:   \"/opt/odd/returns\" needs the interpreter /bin/sh\\x0d, which the image lacks\n"},
    {"/opt/odd/chain", 127, "FATAL:   \"/opt/odd/chain\" needs the interpreter /opt/odd/interpreter, which itself needs something that the "
                            "image lacks\n"},
    {"/opt/odd/denied", 126, "FATAL:   \"/opt/odd/denied\": permission denied for its interpreter /opt/plain/say\n"},
    {"/opt/odd/loader", 127, "FATAL:   \"/opt/odd/loader\" needs the interpreter /lib/ld-test.so.1, which the image lacks\n"},
    {"/opt/odd/machine", 126, NULL},
    {"/opt/odd/damaged", 126, "FATAL:   \"/opt/odd/damaged\" is a damaged program\n"},
    {"/opt/odd/binary", 126, "FATAL:   \"/opt/odd/binary\" is neither a program nor a script\n"},
    {"/opt/odd/empty", 0, ""},
    {"/opt/odd/bare", 0, ""},
};

static void make_bytes(const char *path, const void *bytes, size_t size)
{
    int file;

    make_file(path, 0755, "");
    file = open(container_path(path), O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, bytes, size) != (ssize_t)size || close(file) != 0)
        container_fail(path);
}

#if defined(__x86_64__)
enum { OWN_MACHINE = EM_X86_64, OTHER_MACHINE = EM_AARCH64 };
static const char other_machine[] = "aarch64";
#else
enum { OWN_MACHINE = EM_AARCH64, OTHER_MACHINE = EM_X86_64 };
static const char other_machine[] = "x86_64";
#endif

/* A program that wants a loader that is not there, the same for another machine, and one that is cut off. */
static void make_elf_programs(void)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        char loader[32];
    } program = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_DYN,
                   .e_machine = OWN_MACHINE, .e_version = EV_CURRENT, .e_phoff = sizeof(Elf64_Ehdr),
                   .e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1},
        .segment = {.p_type = PT_INTERP, .p_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr), .p_filesz = 18},
        .loader = "/lib/ld-test.so.1",
    };

    make_bytes("/opt/odd/loader", &program, sizeof program);
    make_bytes("/opt/odd/damaged", &program, 40);
    program.header.e_machine = OTHER_MACHINE;
    make_bytes("/opt/odd/machine", &program, sizeof program);
}

static void check_failures(void)
{
    make_file("/opt/odd/interpreter", 0755, "#! /usr/bin/perl -w\n");
    make_file("/opt/odd/returns", 0755, "#!/bin/sh\r\necho\r\n");
    make_file("/opt/odd/chain", 0755, "#!/opt/odd/interpreter\n");
    make_file("/opt/odd/denied", 0755, "#!/opt/plain/say\n");
    make_file("/opt/odd/empty", 0755, "");
    make_file("/opt/odd/bare", 0755, "exit 0\n");
    make_bytes("/opt/odd/binary", "\x01\x02\x00\x03\n", 5);
    make_elf_programs();
    for (size_t at = 0; at < sizeof failures / sizeof *failures; at++) {
        const struct failure *each = &failures[at];
        act(ACTION_EXEC, one_word(each->word));
        if (each->text != NULL)
            CHECK(ended(each->status, "", each->text), "\"%s\" ends with %d and one line", each->word, each->status);
        else
            CHECK(exit_status == each->status && strstr(messages, "is built for ") != NULL &&
                      strstr(messages, other_machine) != NULL,
                  "a program for another machine ends with %d and names both", each->status);
    }
}

static void check_too_long(void)
{
    static char large[(128 << 10) + 16] = "SINGULARITYENV_LARGE=", word[4096];
    static char *many[2000], *caller[] = {large, NULL};
    char *const small[] = {"sh", "-c", "exit 0", NULL};

    memset(large + strlen(large), 'x', sizeof large - strlen(large) - 1);
    launch_begin(ACTION_EXEC);
    payload.arguments = small;
    payload.caller_environment = caller;
    launch(NULL);
    CHECK(exit_status == 126 && strstr(messages, "variable LARGE is longer than the 128 KiB that the kernel passes on") != NULL,
          "a variable that is too long is named");
    memset(word, 'x', sizeof word - 1);
    for (size_t at = 0; at < sizeof many / sizeof *many - 1; at++)
        many[at] = word;
    many[0] = (char *)(uintptr_t)"sh";
    act(ACTION_EXEC, many);
    CHECK(exit_status == 126 && strstr(messages, "1999 arguments and ") != NULL, "arguments that are too long are counted");
}

/* ---- shell ---- */

static void check_shell(void)
{
    char *const words[] = {"-c", "echo $SHELL,$SINGULARITY_COMMAND,$1", "x", "extra", NULL};

    act(ACTION_SHELL, words);
    CHECK(ended(0, "/bin/sh,shell,extra\n", ""), "/bin/sh where there is no bash, with the arguments");
    make_program("/bin/bash");
    act(ACTION_SHELL, words);
    CHECK(ended(0, "/bin/bash[/bin/bash][5] --norc -c echo $SHELL,$SINGULARITY_COMMAND,$1 x extra\n", ""),
          "bash without its start-up file");
    make_program("/opt/bin/zsh");
    launch_begin(ACTION_SHELL);
    request.shell = "/opt/bin/zsh";
    launch(NULL);
    CHECK(ended(0, "/opt/bin/zsh[/opt/bin/zsh][0]\n", ""), "the chosen shell");
    request.shell = "/bin/none";
    payload.arguments = words;
    launch(NULL);
    CHECK(ended(0, "/bin/sh,shell,extra\n", "WARNING: shell /bin/none: not in the container, /bin/sh takes its place\n"),
          "the chosen shell is missing");
    remove_path("/bin/bash");
}

/* ---- run and test ---- */

static void check_run(void)
{
    char *const words[] = {"a b", "-c", NULL};
    char *const script[] = {"-c", "echo $0 $1", "x", "y", NULL};

    act(ACTION_RUN, script);
    CHECK(ended(0, "x y\n", "INFO:    No runscript found in container, executing /bin/sh\n"), "no runscript");
    make_file("/singularity", 0644, "exit 9\n");
    act(ACTION_RUN, script);
    CHECK(ended(0, "x y\n", "INFO:    No runscript found in container, executing /bin/sh\n"), "one that is not executable is none");
    make_file("/singularity", 0755, "\n#!/bin/sh\necho \"$0: $# $1 $2\"\n");
    act(ACTION_RUN, words);
    CHECK(ended(0, "/singularity: 2 a b -c\n", ""), "a runscript of version 2, without an interpreter line");
    make_program("/.run");
    make_program("/.exec");
    act(ACTION_RUN, words);
    CHECK(ended(0, "/singularity: 2 a b -c\n", ""), "its helper files are not needed");
    make_program("/.singularity.d/runscript");
    act(ACTION_RUN, words);
    CHECK(ended(0, "/.singularity.d/runscript[/.singularity.d/runscript][2] a b -c\n", ""), "today's runscript goes first");
}

static void check_test(void)
{
    char *const words[] = {"one", NULL};

    make_program("/.singularity.d/test");
    act(ACTION_TEST, words);
    CHECK(ended(0, "/.singularity.d/test[/.singularity.d/test][1] one\n", ""), "today's test");
    remove_path("/.singularity.d/test");
    make_program("/.test");
    act(ACTION_TEST, words);
    CHECK(ended(0, "", "INFO:    No test script found in container, exiting\n"), "none, in an image of today");
    remove_tree("/.singularity.d");
    make_file("/.test", 0755, "#!/bin/none\necho $1\nfalse\necho not here\n");
    act(ACTION_TEST, words);
    CHECK(ended(1, "one\n", "+ echo one\n+ false\n"), "a test of version 2 shows its commands and stops at the first failure");
    remove_path("/.test");
    act(ACTION_TEST, words);
    CHECK(ended(0, "", "INFO:    No test script found in container, exiting\n"), "none at all is a success");
}

static void check_app(void)
{
    char *const words[] = {"x", NULL};

    launch_begin(ACTION_RUN);
    payload.arguments = words;
    request.app = "none";
    launch(NULL);
    CHECK(ended(1, "", "FATAL:   Could not locate the container application: none\n"), "an application that is not there");
    request.app = "../apps";
    launch(NULL);
    CHECK(ended(1, "", "FATAL:   Could not locate the container application: ../apps\n"), "a name is no path");
    make_directory("/scif/apps/hello");
    request.app = "hello";
    launch(NULL);
    CHECK(ended(1, "", "FATAL:   no runscript for the container application: hello\n"), "an application without a runscript");
    make_program("/scif/apps/hello/scif/runscript");
    launch(NULL);
    CHECK(ended(0, "/scif/apps/hello/scif/runscript[/scif/apps/hello/scif/runscript][1] x\n", ""), "its runscript");
    make_program("/scif/apps/hello/scif/test");
    request.action = ACTION_TEST;
    launch(NULL);
    CHECK(ended(0, "/scif/apps/hello/scif/test[/scif/apps/hello/scif/test][1] x\n", ""), "its test");
}

/* ---- images without a shell ---- */

static void check_without_shell(void)
{
    char *const words[] = {"echo", "it", "runs", NULL};

    remove_tree("/singularity");
    make_file("/opt/odd/bare", 0755, "exit 0\n");
    remove_path("/bin/sh");
    act(ACTION_EXEC, words);
    CHECK(ended(0, "it runs\n", ""), "no shell: programs run");
    act(ACTION_SHELL, nothing);
    CHECK(ended(127, "", "FATAL:   /bin/sh doesn't exist in container: there is no shell to start\n"), "no shell: none to start");
    act(ACTION_RUN, nothing);
    CHECK(ended(127, "", "FATAL:   No runscript found in container, and /bin/sh doesn't exist in container\n"),
          "no shell: nothing to run");
    act(ACTION_EXEC, one_word("/opt/odd/bare"));
    CHECK(ended(127, "", "FATAL:   \"/opt/odd/bare\" has no interpreter line, and the image has no /bin/sh to run it\n"),
          "no shell: a script without an interpreter line");
    act(ACTION_EXEC, one_word("true"));
    CHECK(ended(127, "", "FATAL:   \"true\": executable file not found in $PATH\n"), "no shell: the line that cwltool looks for");
}

/* The form of runscript that builds of today make from a registry's image. */
static void make_oci_runscript(const char *entry, const char *command)
{
    char text[1024];

    snprintf(text, sizeof text, "#!/bin/sh\nOCI_ENTRYPOINT='%s'\nOCI_CMD='%s'\n\nfor arg in \"$@\"; do :; done\n"
             "eval \"set ${SINGULARITY_OCI_RUN}\"\nexec \"$@\"\n", entry, command);
    make_file("/.singularity.d/runscript", 0755, text);
}

static void check_oci_without_shell(void)
{
    char *const words[] = {"more", "$SINGULARITY_NAME \"q\"", "$(no)", NULL};

    make_oci_runscript("\"/bin/echo\" \"a  \\\"b\\\"\"", "\"default\" $SINGULARITY_COMMAND");
    act(ACTION_RUN, nothing);
    CHECK(ended(0, "a  \"b\" default run\n", ""), "no shell: entry point and default arguments");
    act(ACTION_RUN, words);
    CHECK(ended(0, "a  \"b\" more test.sif \"q\" $(no)\n", ""), "no shell: entry point and arguments");
    request.no_eval = true;
    launch(NULL);
    CHECK(ended(0, "a  \"b\" more $SINGULARITY_NAME \"q\" $(no)\n", ""), "no shell: arguments to the letter");
    make_oci_runscript("", "\"echo\" \"it\"");
    act(ACTION_RUN, nothing);
    CHECK(ended(0, "it\n", ""), "no shell: a command alone, found on PATH");
    act(ACTION_RUN, words + 1);
    CHECK(ended(127, "", "FATAL:   \"test.sif \"q\"\": executable file not found in $PATH\n"),
          "no shell: arguments take the place of a command alone");
    make_oci_runscript("\"/bin/echo\" \"two\nOCI_CMD=no\nlines\"", "\"a\nb\"");
    act(ACTION_RUN, nothing);
    CHECK(ended(0, "two\nOCI_CMD=no\nlines a\nb\n", ""), "no shell: words with newlines");
    make_oci_runscript("\"/bin/echo\" `x`", "");
    act(ACTION_RUN, nothing);
    CHECK(ended(127, "", "FATAL:   \"/.singularity.d/runscript\" needs the interpreter /bin/sh, which the image lacks\n"),
          "no shell: an entry point that needs one");
}

int main(void)
{
    static const char *const programs[] = {"/bin/sh", "/bin/echo", NULL};

    if (!container_possible())
        return checks_end();
    install_programs(programs);
    check_exec();
    check_descriptors();
    check_failures();
    check_too_long();
    check_shell();
    check_run();
    check_test();
    check_app();
    check_without_shell();
    check_oci_without_shell();
    remove_tree("");
    return checks_end();
}
