/* Where the starters, the configuration and Python of this installation lie. */
#include "front.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static bool join(char path[PATH_MAX], const char *directory, const char *name)
{
    int length = snprintf(path, PATH_MAX, "%s/%s", directory, name);
    return length > 0 && length < PATH_MAX;
}

#if defined(LIBEXECDIR) && defined(SYSCONFDIR) && defined(PYTHON_PATH)

bool installation_find(struct installation *installation, struct error *error)
{
    (void)error;
    snprintf(installation->starters, sizeof installation->starters, "%s", LIBEXECDIR);
    snprintf(installation->configuration, sizeof installation->configuration, "%s", SYSCONFDIR);
    snprintf(installation->python, sizeof installation->python, "%s", PYTHON_PATH);
    return true;
}

#else

/* BIN/singularity, BIN/python3, BIN/../libexec/singularity, BIN/../etc/singularity */
bool installation_find(struct installation *installation, struct error *error)
{
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

    if (length < 0)
        return error_set(error, errno, "/proc/self/exe, needed to find the parts of this installation");
    self[length] = '\0';
    char *slash = strrchr(self, '/');
    if (slash == NULL)
        return error_set(error, 0, "%s: no absolute path, so the parts of this installation cannot be found", self);
    *slash = '\0';
    if (!join(installation->python, self, "python3") ||
        !join(installation->starters, self, "../libexec/singularity") ||
        !join(installation->configuration, self, "../etc/singularity"))
        return error_set(error, ENAMETOOLONG, "%s", self);
    return true;
}

#endif

/* The setuid bit would be without effect: in a container, or under a supervisor that set no_new_privs, which execve(2)
 * obeys and nobody can take back (prctl(2)). The plain starter is taken then, in place of a setuid one that would only find
 * out that it has no privilege. */
static bool privileges_frozen(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

/* Only what decides between two programs: whether the setuid one can be trusted is not the front door's to check,
 * since it runs as the user. */
static bool setuid_installed(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == 0 && (status.st_mode & S_ISUID) != 0;
}

/* In the order of what is known first. A reason goes with each choice, for --verbose and `version -v`. */
bool installation_starter(const struct installation *installation, bool userns, char path[PATH_MAX], const char **why,
                          struct error *error)
{
    if (!join(path, installation->starters, "sexec-suid"))
        return error_set(error, ENAMETOOLONG, "%s", installation->starters);
    *why = NULL;
    if (getuid() == 0)
        *why = "root needs no setuid program";
    else if (userns)
        *why = "a user namespace was asked for";
    else if (!setuid_installed(path))
        *why = "no setuid program is installed";
    else if (privileges_frozen())
        *why = "no_new_privs is set, so a setuid program gains nothing";
    if (*why != NULL)
        *path = '\0';
    else
        *why = "the setuid program is installed";
    return true;
}

bool installation_file(const struct installation *installation, const char *name, char path[PATH_MAX])
{
    return join(path, installation->configuration, name);
}
