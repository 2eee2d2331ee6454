/* Scripts of an image that need a shell: the image's own runs them, in a child, and tells the variables that it ends with.
 * In the container, without privilege. */
#include "environment/parts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descriptor.h"
#include "environment/script.h"

enum {
    NOTHING_FD = 8,            /* what the scripts find on their standard input */
    RESULT_FD = 9,             /* the highest that every shell can redirect */
    RESULT_ROOM = 64 << 10,
    RESULT_LIMIT = 4 << 20,
    PATIENCE = 60 * 1000,      /* milliseconds until we say what we wait for */
};

enum file { TEXT, NOTHING, RESULT, FILES };

const char *live_shell(void)
{
    static const char *const shells[] = {"/bin/bash", "/bin/sh"};

    for (size_t at = 0; at < sizeof shells / sizeof *shells; at++)
        if (access(shells[at], X_OK) == 0)
            return shells[at];
    return NULL;
}

/* ---- the child ---- */

/* The shell reads the text from its standard input; what is $1 and so on in the text are the program's arguments. Not
 * by "-c": a text in argv can be read by all users (proc_pid_cmdline(5)) and has 128 KiB at most (execve(2)). */
static char **shell_words(const struct live *live, struct arena *arena)
{
    char *const *arguments = live->payload->arguments;
    size_t count = 0;
    char **words;

    while (arguments[count] != NULL)
        count++;
    words = arena_take(arena, (count + 4) * sizeof *words);
    environment_need(words != NULL);
    words[0] = (char *)(uintptr_t)live->shell;
    words[1] = (char *)(uintptr_t)"-s";
    words[2] = (char *)(uintptr_t)"--";
    memcpy(words + 3, arguments, (count + 1) * sizeof *words);
    return words;
}

/* The caller may ignore or block SIGCHLD: then the status would be lost, or the program find our signal pending. What
 * the caller has set for SIGCHLD, to be put back. */
struct children {
    struct sigaction action;
    sigset_t mask;
};

static void children_begin(struct children *caller)
{
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t only;

    sigemptyset(&only);
    sigaddset(&only, SIGCHLD);
    if (sigaction(SIGCHLD, &plain, &caller->action) < 0 || sigprocmask(SIG_UNBLOCK, &only, &caller->mask) < 0)
        stop(errno, "SIGCHLD");
}

static void children_end(const struct children *caller)
{
    if (sigaction(SIGCHLD, &caller->action, NULL) < 0 || sigprocmask(SIG_SETMASK, &caller->mask, NULL) < 0)
        stop(errno, "SIGCHLD");
}

/* In the child: its text, nothing to read, and the result on descriptors of their own; everything else as the program
 * will have it. The copies above the ones that shells redirect keep one dup2() from closing what the next one needs. */
static _Noreturn void become_shell(char **words, char **environment, const int *files, pid_t parent)
{
    static const int targets[FILES] = {[TEXT] = STDIN_FILENO, [NOTHING] = NOTHING_FD, [RESULT] = RESULT_FD};
    int high[FILES];
    bool ready = true;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_OWN_FAILURE);
    for (size_t at = 0; at < FILES; at++)
        high[at] = fcntl(files[at], F_DUPFD_CLOEXEC, RESULT_FD + 1);
    for (size_t at = 0; at < FILES; at++)
        ready = ready && dup2(high[at], targets[at]) >= 0;
    if (ready)
        execve(words[0], words, environment);
    dprintf(high[RESULT], "refused %d\n", errno);
    _exit(EXIT_OWN_FAILURE);
}

/* The text lies in memory and not in a pipe: a shell that reads a pipe takes byte by byte, and a writer would be
 * needed as well. The pipe without a writer is what scripts find as their input: its end, not the text. */
static pid_t start_shell(char **words, char **environment, const struct text *text, const struct children *caller, int *result)
{
    OWNED_FD body = source_in_memory(text->bytes, text->length);
    int empty[2], output[2];
    pid_t parent = getpid();
    pid_t child;

    if (body < 0 || pipe2(empty, O_CLOEXEC) < 0 || pipe2(output, O_CLOEXEC) < 0)
        stop(errno, "the text or a pipe for the environment scripts of the image");
    close(empty[1]);
    child = fork();
    if (child < 0)
        stop(errno, "start %s for the environment scripts of the image", words[0]);
    if (child == 0) {
        const int files[FILES] = {[TEXT] = body, [NOTHING] = empty[0], [RESULT] = output[1]};
        (void)sigprocmask(SIG_SETMASK, &caller->mask, NULL);
        become_shell(words, environment, files, parent);
    }
    close(empty[0]);
    close(output[1]);
    *result = output[0];
    return child;
}

