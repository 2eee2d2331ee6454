/* What a program finds in its environment, in containers of several generations, with and without a shell in them. */
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "container.h"
#include "environment/environment.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static char *const env_words[] = {"env", "-0", NULL};

static void launch_env(char *const *caller)
{
    launch_begin(ACTION_EXEC);
    payload.caller_environment = caller;
    payload.arguments = env_words;
    launch(NULL);
}

/* Scripts as builds of today write them; `live` adds one that only a shell can evaluate and that changes nothing. */
static void make_scripts(bool live)
{
    make_file("/.singularity.d/env/01-base.sh", 0755, "#!/bin/sh\n# nothing\n");
    make_file("/.singularity.d/env/10-docker2singularity.sh", 0755,
              "#!/bin/sh\nexport PATH=\"/docker/bin:/usr/bin\"\nexport K=\"${K:-\"a \\\"b\\\" \\$c \\\\\"}\"\n");
    make_file("/.singularity.d/env/90-environment.sh", 0755,
              "#!/bin/sh\nIMAGE=image\nexport IMAGE BOTH=image EMPTY= PATH=\"$PATH:/image/bin\"\nHIDDEN=image\nexport SEEN=\"$HOST\"\n");
    make_file("/.singularity.d/env/91-environment.sh", 0755, "");
    make_file("/.singularity.d/env/99-base.sh", 0755,
              "#!/bin/sh\nif [ -z \"${LD_LIBRARY_PATH:-}\" ]; then LD_LIBRARY_PATH=\"/.singularity.d/libs\"\n"
              "else LD_LIBRARY_PATH=\"$LD_LIBRARY_PATH:/.singularity.d/libs\"; fi\n"
              "if [ -z \"${PS1:-}\" ]; then PS1=\"Image> \"; fi\nexport LD_LIBRARY_PATH PS1\n");
    make_file("/.singularity.d/env/99-runtimevars.sh", 0755,
              "if [ -n \"${SING_USER_DEFINED_PREPEND_PATH:-}\" ]; then PATH=\"${SING_USER_DEFINED_PREPEND_PATH}:${PATH}\"; fi\n"
              "if [ -n \"${SING_USER_DEFINED_APPEND_PATH:-}\" ]; then PATH=\"${PATH}:${SING_USER_DEFINED_APPEND_PATH}\"; fi\n"
              "if [ -n \"${SING_USER_DEFINED_PATH:-}\" ]; then PATH=\"${SING_USER_DEFINED_PATH}\"; fi\n"
              "unset SING_USER_DEFINED_PREPEND_PATH \\\n SING_USER_DEFINED_APPEND_PATH SING_USER_DEFINED_PATH\nexport PATH\n");
    make_file("/.singularity.d/env/notes.txt", 0644, "exit 9\n");
    make_file("/.singularity.d/env/.hidden.sh", 0644, "exit 9\n");
    make_directory("/.singularity.d/env/20-directory.sh");
    if (live)
        make_file("/.singularity.d/env/00-live.sh", 0755, "for nothing in 1; do :; done\n");
}

static void check_order(const char *how)
{
    char *const caller[] = {"HOST=host", "BOTH=host", "EMPTY=host", "HIDDEN=host", "SINGULARITYENV_BOTH=caller", "K=host",
                            "TERM=vt100", "SHELL=/bin/zsh", "SHLVL=7", "OLDPWD=/o", "OPTIND=5", NULL};

    launch_env(caller);
    CHECK(exit_status == 0 && messages[0] == '\0', "%s: a launch writes nothing of its own", how);
    CHECK(is("HOST", "host") && is("TERM", "vt100") && is("SHELL", "/bin/zsh"),
          "%s: variables of the host enter", how);
    CHECK(is("SHLVL", "7") && is("OLDPWD", "/o") && is("OPTIND", "5"), "%s: also those that a shell has of its own", how);
    CHECK(is("IMAGE", "image"), "%s: variables of the image are there", how);
    CHECK(is("BOTH", "caller"), "%s: the caller's come after the image's, and those after the host's", how);
    CHECK(is("K", "a \"b\" $c \\"), "%s: a Docker image's variable is what the image says, to the letter", how);
    CHECK(is("EMPTY", ""), "%s: a variable that the image empties is empty, whatever the host's is", how);
    CHECK(is("HIDDEN", NULL), "%s: one that the image sets for itself is not there either", how);
    CHECK(is("SEEN", ""), "%s: scripts do not see the host's variables", how);
    CHECK(is("SING_USER_DEFINED_PATH", NULL) && is("nothing", NULL) && is("UID", NULL) && is("GID", NULL),
          "%s: nothing of the evaluation is left", how);
}

