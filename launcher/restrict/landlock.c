/* Rules of Landlock, by which the kernel refuses what no rule allows. Opens directories to walk through them, and reads no file. */
#include "restrict.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../descriptor.h"
#include "landlock.h"

/* linux/landlock.h and the table of system calls: one number everywhere. */
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446, ASK_VERSION = 1, PATH_BENEATH = 1 };
struct attributes {
    uint64_t files, network, scoped;
};
struct beneath {
    uint64_t rights;
    int32_t directory;
} __attribute__((packed));
static const uint64_t tcp = 3, strangers_sockets = 1; /* bind and connect; abstract names of AF_UNIX (unix(7)) */

int landlock_version(const struct request_entry *asked, int least, const char *what)
{
    static const char *const since[] = {"5.13", "5.13", "5.19", "6.2"};
    int version = (int)syscall(CREATE_RULESET, NULL, (size_t)0, ASK_VERSION);

    if (version < 0 && errno == EOPNOTSUPP)
        stop(0, "%s: Landlock is switched off in this kernel (see \"lsm=\" of its command line)", asked->second);
    if (version < least)
        stop(0, "%s: this kernel cannot refuse %s: Landlock does so from Linux %s on", asked->second, what, since[least]);
    return version;
}

static int create(const struct request_entry *asked, const struct attributes *attributes)
{
    int rules = (int)syscall(CREATE_RULESET, attributes, sizeof *attributes, 0);

    if (rules < 0)
        stop(errno, "%s: Landlock", asked->second);
    return rules;
}

/* A file has none of the rights over what is in a directory. What has no path, such as a pipe, Landlock refuses nobody (EBADFD); links
 * are no way to a file by themselves. */
void landlock_allow(const struct ruleset *rules, int place, uint64_t rights)
{
    struct beneath beneath = {.rights = rights, .directory = place};
    struct stat status;

    if (fstat(place, &status) < 0)
        stop(errno, "%s: a file that is to be allowed", rules->asked->second);
    if (!S_ISDIR(status.st_mode))
        beneath.rights &= LANDLOCK_OF_FILES;
    beneath.rights &= rules->handled;
    if (!S_ISLNK(status.st_mode) && beneath.rights != 0 && syscall(ADD_RULE, rules->fd, PATH_BENEATH, &beneath, 0) < 0 && errno != EBADFD)
        stop(errno, "%s: Landlock", rules->asked->second);
}

struct ruleset landlock_begin(const struct request_entry *asked, uint64_t handled)
{
    return (struct ruleset){.asked = asked, .handled = handled, .fd = create(asked, &(struct attributes){.files = handled})};
}

void landlock_end(struct ruleset *rules)
{
    if (syscall(RESTRICT_SELF, rules->fd, 0) < 0)
        stop(errno, "%s: Landlock", rules->asked->second);
    fd_close(&rules->fd);
}

/* ---- all but some places ---- */

bool places_add(struct places *places, const char *path)
{
    if (places->count == PLACES || (places->path[places->count] = text_copy(&places->store, path, strlen(path))) == NULL)
        return false;
    places->count++;
    return true;
}

const char *path_beneath(const char *path, const char *above)
{
    size_t length = strcmp(above, "/") == 0 ? 0 : strlen(above);

    if (strncmp(path, above, length) != 0 || (path[length] != '/' && path[length] != '\0'))
        return NULL;
    return strcmp(path, "/") == 0 ? path + 1 : path + length;
}

enum relation { APART, ABOVE, WITHIN };

static enum relation relation_of(const struct places *places, const char *path)
{
    enum relation relation = APART;

    for (uint32_t i = 0; i < places->count; i++) {
        if (path_beneath(path, places->path[i]) != NULL)
            return WITHIN;
        if (path_beneath(places->path[i], path) != NULL)
            relation = ABOVE;
    }
    return relation;
}

struct walk {
    const struct ruleset *rules;
    const struct places *places;
    uint64_t rights;
    char path[PATH_MAX];
};

/* A rule holds for all that is beneath a directory, and no rule takes anything away: what is to be left out has rules beside it, for all
 * that it stands among. Whatever cannot be listed is left out as well. */
static void allow_others(struct walk *walk, int directory, size_t length)
{
    OWNED_FD listed = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = listed >= 0 ? fdopendir(listed) : NULL;
    struct dirent *entry;

    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        size_t room = sizeof walk->path - length;
        int more = snprintf(walk->path + length, room, "/%s", entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || more < 0 || (size_t)more >= room)
            continue;
        enum relation relation = relation_of(walk->places, walk->path);
        OWNED_FD child = relation == WITHIN ? -1 : openat(directory, entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (child >= 0 && relation == APART)
            landlock_allow(walk->rules, child, walk->rights);
        else if (child >= 0)
            allow_others(walk, child, length + (size_t)more);
    }
    if (stream != NULL)
        listed = -1, closedir(stream);
}

void landlock_allow_others(const struct ruleset *rules, const struct places *places, uint64_t rights)
{
    static struct walk walk;
    OWNED_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    walk = (struct walk){.rules = rules, .places = places, .rights = rights};
    if (root < 0)
        stop(errno, "%s: /", rules->asked->second);
    if (places->count == 0)
        landlock_allow(rules, root, rights);
    else if (relation_of(places, "/") != WITHIN)
        allow_others(&walk, root, 0);
}

/* ---- no network ---- */

/* The kernel lets no process trace one outside of its domain, nor take what that has open (pidfd_getfd(2)), whatever the domain
 * refuses; where its version knows no network, a domain that refuses nothing is for that alone. */
void landlock_network(const struct request_entry *asked)
{
    int version = landlock_version(asked, 1, "what traces other processes");
    uint64_t nothing = version >= LANDLOCK_NETWORK ? 0 : version >= 2 ? LANDLOCK_REFER | LANDLOCK_MAKE_BLOCK : LANDLOCK_MAKE_BLOCK;
    const struct attributes attributes = {.files = nothing, .network = version >= LANDLOCK_NETWORK ? tcp : 0,
                                          .scoped = version >= LANDLOCK_SCOPES ? strangers_sockets : 0};
    struct ruleset rules = {.asked = asked, .handled = nothing, .fd = create(asked, &attributes)};
    OWNED_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        stop(errno, "%s: /", asked->second);
    landlock_allow(&rules, root, nothing);
    landlock_end(&rules);
}
