/* What the host says of the caller, of images and of itself, before a launch is planned. Reads, with the user's rights; what
 * follows from it is the plan's to say. */
#include "facts.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"

/* ---- accounts ---- */

/* An entry of a list is a name or an id. Names are looked up in the file itself, never by NSS, which loads code
 * (R-L4). A line longer than the buffer goes in pieces: its name and number stand at the start, and a later piece
 * could only match if it had the shape of a whole entry. */
static bool id_matches(const char *file, const char *text, uint32_t id)
{
    char line[4096];
    unsigned long number;
    size_t length = strlen(text);
    bool found = false;

    if (text[strspn(text, "0123456789")] == '\0')
        return sscanf(text, "%lu", &number) == 1 && number == id;
    FILE *stream = fopen(file, "re");
    while (stream != NULL && !found && fgets(line, sizeof line, stream) != NULL) {
        char *rest = strchr(line, ':');
        found = rest != NULL && (size_t)(rest - line) == length && memcmp(line, text, length) == 0 &&
                (rest = strchr(rest + 1, ':')) != NULL && sscanf(rest, ":%lu", &number) == 1 && number == id;
    }
    if (stream != NULL)
        fclose(stream);
    return found;
}

/* The home directory of a user in /etc/passwd; NULL: he is not in there, and other sources are not asked. A file that cannot be
 * read names nobody's: "". */
static const char *home_of(uid_t uid, struct plan *plan)
{
    char line[4096], *rest, *fields[6];
    FILE *stream = fopen("/etc/passwd", "re");
    const char *home = stream == NULL ? "" : NULL;

    while (home == NULL && fgets(rest = line, sizeof line, stream) != NULL) {
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
            fields[i] = strsep(&rest, ":");
        if (rest != NULL && strtoul(fields[2], NULL, 10) == uid && fields[2][strspn(fields[2], "0123456789")] == '\0')
            home = plan_text(plan, "%s", fields[5]);
    }
    if (stream != NULL)
        fclose(stream);
    return home;
}

/* Whether the user namespace is the machine's first one (PROC_USER_INIT_INO), and none that somebody has made (`unshare -r`, containers):
 * only there are file systems of block devices mounted. */
static bool is_machines_namespace(void)
{
    struct stat status;

    return fstatat(proc_fd(), "self/ns/user", &status, 0) == 0 && status.st_ino == 0xEFFFFFFDU;
}

/* ---- images ---- */

static bool id_listed(const char *file, const struct config_item *items, uint32_t count, uint32_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (id_matches(file, items[i].text, id))
            return true;
    return count == 0;
}

/* The directory that an open image is, or lies in; -1: it has been moved or removed since. The kernel tells the path
 * of an open file (proc_pid_fd(5)); that its directory still has this very file under that name is then checked by
 * device and inode, since a rename between the two would let a file pass for one of another place (R-I5). */
