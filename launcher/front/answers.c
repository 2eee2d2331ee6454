/* What the Python half answers a launch: profiles of system calls, compiled, which capabilities root lets this user add, and what devices
 * need by the site's specifications. Starts Python, as the user; its answer is data, in memory. */
#include "front.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../restriction.h"

enum { NUMBER = 24, WORDS = 6 + 2 * ASKED_DEVICES, KEPT_LIMIT = sizeof((struct request *)NULL)->keep_fd / sizeof(struct request_entry) };

/* Who is asked, and with which variables. */
struct asking {
    const struct installation *installation;
    char *const *environment;
};

static pid_t start(char *const *words, char *const *environment, int answer)
{
    posix_spawn_file_actions_t actions;
    pid_t child = -1;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    int failed = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    failed |= posix_spawn_file_actions_adddup2(&actions, answer, STDOUT_FILENO);
    if (failed == 0)
        failed = posix_spawn(&child, words[0], &actions, NULL, words, environment);
    posix_spawn_file_actions_destroy(&actions);
    errno = failed;
    return failed == 0 ? child : -1;
}

/* The answer in sealed memory, which programs inherit. What is wrong Python has said by itself, with the status that is ours then. */
static int ask(const struct asking *asking, const char *option, const char *const *question)
{
    const char *words[WORDS + 4] = {asking->installation->python, "-I", "-m", "singularity", "answer"};
    int answer = memfd_create("answer", MFD_ALLOW_SEALING), status = 0;

    for (size_t i = 0; question[i] != NULL; i++)
        words[5 + i] = question[i];
    pid_t child = answer >= 0 ? start((char *const *)(uintptr_t)words, asking->environment, answer) : -1;
    if (child < 0)
        stop(errno, "%s, needed for %s (is this installation complete?)", words[0], option);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        _exit(WEXITSTATUS(status));
    if (!WIFEXITED(status))
        stop(0, "%s, needed for %s, was ended by signal %d", words[0], option, WTERMSIG(status));
    if (fcntl(answer, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        stop(errno, "the answer of %s", words[0]);
    return answer;
}

/* A mask of capabilities as the answer's text and the question's word. */
static const char *mask_text(char text[NUMBER], uint64_t mask)
{
    snprintf(text, NUMBER, "%#llx", (unsigned long long)mask);
    return text;
}

static void say_refused(const struct request *request, uint64_t refused)
{
    char names[1024] = "";
    size_t used = 0;

    for (unsigned number = 0; number < 64; number++)
        if (refused & UINT64_C(1) << number)
            used += (size_t)snprintf(names + used, sizeof names - used, "%sCAP_%s", used > 0 ? "," : "", capability_name(number));
    for (char *letter = names; *letter != '\0'; letter++)
        *letter = (char)toupper(*letter);
    for (uint32_t i = 0; i < request->variable_count; i++)
        if (strcmp(request->variable[i].second, "--add-caps") == 0) {
            message_warning("%s: not authorized to add capability: %s", request->variable[i].first, names);
            return;
        }
    message_warning("--add-caps: not authorized to add capability: %s", names);
}

/* In a user namespace nobody can be kept from any: so this is no protection, and belongs to nobody with privilege. With --fakeroot they
 * are all there anyway. */
static void authorize(struct request *request, const struct asking *asking)
{
    char path[PATH_MAX], text[NUMBER] = "";
    uint64_t allowed = 0;

    if (installation_file(asking->installation, "capability.json", path) && access(path, F_OK) == 0) {
        const char *const question[] = {"capabilities", mask_text(text, request->add_caps), NULL};
        OWNED_FD answer = ask(asking, "--add-caps", question);
        ssize_t size = pread(answer, text, sizeof text - 1, 0);
        text[size > 0 ? size : 0] = '\0';
        allowed = strtoull(text, NULL, 0);
    }
    if (request->add_caps & ~allowed)
        say_refused(request, request->add_caps & ~allowed);
    request->add_caps &= allowed;
}

/* What a program will have decides which rules of a profile count: only root and who is shown as root have any by themselves. */
static uint64_t capabilities_of(const struct invocation *invocation)
{
    const struct request *request = &invocation->request;
    bool all = request->fakeroot || (invocation->root && !request->userns && (!request->no_privs || request->keep_privs));

    return (all ? UINT64_MAX & ~request->drop_caps : 0) | request->add_caps;
}

/* The filter stays open up to the last stage, as what the program is to get stays open; there it is loaded and closed. */
static bool compile(struct invocation *invocation, struct request_entry *profile, const struct asking *asking, struct error *error)
{
    struct request *request = &invocation->request;
    char text[NUMBER];

    if (request->keep_fd_count == KEPT_LIMIT)
        return error_set(error, 0, "%s: more than %d descriptors", profile->second, (int)KEPT_LIMIT);
    const char *const question[] = {"filter", mask_text(text, capabilities_of(invocation)), profile->first, NULL};
    int answer = ask(asking, profile->second, question);
    profile->number |= (uint64_t)answer << RESTRICTION_DESCRIPTOR;
    request->keep_fd[request->keep_fd_count++] = (struct request_entry){.number = (uint64_t)answer};
    return true;
}

/* The option is named in place of a variable, so that a plan gives it as the reason of the binds. */
static bool take_records(struct invocation *invocation, const char *option, const char *record, const char *end, struct error *error)
{
    struct request *request = &invocation->request;
    const struct option_value use = {.id = OPTION_device, .from_variable = true, .name = option};
    char name[256];

    if (request->variable_count == sizeof request->variable / sizeof request->variable[0])
        return request_full(error);
    request->variable[request->variable_count++] = (struct request_entry){.first = option, .second = option};
    for (; record < end; record += strlen(record) + 1) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(record + 1, "="), record + 1);
        if (*record == 'B' && !bind_take(invocation, &use, record + 1, error))
            return false;
        if (*record == 'E' && variables_get(&invocation->injection.given, name + 1) == NULL && /* behind its quote; --env goes first */
            !injection_take(&invocation->injection, record + 1, error))
            return false;
    }
    return true;
}