static void check_filter(const char *how)
{
    char *const caller[] = {"HOME=/h", "PATH=/host/bin", "LD_LIBRARY_PATH=/host/lib", "SINGULARITY_X=1", "APPTAINER_X=1",
                            "BASH_FUNC_f%%=() { :; }", "1X=1", "A-B=1", "=x", "nothing", "PWD=/host", "OK_1=a=b",
                            "http_proxy=p", "PS1=$ ", "LANG=de_DE", "OK_1=second", NULL};
    char *const injected[] = {"SINGULARITYENV_LANG=fr_FR", "A=1", "http_proxy=p", "TERM=t", NULL};

    launch_env(caller);
    CHECK(is("HOME", "/home/user") && is("SINGULARITY_X", NULL) && is("APPTAINER_X", NULL) && is("1X", NULL) &&
              is("A-B", NULL) && is("BASH_FUNC_f%%", NULL) && is("PWD", "/"),
          "%s: what never enters", how);
    CHECK(is("OK_1", "a=b") && is("http_proxy", "p") && is("LANG", "de_DE"), "%s: what enters, of two the first", how);
    CHECK(is("USER_PATH", "/host/bin:/bin:/usr/bin:/sbin:/usr/sbin:/usr/local/bin:/usr/local/sbin"), "%s: USER_PATH", how);
    launch_begin(ACTION_EXEC);
    payload.caller_environment = injected;
    payload.arguments = env_words;
    request.cleanenv = true;
    launch(NULL);
    CHECK(is("A", NULL) && is("USER_PATH", NULL) && is("http_proxy", "p") && is("TERM", "t") && is("IMAGE", "image"),
          "%s: with a clean environment only what is always passed", how);
    CHECK(is("LANG", "fr_FR"), "%s: the C locale gives way to the caller's", how);
    payload.caller_environment = injected + 1;
    launch(NULL);
    CHECK(is("LANG", "C"), "%s: a clean environment has the C locale", how);
}

static void check_base(const char *how)
{
    char *const caller[] = {NULL};

    launch_env(caller);
    CHECK(is("SINGULARITY_CONTAINER", "/images/test.sif") && is("APPTAINER_CONTAINER", "/images/test.sif") &&
              is("SINGULARITY_NAME", "test.sif") && is("APPTAINER_NAME", "test.sif"),
          "%s: names of the container", how);
    CHECK(is("SINGULARITY_COMMAND", "exec") && is("SINGULARITY_BIND", "/data,/scratch") && is("SINGULARITY_APPNAME", "") &&
              is("SINGULARITY_ENVIRONMENT", "/.singularity.d/env/91-environment.sh") && is("APPTAINER_BIND", "/data,/scratch"),
          "%s: the launch's own variables", how);
    CHECK(is("PATH", "/docker/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin:/image/bin"),
          "%s: a Docker image's PATH keeps its order and gets what it lacks", how);
    CHECK(is("LD_LIBRARY_PATH", "/.singularity.d/libs"), "%s: libraries of the host are found", how);
    CHECK(is("PS1", "Image> ") && is("PROMPT_COMMAND", "PS1=\"Image> \"; unset PROMPT_COMMAND"), "%s: the prompt", how);
    CHECK(is("SINGULARITY_NO_EVAL", NULL), "%s: no word of --no-eval", how);
}