/* Told once, never ended: a script may wait for a license or a network for as long as its author wants. */
static void wait_for_more(int result, const char *shell)
{
    struct pollfd event = {.fd = result, .events = POLLIN};
    int got;

    do
        got = poll(&event, 1, PATIENCE);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        message_warning("the environment scripts of the image still run in %s after a minute", shell);
}

/* All of it before the child is waited for, or it would hang in a full pipe (pipe(7)). */
static char *read_result(int result, const char *shell, struct arena *arena)
{
    size_t size;
    char *bytes;

    wait_for_more(result, shell);
    bytes = source_read_whole(result, RESULT_ROOM, RESULT_LIMIT, arena, &size);
    if (bytes == NULL && errno == EFBIG)
        stop(0, "the environment scripts of the image make more than %d MiB of variables", RESULT_LIMIT >> 20);
    if (bytes == NULL)
        stop(errno, "the result of the environment scripts of the image");
    return bytes;
}

/* ---- its result ---- */

/* The rest of the line at *at if it begins with `word`, ended by a NUL; *at goes to the next line. NULL: it does not.
 * The text is cut in place; what is left for the dump starts at the next line. */
static char *take_line(char **at, const char *word)
{
    size_t length = strlen(word);
    char *line = *at, *end = strchr(line, '\n');

    if (end == NULL || strncmp(line, word, length) != 0)
        return NULL;
    *end = '\0';
    *at = end + 1;
    return line + length;
}

/* Whether the host variable that a line of the result has come to has a value there; goes on to the next one. "x,"
 * for a variable with a value and "," for one without, in the order of the table of host variables. */
static bool take_mark(const char **marks)
{
    bool set = **marks == 'x';

    *marks += set ? 1 : 0;
    *marks += **marks == ',' ? 1 : 0;
    return set;
}

/* Host variables that a script gave a value without exporting it: they count as set, and the program has them not. What
 * the shell has by itself (bash's HOSTNAME) is no script's. */
static void keep_unexported(const char *before, const char *after, const struct variables *host, struct variables *variables)
{
    for (uint32_t at = 0; at < host->count; at++) {
        const struct variable *entry = &host->entries[at];
        bool own = take_mark(&before);
        if (take_mark(&after) && !own && variables_find(variables, entry->text, entry->name_length) == NULL)
            environment_need(variables_adopt(variables, entry->text, entry->name_length, entry->value_length));
    }
}

/* The status first: what a script that failed has left in the pipe is not to be believed. */
static void end_of_shell(pid_t child, const char *shell, bool finished)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            stop(errno, "the environment scripts of the image");
    if (WIFSIGNALED(status))
        stop_with(128 + WTERMSIG(status), 0, "signal %d ended the environment scripts of the image in %s", WTERMSIG(status),
                  shell);
    if (WEXITSTATUS(status) != 0)
        stop_with(WEXITSTATUS(status), 0, "the environment scripts of the image ended the launch with status %d",
                  WEXITSTATUS(status));
    if (!finished)
        stop(0, "the environment scripts of the image ended the launch before the program");
}

/* bash and dash set these for themselves; they say nothing of the image. */
static void own_variables_drop(struct variables *variables)
{
    static const char *const names[] = {"_", "SHLVL", "OLDPWD"};

    for (size_t at = 0; at < sizeof names / sizeof *names; at++)
        variables_unset(variables, names[at], strlen(names[at]));
}

/* The lines must come as live_text.c has them written; a script that wrote to descriptor 9 or ended the shell breaks
 * that order and ends the launch. */
mode_t live_evaluate(const struct live *live, struct variables *variables)
{
    struct arena *arena = variables->arena;
    struct text text = {.arena = arena};
    char **environment = variables_environment(variables);
    char *at, *before, *after, *mask, *refused;
    struct script_result result;
    struct children caller;
    int output;
    pid_t child;

    environment_need(environment != NULL);
    live_text_write(live, variables, &text);
    children_begin(&caller);
    child = start_shell(shell_words(live, arena), environment, &text, &caller, &output);
    at = read_result(output, live->shell, arena);
    close(output);
    refused = take_line(&at, "refused ");
    if (refused != NULL)
        stop((int)strtol(refused, NULL, 10), "start %s for the environment scripts of the image", live->shell);
    before = take_line(&at, "before");
    after = take_line(&at, "after");
    mask = take_line(&at, "");
    end_of_shell(child, live->shell, before != NULL && after != NULL && mask != NULL && take_line(&at, "variables") != NULL);
    children_end(&caller);
    variables_begin(variables, arena);
    if (!script_read_dump(at, strlen(at), variables, &result))
        stop(0, "line %u of what %s exports cannot be read: %s", result.line, live->shell, result.why);
    own_variables_drop(variables);
    keep_unexported(before, after, live->host, variables);
    return (mode_t)strtoul(mask, NULL, 8) & 0777;
}