static int directory_of(const struct image *image)
{
    char path[PATH_MAX];
    struct stat status;

    if (image->format == FORMAT_DIRECTORY)
        return openat(image->fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (!descriptor_path(image->fd, path, sizeof path))
        return -1;
    char *slash = strrchr(path, '/');
    *slash = '\0';
    OWNED_FD directory = host_open(slash > path ? path : "/", O_PATH | O_DIRECTORY);
    bool same = directory >= 0 && fstatat(directory, slash + 1, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                status.st_dev == image->device && status.st_ino == image->inode;
    return same ? fd_give(&directory) : -1;
}

/* Walks from a directory to the root by "..", comparing device and inode: names, links and bind mounts could lie (R-I8). */
static bool lies_in(int start, const struct stat *limit)
{
    struct stat here = {0}, before;
    int at = start;

    do {
        before = here;
        if (fstat(at, &here) < 0 || (here.st_dev == limit->st_dev && here.st_ino == limit->st_ino))
            break;
        int above = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (at != start)
            close(at);
        at = above;
    } while (at >= 0 && (here.st_dev != before.st_dev || here.st_ino != before.st_ino));
    if (at >= 0 && at != start)
        close(at);
    return at >= 0 && here.st_dev == limit->st_dev && here.st_ino == limit->st_ino;
}

/* By the directory and not by text: "/scratch" in the configuration does not allow "/scratch2", and a link to
 * /scratch is no way around (R-I5). */
static bool path_listed(const struct config *config, const struct image *image)
{
    OWNED_FD directory = config->limit_container_paths_count > 0 ? directory_of(image) : -1;
    struct stat limit;

    for (uint32_t i = 0; i < config->limit_container_paths_count; i++)
        if (directory >= 0 && stat(config->limit_container_paths[i].text, &limit) == 0 && lies_in(directory, &limit))
            return true;
    return config->limit_container_paths_count == 0;
}

/* A file system that a user serves is asked nothing more: its server need not answer. Owner and place of what a FUSE
 * server shows are what the server says (R-I8). */
static void look_at_image(struct image_facts *facts, const struct image *image, const struct config *config)
{
    struct statfs status;

    facts->served = fstatfs(image->fd, &status) < 0 || status.f_type == FUSE_SUPER_MAGIC;
    if (facts->served)
        return;
    facts->owner_listed = id_listed("/etc/passwd", config->limit_container_owners, config->limit_container_owners_count,
                                    image->owner);
    facts->group_listed = id_listed("/etc/group", config->limit_container_groups, config->limit_container_groups_count,
                                    image->group);
    facts->place_listed = path_listed(config, image);
}

/* ---- the processor ---- */

static const char *architecture_of_host(void)
{
    static const char *const names[][2] = {
        {"x86_64", "amd64"}, {"aarch64", "arm64"}, {"i686", "386"}, {"armv7l", "arm"}, {"ppc64le", "ppc64le"},
        {"ppc64", "ppc64"}, {"s390x", "s390x"}, {"riscv64", "riscv64"}, {"mips", "mips"}, {"mips64", "mips64"},
        {"loongarch64", "loong64"},
    };
    static struct utsname host;

    if (uname(&host) < 0)
        return "";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(host.machine, names[i][0]) == 0)
            return names[i][1];
    return "";
}

/* By binfmt_misc too. qemu-user registers itself under these names (binfmt_misc in the kernel's admin guide); 386
 * programs run on amd64 kernels as they are. */
static bool architecture_runs(const char *architecture, const char *host)
{
    static const char *const emulators[][2] = {{"arm64", "aarch64"}, {"amd64", "x86_64"}, {"386", "i386"}};
    const char *emulator = architecture;
    char path[128];

    if (*architecture == '\0' || strcmp(architecture, host) == 0 ||
        (strcmp(host, "amd64") == 0 && strcmp(architecture, "386") == 0))
        return true;
    for (size_t i = 0; i < sizeof emulators / sizeof emulators[0]; i++)
        if (strcmp(architecture, emulators[i][0]) == 0)
            emulator = emulators[i][1];
    snprintf(path, sizeof path, "/proc/sys/fs/binfmt_misc/qemu-%s", emulator);
    return access(path, F_OK) == 0;
}

/* ---- lists ---- */

/* By the same checks as the configuration, beside which they lie. A list that cannot be read or trusted is kept as an
 * error and not as an empty list, so that the user is told why nothing goes in (R-C3). */
static void read_list(struct list_facts *list, const char *name, const struct config *config)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%.*s%sliblist.conf", (int)(path_last(config->path) - config->path), config->path, name);
    OWNED_FD file = config_open(path, &list->error);
    ssize_t size = file >= 0 ? read(file, list->text, sizeof list->text - 1) : 0;
    list->text[size > 0 ? size : 0] = '\0';
}

static void read_lists(struct host_facts *host, const struct plan_inputs *inputs)
{
    static const char *const names[] = {[LIBRARY_NV] = "nv", [LIBRARY_ROCM] = "rocm", [LIBRARY_FABRIC] = "fabric"};
    const struct request *request = inputs->request;
    bool known[LIBRARY_FABRIC + 1] = {false};

    for (uint32_t i = 0; i < request->library_count; i++) {
        uint64_t option = request->library[i].number & LIBRARY_OPTION;
        if (option > LIBRARY_FABRIC || known[option])
            continue;
        read_list(&host->lists[option], names[option], inputs->config);
        known[option] = true;
    }
}

/* Where nothing depends on it, nothing is asked: without the setuid program users have the rights that they have. */
void facts_host(struct host_facts *host, struct plan *plan, const struct plan_inputs *inputs)
{
    const struct config *config = inputs->config;

    host->machines_namespace = (inputs->setuid || inputs->caller->uid == 0) && is_machines_namespace();
    host->architecture = architecture_of_host();
    host->runs = architecture_runs(inputs->image->architecture, host->architecture);
    host->mounts = config->mount_hostfs ? host_mounts(plan) : NULL;
    for (uint32_t i = 0; inputs->setuid && i < inputs->request->overlay_count; i++)
        look_at_image(&host->overlays[i], &inputs->overlays[i], config);
    if (inputs->setuid)
        look_at_image(&host->image, inputs->image, config);
    if (inputs->setuid && !config->user_bind_control) {
        host->home = home_of(inputs->caller->uid, plan);
        read_lists(host, inputs);
    }
}