static void check_injected(const char *how)
{
    char *const caller[] = {"SINGULARITYENV_PREPEND_PATH=/first", "SINGULARITYENV_APPEND_PATH=/last",
                            "SINGULARITYENV_LD_LIBRARY_PATH=/mine", "SINGULARITYENV_EMPTY=", "EMPTY=host",
                            "SINGULARITYENV_A=$IMAGE/${NONE:-x} \"q\" it's \\$B \\n 5$", "APPTAINERENV_T=t",
                            "APPTAINERENV_B=2", "SINGULARITYENV_B=1", "SINGULARITYENV_C=1", "APPTAINERENV_C=1", NULL};
    char *const path[] = {"SINGULARITYENV_PATH=/only:$PATH", NULL};

    launch_env(caller);
    CHECK(is("A", "image/x \"q\" it's $B \\n 5$"), "%s: an injected value is evaluated once, as in double quotes", how);
    CHECK(is("T", "t") && is("EMPTY", ""), "%s: both prefixes, and nothing is a value", how);
    CHECK(is("B", "2") && strcmp(messages, "WARNING: B is set by two variables with different values: APPTAINERENV_B counts\n") == 0,
          "%s: of two different values one counts, with a warning", how);
    CHECK(is("PATH", "/first:/docker/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin:/image/bin:/last"),
          "%s: PATH at both ends", how);
    CHECK(is("LD_LIBRARY_PATH", "/mine:/.singularity.d/libs"), "%s: an injected LD_LIBRARY_PATH", how);
    launch_env(path);
    CHECK(is("PATH", "/only:/docker/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin:/image/bin"),
          "%s: another PATH", how);
    launch_begin(ACTION_EXEC);
    request.no_eval = true;
    payload.caller_environment = caller;
    payload.arguments = env_words;
    launch(NULL);
    CHECK(is("A", "$IMAGE/${NONE:-x} \"q\" it's \\$B \\n 5$") && is("SINGULARITY_NO_EVAL", "1"),
          "%s: an injected value as it is", how);
}

static void check_path_by_us(const char *how)
{
    char *const caller[] = {"SINGULARITYENV_PREPEND_PATH=/first", "SINGULARITYENV_APPEND_PATH=/last", "UID=77", NULL};
    char *const path[] = {"SINGULARITYENV_PATH=/only:/bin", "SINGULARITYENV_PREPEND_PATH=/first", NULL};

    remove_path("/.singularity.d/env/99-runtimevars.sh");
    launch_env(caller);
    CHECK(is("PATH", "/first:/docker/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin:/image/bin:/last") &&
              is("SING_USER_DEFINED_PREPEND_PATH", NULL) && is("SING_USER_DEFINED_APPEND_PATH", NULL),
          "%s: PATH at both ends in an image without the script for it", how);
    CHECK(is("UID", "77"), "%s: a variable that scripts see by that name too", how);
    launch_env(path);
    CHECK(is("PATH", "/only:/bin") && is("SING_USER_DEFINED_PATH", NULL), "%s: another PATH there", how);
    make_file("/.singularity.d/env/99-runtimevars.sh", 0755, "PATH=\"${SING_USER_DEFINED_PREPEND_PATH}:${PATH}\"\n");
    launch_env(caller);
    CHECK(is("PATH", "/first:/docker/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin:/image/bin") &&
              is("SING_USER_DEFINED_PREPEND_PATH", NULL),
          "%s: an image's own script for it has the last word", how);
}

static void check_sequence(const char *how)
{
    char *const caller[] = {NULL};

    make_file("/.singularity.d/env/30-a.sh", 0644, "export ORDER=${ORDER-}a\n");
    make_file("/.singularity.d/env/50-c.sh", 0644, "export ORDER=${ORDER-}c\n");
    make_file("/.singularity.d/env/40-b.sh", 0644, "export ORDER=${ORDER-}b\n");
    make_file("/.singularity.d/env/99-z.sh", 0644, "export ORDER=${ORDER-}z\n");
    launch_env(caller);
    CHECK(is("ORDER", "abcz"), "%s: scripts are evaluated in the order of their names", how);
    remove_tree("/.singularity.d");
}

static void check_refused(const char *how)
{
    char *const caller[] = {"SINGULARITYENV_HOME=/x", "APPTAINERENV_SINGULARITY_SHELL=/x", "SINGULARITYENV_A-B=1", "SINGULARITYENV_=1",
                            "SINGULARITYENV_OPEN=${x", NULL};

    launch_env(caller);
    CHECK(is("HOME", "/home/user") &&
              strstr(messages, "WARNING: Overriding HOME environment variable with SINGULARITYENV_HOME is not permitted\n") != NULL &&
              strstr(messages, "WARNING: Overriding SINGULARITY_SHELL environment variable") != NULL &&
              strstr(messages, "WARNING: SINGULARITYENV_A-B: not a name of a variable, left out\n") != NULL,
          "%s: what a caller cannot inject", how);
    CHECK(is("OPEN", "${x"), "%s: a value that is broken as shell text is taken literally", how);
}

