/* --nv, --rocm and --fabric: which families of host libraries a launch wants, and the variables of its devices. */
#include "libraries.h"

#include <stdio.h>
#include <string.h>

#include "../front/front.h"

struct family {
    const char *name;   /* of its table: NAMEliblist.conf */
    const char *option;
    uint64_t number;    /* LIBRARY_* */
    bool wanted;
    bool asked;         /* by the user, not by the site */
    bool devices_first;
};

static const char *variable(char *const *environment, const char *prefix, const char *name)
{
    size_t start = strlen(prefix), length = strlen(name);

    for (; *environment != NULL; environment++)
        if (strncmp(*environment, prefix, start) == 0 && strncmp(*environment + start, name, length) == 0 &&
            (*environment)[start + length] == '=')
            return *environment + start + length + 1;
    return NULL;
}

/* ---- variables ---- */

/* Numbers and names of devices; an injected value is one that a shell could evaluate. With --cleanenv variables reach
 * the container as injected ones, and those are expanded as a shell would: only what no shell expands goes on. */
static bool names_devices(const char *value)
{
    return value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,:;/._-")] == '\0';
}

static char *injected(const char *name, const char *value, struct arena *arena)
{
    size_t size = strlen("SINGULARITYENV_") + strlen(name) + 1 + strlen(value) + 1;
    char *entry = arena_take(arena, size);

    if (entry != NULL)
        snprintf(entry, size, "SINGULARITYENV_%s=%s", name, value);
    return entry;
}

/* What the user injects himself goes before. For a batch system's CUDA_VISIBLE_DEVICES and the like: without them a
 * program would take devices that were given to another job. */
static char **keep_variables(const struct host_list *list, char **environment, struct arena *arena)
{
    size_t count = 0;

    while (environment[count] != NULL)
        count++;
    char **result = arena_take(arena, (count + list->variable_count + 1) * sizeof *result);
    if (result == NULL)
        return NULL;
    memcpy(result, environment, count * sizeof *result);
    for (uint32_t i = 0; i < list->variable_count; i++) {
        const char *name = list->variables[i];
        const char *value = variable(environment, "", name);
        if (value == NULL || !names_devices(value) || variable(environment, "SINGULARITYENV_", name) != NULL ||
            variable(environment, "APPTAINERENV_", name) != NULL)
            continue;
        if ((result[count++] = injected(name, value, arena)) == NULL)
            return NULL;
    }
    result[count] = NULL;
    return result;
}

/* ---- families ---- */

/* A warning only where the user asked: a site that always wants --nv has nodes without such a device. */
static void tell(const struct family *family, const struct host_list *list)
{
    if (family->devices_first && list->devices == 0)
        message_verbose("%s: the host has no device of a fabric, so nothing is looked for", family->option);
    else if (list->found == 0 && family->asked)
        message_warning("Could not find any %s files on this host", family->name);
    else if (list->found == 0)
        message_verbose("no %s files on this host (\"always use %s\" in the configuration)", family->name, family->name);
}

static char **family_take(const struct family *family, struct invocation *invocation, const struct installation *installation,
                          char **environment, struct arena *arena)
{
    char file[32], path[PATH_MAX];
    const struct host_list_sources sources = {.list = path, .cache = "/etc/ld.so.cache", .inherited = "/.singularity.d/libs",
                                              .path = variable(environment, "", "PATH")};
    struct host_list list = {.number = family->number | (family->asked ? LIBRARY_ASKED : 0),
                             .devices_first = family->devices_first};

    snprintf(file, sizeof file, "%sliblist.conf", family->name);
    if (!installation_file(installation, file, path) || !host_list_take(&sources, &list, &invocation->request, &invocation->store))
        return environment;
    tell(family, &list);
    return invocation->request.cleanenv && list.variable_count > 0 ? keep_variables(&list, environment, arena) : environment;
}

/* "host" takes it whatever the image has, "auto" only where the versions say that it fits. */
static void take_mpi(struct invocation *invocation, enum mpi_choice choice, char *const *environment)
{
    const struct host_mpi_sources sources = {.environment = environment, .cache = "/etc/ld.so.cache"};
    bool asked = invocation->mpi == MPI_HOST;
    uint64_t number = (asked ? LIBRARY_ASKED : 0) | (choice == MPI_HOST ? LIBRARY_ALWAYS : 0);

    if (choice != MPI_AUTO && choice != MPI_HOST)
        return;
    if (!host_mpi_take(&sources, number, &invocation->request, &invocation->store) && asked)
        message_warning("--mpi=host: no MPI of this host was found, the container's is used (is its module loaded?)");
}

/* The site's configuration is read here once more, though the starter judges it: the starter only refuses, it looks
 * for nothing. */
char **host_families_take(struct invocation *invocation, const struct installation *installation, const struct options *options,
                          char **environment, struct arena *arena)
{
    struct request *request = &invocation->request;
    bool nv = request->nv, rocm = request->rocm;
    struct config_keys *keys = &invocation->keys;

    config_keys_read(installation, keys);
    request->nv |= keys->always_nv && !options_flag(options, OPTION_no_nv);
    request->rocm |= keys->always_rocm && !options_flag(options, OPTION_no_rocm);
    const struct family families[] = {
        {.name = "nv", .option = "--nv", .number = LIBRARY_NV, .wanted = request->nv, .asked = nv},
        {.name = "rocm", .option = "--rocm", .number = LIBRARY_ROCM, .wanted = request->rocm, .asked = rocm},
        {.name = "fabric", .option = "--fabric=auto", .number = LIBRARY_FABRIC, .wanted = invocation->fabric == FABRIC_AUTO,
         .devices_first = true},
        {.name = "fabric", .option = "--fabric=host", .number = LIBRARY_FABRIC | LIBRARY_ALWAYS,
         .wanted = invocation->fabric == FABRIC_HOST, .asked = true},
    };
    for (size_t i = 0; i < sizeof families / sizeof families[0] && environment != NULL; i++)
        if (families[i].wanted)
            environment = family_take(&families[i], invocation, installation, environment, arena);
    if (environment != NULL)
        take_mpi(invocation, invocation->mpi != MPI_UNSAID ? invocation->mpi : keys->mpi, environment);
    return environment;
}
