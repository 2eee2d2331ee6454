/* Variables of the caller: those that the program sees, and SINGULARITYENV_NAME, which it sees as NAME. */
#include "environment/parts.h"

#include <string.h>

/* USER_PATH is the host's PATH, for scripts of images that ask for it; behind it stands what every host has. */
static const char user_path_end[] = "/bin:/usr/bin:/sbin:/usr/sbin:/usr/local/bin:/usr/local/sbin";

static bool is_one_of(const char *const *names, size_t count, const char *name, size_t length)
{
    for (size_t at = 0; at < count; at++)
        if (strlen(names[at]) == length && memcmp(names[at], name, length) == 0)
            return true;
    return false;
}

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* HOME and PWD are set anew; PATH and LD_LIBRARY_PATH of the host name directories that are others inside. */
static bool never_passed(const char *name, size_t length)
{
    static const char *const names[] = {"HOME", "PATH", "PWD", "LD_LIBRARY_PATH"};

    return begins_with(name, "SINGULARITY_") || begins_with(name, "APPTAINER_") || begins_with(name, "SINGULARITYENV_") ||
           begins_with(name, "APPTAINERENV_") || is_one_of(names, sizeof names / sizeof *names, name, length);
}

/* Where the launcher of ranks has its MPI on the host: the image's own would look for its plugins there. */
static bool place_of_mpi(const char *name, size_t length)
{
    static const char *const names[] = {"OPAL_PREFIX", "OPAL_LIBDIR", "OPAL_PKGLIBDIR", "OPAL_DATADIR", "OPAL_PKGDATADIR",
                                        "OPAL_SYSCONFDIR", "PMIX_PREFIX", "PMIX_INSTALL_PREFIX", "PRTE_PREFIX"};

    return is_one_of(names, sizeof names / sizeof *names, name, length);
}

/* Even with --cleanenv: without them there is neither terminal nor network in many places. */
static bool always_passed(const char *name, size_t length)
{
    static const char *const names[] = {"TERM",        "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy",
                                        "NO_PROXY",    "all_proxy",  "ALL_PROXY",  "ftp_proxy",   "FTP_PROXY"};

    return is_one_of(names, sizeof names / sizeof *names, name, length);
}

/* Without a PATH there is no colon either: an empty part of such a list means the current directory. */
static void add_user_path(struct variables *host, const char *path)
{
    path = text_join(host->arena, path == NULL ? "" : path, path == NULL ? "" : ":", user_path_end);
    environment_need(variables_put(host, "USER_PATH", path));
}

/* The first of two variables of one name counts, as for getenv(3): environ may hold anything. Names that no shell can
 * have (functions exported by bash, for one) stay outside. */
void host_variables(char *const *caller_environment, bool cleanenv, bool host_mpi, struct variables *host)
{
    const char *path = NULL;

    for (; *caller_environment != NULL; caller_environment++) {
        const char *text = *caller_environment;
        size_t length = strcspn(text, "=");
        bool enters = text[length] == '=' && !never_passed(text, length) && variable_name_valid(text, length) &&
                      (!cleanenv || always_passed(text, length)) && (host_mpi || !place_of_mpi(text, length));
        if (path == NULL && begins_with(text, "PATH="))
            path = text + strlen("PATH=");
        message_debug("variable %.*s of the host %s", (int)length, text, enters ? "enters" : "stays outside");
        if (!enters || variables_find(host, text, length) != NULL)
            continue;
        environment_need(variables_adopt(host, text, length, strlen(text + length + 1)));
    }
    if (cleanenv)
        environment_need(variables_set(host, "LANG", "C"));
    else
        add_user_path(host, path);
}

/* Each has an option, which sets more than the variable: --home mounts a directory as well. */
static bool not_for_callers(const char *name, size_t length)
{
    static const char *const names[] = {"HOME", "SINGULARITY_SHELL", "APPTAINER_SHELL", "SINGULARITY_APPNAME",
                                        "APPTAINER_APPNAME"};

    return is_one_of(names, sizeof names / sizeof *names, name, length);
}

/* 99-runtimevars.sh of the image reads the caller's changes of PATH under names of their own. */
static bool add_path_change(struct variables *injected, const char *name, size_t length, const char *value)
{
    static const char *const pairs[][2] = {{"PATH", "SING_USER_DEFINED_PATH"},
                                           {"PREPEND_PATH", "SING_USER_DEFINED_PREPEND_PATH"},
                                           {"APPEND_PATH", "SING_USER_DEFINED_APPEND_PATH"}};

    for (size_t at = 0; at < sizeof pairs / sizeof *pairs; at++)
        if (is_one_of(&pairs[at][0], 1, name, length)) {
            if (variables_get(injected, pairs[at][1]) == NULL)
                environment_need(variables_set(injected, pairs[at][1], value));
            return true;
        }
    return false;
}

/* APPTAINERENV_ is looked at first, hence counts, as APPTAINER_ does for options. */
static void add_injected(struct variables *injected, const char *text, size_t prefix_length)
{
    const char *name = text + prefix_length;
    size_t length = strcspn(name, "=");
    const char *value = name + length + 1;
    const struct variable *before = variables_find(injected, name, length);

    if (name[length] == '\0')
        return;
    if (!variable_name_valid(name, length)) {
        message_warning("%.*s: not a name of a variable, left out", (int)(length + prefix_length), text);
    } else if (not_for_callers(name, length)) {
        message_warning("Overriding %.*s environment variable with %.*s is not permitted", (int)length, name,
                        (int)(length + prefix_length), text);
    } else if (before != NULL) {
        if (strcmp(variable_value(before), value) != 0)
            message_warning("%.*s is set by two variables with different values: APPTAINERENV_%.*s counts", (int)length,
                            name, (int)length, name);
    } else if (!add_path_change(injected, name, length, value)) {
        environment_need(variables_adopt(injected, name, length, strlen(value)));
    }
}

void host_injected(char *const *caller_environment, struct variables *injected)
{
    static const char *const prefixes[] = {"APPTAINERENV_", "SINGULARITYENV_"};

    for (size_t at = 0; at < sizeof prefixes / sizeof *prefixes; at++)
        for (char *const *text = caller_environment; *text != NULL; text++)
            if (begins_with(*text, prefixes[at]))
                add_injected(injected, *text, strlen(prefixes[at]));
}