/* The same facts by the evaluator and by the image's shell. */
static void check_modern(bool live)
{
    const char *how = live ? "shell" : "no shell";

    make_scripts(live);
    check_order(how);
    check_filter(how);
    check_base(how);
    check_injected(how);
    check_refused(how);
    check_path_by_us(how);
    check_sequence(how);
    make_scripts(live);
}

/* ---- what only a shell can do ---- */

static void add_live(const char *text)
{
    make_file("/.singularity.d/env/92-live.sh", 0644, text);
}

static void ignore_children(void)
{
    signal(SIGCHLD, SIG_IGN);
}

/* In a child: what the evaluation by a shell leaves of a blocked and ignored SIGCHLD. */
static _Noreturn void evaluate_with_signals(void)
{
    struct arena arena;
    struct variables variables;
    struct sigaction action;
    sigset_t children, mask, pending;

    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &children, NULL);
    ignore_children();
    arena_begin(&arena, ARENA_LIMIT);
    variables_begin(&variables, &arena);
    environment_make(&payload, &variables);
    if (sigprocmask(SIG_BLOCK, NULL, &mask) < 0 || sigpending(&pending) < 0 || sigaction(SIGCHLD, NULL, &action) < 0)
        _exit(1);
    _exit(sigismember(&mask, SIGCHLD) == 1 && sigismember(&pending, SIGCHLD) == 0 && action.sa_handler == SIG_IGN &&
                  waitpid(-1, NULL, WNOHANG) < 0 && variables_get(&variables, "SIGNALS") != NULL
              ? 0
              : 2);
}

static void check_signals(void)
{
    int status;
    pid_t child;

    add_live("for i in 1; do export SIGNALS=1; done\n");
    launch_begin(ACTION_EXEC);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        message_begin(LEVEL_INFO, false);
        if (!enter_container())
            _exit(3);
        evaluate_with_signals();
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        container_fail("fork");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a shell leaves no signal, no child and no change behind");
    remove_path("/.singularity.d/env/92-live.sh");
}

static void check_live(void)
{
    char *const caller[] = {"SINGULARITYENV_A=$(echo \"a  b\" $IMAGE)-`echo \"x\"`-$5", NULL};
    char *const words[] = {"sh", "-c", "read -r line; echo \"$line,$ARGUMENTS,$READ,$STATUS\"; umask", NULL};
    char *const none[] = {NULL};
    struct timespec before, after;

    launch_env(caller);
    CHECK(is("A", "a  b image-x-$5"), "command substitution in an injected value");
    add_live("f() { export F=\"$1\"; }\nf it\nread -r READ\nexport READ\necho from the script\numask 077\nexport ARGUMENTS=\"$#:$2\"\n"
             "STATUS=$(sh -c 'exit 3'; echo $?)\nexport STATUS\nHIDDEN=live\n");
    launch_begin(ACTION_EXEC);
    payload.arguments = words;
    payload.caller_environment = none;
    launch(ignore_children);
    CHECK(exit_status == 0 && strcmp(output, "from the script\n,3:-c,,3\n0077\n") == 0 && messages[0] == '\0',
          "live code: functions, arguments, umask, output; nothing to read; with SIGCHLD ignored");
    add_live("export LINES=\"'\n\\\"\" BYTES=$(printf '\\377\\303\\244')\n");
    launch_env(none);
    CHECK(is("LINES", "'\n\"") && is("BYTES", "\xff\xc3\xa4"), "values of every kind come back from the shell");
    add_live("while :; do echo no; exit 3; done\n");
    launch_env(none);
    CHECK(exit_status == 3 && strstr(messages, "FATAL:   the environment scripts of the image ended the launch with status 3\n") != NULL,
          "a script that ends the launch, with its status");
    add_live("while :; do exit 0; done\n");
    launch_env(none);
    CHECK(exit_status == 255 && strstr(messages, "FATAL:   ") != NULL, "also when it calls that a success");
    add_live("kill -9 $$\n");
    launch_env(none);
    CHECK(exit_status == 137 && strstr(messages, "signal 9") != NULL, "and when it is killed");
    add_live("if true; then\n");
    launch_env(none);
    CHECK(exit_status != 0 && strstr(messages, "FATAL:   ") != NULL && output_size == 0, "a script that no shell understands");
    make_file("/dev/null", 0666, "");
    add_live("(sleep 3 &)\nexport DONE=1\n");
    clock_gettime(CLOCK_MONOTONIC, &before);
    launch_env(none);
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(is("DONE", "1") && after.tv_sec - before.tv_sec < 2, "a process that a script leaves behind is not waited for");
    make_file("/bin/bash", 0755, "#!/bin/sh\nexport BY=bash\nexec /bin/sh \"$@\"\n");
    launch_env(none);
    CHECK(is("BY", "bash"), "bash goes before sh");
    remove_path("/bin/bash");
    add_live("yes '' | head -c 5000000 >/dev/null; X=$(yes | head -c 100000); A=$X$X$X$X$X$X$X$X$X$X; A=$A$A$A$A$A; export A\n");
    launch_env(none);
    CHECK(exit_status == 255 && strstr(messages, "more than 4 MiB") != NULL, "what is read back is bounded");
    remove_path("/.singularity.d/env/92-live.sh");
}