/* Of what `option` names, by these words. The texts stay in memory: variables are not copied. */
static bool take_devices(struct invocation *invocation, const struct asking *asking, const char *option, const char *const *words, uint32_t count,
                         struct error *error)
{
    const char *question[WORDS] = {"devices"};
    char number[NUMBER];
    size_t used = 2;

    if (count == 0)
        return true;
    snprintf(number, sizeof number, "%u", invocation->cdi_directory_count);
    question[1] = number;
    for (uint32_t i = 0; i < invocation->cdi_directory_count; i++)
        question[used++] = invocation->cdi_directories[i];
    for (uint32_t i = 0; i < count; i++)
        question[used++] = words[i];
    OWNED_FD answer = ask(asking, option, question);
    off_t size = lseek(answer, 0, SEEK_END);
    char *text = size >= 0 ? arena_take(invocation->injection.given.arena, (size_t)size + 1) : NULL;
    if (text == NULL || pread(answer, text, (size_t)size, 0) != (ssize_t)size)
        return error_set(error, ENOMEM, "%s", option);
    text[size] = '\0';
    return take_records(invocation, option, text, text + size, error);
}

/* What drivers have besides --nv and --rocm (singularity/drivers.py). */
static bool take_drivers(struct invocation *invocation, const struct asking *asking, const struct options *options, struct error *error)
{
    const struct request *request = &invocation->request;
    const char *const nvidia[] = {request->contain ? "nvccli-contained" : "nvccli"}, *const gaudi[] = {"intel-hpu"};
    bool wide = options_flag(options, OPTION_compat32);
    const char *tables[] = {request->nv || !request->rocm ? "compat32-nv" : "compat32-rocm", "compat32-rocm"};

    if (wide && !request->nv && !request->rocm)
        message_warning("--compat32: has a meaning with --nv or --rocm only");
    return take_devices(invocation, asking, "--nvccli", nvidia, options_flag(options, OPTION_nvccli), error) &&
           take_devices(invocation, asking, "--intel-hpu", gaudi, options_flag(options, OPTION_intel_hpu), error) &&
           take_devices(invocation, asking, "--compat32", tables,
                        wide ? (uint32_t)request->nv + (uint32_t)request->rocm : 0, error);
}

bool filters_take(struct invocation *invocation, const struct installation *installation, char *const *environment, struct error *error)
{
    struct request *request = &invocation->request;
    const struct asking asking = {installation, environment};

    for (uint32_t i = 0; i < request->restriction_count; i++)
        if (request->restriction[i].number == RESTRICTION_FILTER && !compile(invocation, &request->restriction[i], &asking, error))
            return false;
    return true;
}

bool answers_take(struct invocation *invocation, const struct installation *installation, const struct options *options, char *const *environment,
                  struct error *error)
{
    struct request *request = &invocation->request;
    const struct asking asking = {installation, environment};

    if (request->add_caps != 0 && !invocation->root && !request->fakeroot)
        authorize(request, &asking);
    return take_devices(invocation, &asking, "--device", invocation->devices, invocation->device_count, error) &&
           take_drivers(invocation, &asking, options, error) && filters_take(invocation, installation, environment, error);
}
