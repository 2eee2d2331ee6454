/* Whether a list of the installation (NAMEliblist.conf) names a file of the host: requests may be forged. Data only. */
#include "plan.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "../inside.h"

/* The name in the directory of libraries, or NULL. */
static const char *name_inside(const char *target)
{
    size_t length = strlen(LIBRARIES_INSIDE "/");

    return strncmp(target, LIBRARIES_INSIDE "/", length) == 0 && strchr(target + length, '/') == NULL ? target + length : NULL;
}

/* Libraries of an MPI and the directories of plugins beside them: the front door finds these by itself, so no list names them. */
static enum listed of_an_mpi(const struct request_entry *library)
{
    static const char *const directories[] = {"openmpi", "mpich", "pmix", "prte", "libfabric", "ucx", "libibverbs"};
    const char *name = path_last(library->first), *inside = name_inside(library->second);
    bool own_place = strcmp(library->first, library->second) == 0 || (inside != NULL && strcmp(inside, name) == 0);

    if (inside != NULL && strstr(inside, ".so") != NULL && strstr(name, ".so") != NULL)
        return LISTED_NAME;
    for (size_t i = 0; own_place && i < sizeof directories / sizeof directories[0]; i++)
        if (strcmp(name, directories[i]) == 0)
            return LISTED_NAME;
    return LISTED_NOT;
}

/* FNM_PATHNAME and FNM_PERIOD: a star in a list stands for a part of one name, never for a slash or a hidden file. A
 * library must keep its name inside, or "libcuda.so" of the list could show as "libc.so.6". */
static enum listed by_line(const char *line, const struct request_entry *library)
{
    const char *name = path_last(library->first), *inside = name_inside(library->second);

    if (*line == '/')
        return strcmp(library->first, library->second) == 0 && fnmatch(line, library->first, FNM_PATHNAME | FNM_PERIOD) == 0
                   ? LISTED_PATH
                   : LISTED_NOT;
    if (strstr(line, ".so") != NULL)
        return inside != NULL && strcmp(inside, name) == 0 && strncmp(name, line, strlen(line)) == 0 ? LISTED_NAME : LISTED_NOT;
    bool program = strncmp(library->second, "/usr/bin/", strlen("/usr/bin/")) == 0 &&
                   strcmp(library->second + strlen("/usr/bin/"), name) == 0;
    return program && *line != '\0' && strchr("[$", *line) == NULL && strcmp(name, line) == 0
               ? LISTED_NAME
               : LISTED_NOT;
}

/* The front door goes by the same lists, but the request comes from a user, who can write one by hand (R-I9). */
enum listed listed(const struct request_entry *library, const struct list_facts *lists)
{
    uint64_t option = library->number & LIBRARY_OPTION;
    enum listed found = LISTED_NOT;

    if (library->first[0] == '/' && option == LIBRARY_MPI)
        return of_an_mpi(library);
    if (library->first[0] != '/' || option > LIBRARY_FABRIC)
        return LISTED_NOT;
    for (const char *line = lists[option].text; *line != '\0' && found == LISTED_NOT; line += strcspn(line, "\n"), line += *line == '\n') {
        line += strspn(line, " \t\r");
        char word[PATH_MAX];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(line, " \t\r\n#"), line);
        found = by_line(word, library);
    }
    return found;
}