static void check_mask(void)
{
    char *const words[] = {"sh", "-c", "umask", NULL};

    add_live("umask 0027\n");
    launch_begin(ACTION_EXEC);
    payload.arguments = words;
    launch(NULL);
    CHECK(strcmp(output, "0027\n") == 0, "umask in a script");
    remove_path("/.singularity.d/env/92-live.sh");
}

/* ---- images without a shell ---- */

static void check_without_shell(void)
{
    char *const caller[] = {"SINGULARITYENV_A=$(date)", "SINGULARITYENV_B=$IMAGE", NULL};

    remove_path("/bin/sh");
    add_live("export LIVE=1\nfor i in 1; do :; done\n");
    launch_env(caller);
    CHECK(exit_status == 0 && is("IMAGE", "image") && is("LIVE", NULL) && is("B", "image"), "no shell: the rest is evaluated");
    CHECK(strstr(messages, "WARNING: /.singularity.d/env/92-live.sh line 2 has a compound command, which needs a shell that the image "
                           "lacks: /.singularity.d/env/92-live.sh is left out\n") != NULL,
          "no shell: one line says what is left out");
    CHECK(is("A", "$(date)") && strstr(messages, "WARNING: SINGULARITYENV_A has command substitution") != NULL,
          "no shell: a value that needs one is literal, with a warning");
    remove_path("/.singularity.d/env/92-live.sh");
}

/* ---- other generations ---- */

static void check_plain(void)
{
    char *const caller[] = {"LD_LIBRARY_PATH=/x", "PROMPT_COMMAND=history -a; echo 'x'", "A=1", NULL};

    launch_env(caller);
    CHECK(exit_status == 0 && is("PATH", DEFAULT_PATH) && is("A", "1"), "a root file system without scripts");
    CHECK(is("LD_LIBRARY_PATH", NULL), "it has no directory for libraries of the host");
    CHECK(is("PS1", "Singularity> ") &&
              is("PROMPT_COMMAND", "PS1=\"Singularity> \"; PROMPT_COMMAND='history -a; echo '\"'\"'x'\"'\"''; eval \"$PROMPT_COMMAND\""),
          "its prompt is ours, and what the host's shell does before a prompt is kept");
    request.library_count = 1;
    launch(NULL);
    CHECK(is("LD_LIBRARY_PATH", "/.singularity.d/libs"), "unless libraries of the host are brought in");
}

static void check_version_2(const char *how, const char *live)
{
    char *const caller[] = {"PATH=/host", "PS1=host", "SINGULARITYENV_X=$SINGULARITY_INIT", "SINGULARITYENV_APPEND_PATH=/last",
                            "SINGULARITY_INIT=1", NULL};
    char text[1024];

    snprintf(text, sizeof text, "%s\nif test -z \"$SINGULARITY_INIT\"; then\n  PATH=$PATH:/bin:/opt/bin\n"
             "  PS1=\"Singularity.$SINGULARITY_CONTAINER> $PS1\"\n  SINGULARITY_INIT=1\n  export PATH PS1 SINGULARITY_INIT\nfi\n", live);
    make_file("/environment", 0644, text);
    launch_env(caller);
    CHECK(exit_status == 0 && is("SINGULARITY_INIT", "1") && is("X", "1"), "%s: /environment of version 2", how);
    CHECK(is("PATH", DEFAULT_PATH ":/bin:/opt/bin:/last"), "%s: its PATH", how);
    CHECK(is("PS1", "Singularity.test.sif> ") && is("SINGULARITY_CONTAINER", "/images/test.sif"),
          "%s: its prompt has the container's short name", how);
    remove_path("/environment");
}

/* ---- sizes ---- */

enum { MANY = 10000, LARGE = 100 << 10 };

static void check_many(const char *how)
{
    static char *caller[2 * MANY + 4];
    static char large[LARGE + 8] = "LARGE=";
    size_t count = 0;
    unsigned right = 0;

    for (unsigned number = 0; number < MANY; number++) {
        char text[64];
        snprintf(text, sizeof text, "HOST_%u='%u\n$", number, number);
        caller[count++] = strdup(text);
        snprintf(text, sizeof text, "SINGULARITYENV_I%u=\"$IMAGE\" %u", number, number);
        caller[count++] = strdup(text);
    }
    memset(large + 6, '"', sizeof large - 7);
    caller[count++] = large;
    launch_env(caller);
    for (unsigned number = 0; number < MANY; number += 37) {
        char name[32], host[32], injected[32];
        snprintf(name, sizeof name, "HOST_%u", number);
        snprintf(host, sizeof host, "'%u\n$", number);
        right += is(name, host) ? 1 : 0;
        snprintf(name, sizeof name, "I%u", number);
        snprintf(injected, sizeof injected, "\"image\" %u", number);
        right += is(name, injected) ? 1 : 0;
    }
    CHECK(exit_status == 0 && right == 2 * (MANY / 37 + 1), "%s: ten thousand variables of the host and as many injected", how);
    CHECK(variable("LARGE") != NULL && strlen(variable("LARGE")) == LARGE + 1, "%s: a value of 100 KiB", how);
    for (size_t at = 0; at < 2 * MANY; at++)
        free(caller[at]);
}

static void shrink_stack(void)
{
    const struct rlimit limit = {.rlim_cur = 512 << 10, .rlim_max = RLIM_INFINITY};
    (void)setrlimit(RLIMIT_STACK, &limit);
}

static void check_limits(void)
{
    char *const caller[] = {"A=1", NULL};

    launch_begin(ACTION_EXEC);
    payload.caller_environment = caller;
    payload.arguments = env_words;
    launch(shrink_stack);
    CHECK(exit_status == 0 && is("A", "1"), "a small stack");
}

static void check_paths(void)
{
    char *const words[] = {"sh", "-c", "echo $PWD $OLDPWD", NULL};

    make_directory("/real/deep");
    if (symlink("real", container_path("/link")) != 0)
        container_fail("/link");
    launch_begin(ACTION_EXEC);
    payload.arguments = env_words;
    request.cwd = "/link";
    launch(NULL);
    CHECK(is("PWD", "/"), "PWD is where the program is, whatever the caller's was called");
    request.cwd = "/link/..";
    launch(NULL);
    CHECK(is("PWD", "/link/.."), "or as the caller calls it, when that is the same place");
    payload.arguments = words;
    payload.home = "";
    launch(NULL);
    CHECK(exit_status == 0, "no home directory");
}

int main(void)
{
    static const char *const programs[] = {"/bin/env", "/bin/sh", "/bin/sleep", "/bin/head", "/bin/yes", "/bin/cat", NULL};

    if (!container_possible())
        return checks_end();
    install_programs(programs);
    check_plain();
    check_version_2("no shell", "");
    check_version_2("shell", "for nothing in 1; do :; done");
    check_modern(false);
    check_many("no shell");
    check_live();
    check_signals();
    check_mask();
    check_limits();
    check_paths();
    check_modern(true);
    check_many("shell");
    remove_path("/.singularity.d/env/00-live.sh");
    check_without_shell();
    remove_tree("");
    return checks_end();
}
