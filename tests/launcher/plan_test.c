/* Plans as text: a request, a configuration and facts, all of them written down in plans/.txt files, against the plan that is
 * printed. Nothing is mounted, opened or asked of the kernel, so that hundreds of cases take milliseconds.
 *
 * A file begins with a launch: lines `KEY: VALUE`, an empty line, the plan. Each `== NAME` after it is that launch with a few
 * lines more; behind their empty line stand only the lines of the plan that go (-) or come (+), or why there is none. Keys:
 *   mode: setuid | user | root            who starts it, by what
 *   image: directory | squashfs | ext | sif   at /image; `served`, `foreign` (of another processor) and `overlay` may follow
 *   overlay: FORMAT [served]              the image of the next entry of `request: overlay`
 *   request: MEMBER VALUE                 as request_print.c prints it
 *   config: LINE
 *   home: PATH   mount: PATH   list: NAME LINE    what the host says: /etc/passwd, mounts, NAMEliblist.conf
 *   limit: owner | group | place          what a list of the configuration does not have
 *   source: PATH file | directory | ERRNO    what is there on the host, where that is no directory
 *   inside: PATH file | directory | ENTRIES | missing     what the image has besides the usual
 * With UPDATE_PLANS=1 in the environment the plans are written anew, to be read before they are committed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "descriptor.h"
#include "plan/plan.h"

enum { ENTRIES = 128, LINES = 256, TEXT = 64 << 10, USUAL_ENTRIES = 20 };

/* What lies at a path of the host or of the image. */
struct entry {
    const char *path;
    mode_t type; /* 0: nothing */
    int number;  /* of a directory: its entries; of nothing: why */
};

static struct world {
    struct request request;
    struct config config;
    struct images images;
    struct caller caller;
    struct host_facts host;
    struct plan plan;
    struct entry sources[ENTRIES], inside[ENTRIES];
    uint32_t source_count, inside_count, mount_count;
    uint32_t overlay_count;
    const char *mounts[ENTRIES + 1];
    char config_text[TEXT];
    bool setuid;
} world;

static _Noreturn void give_up(const char *what, const char *text)
{
    printf("not ok 0 - %s: %s\n", what, text);
    exit(1);
}

static void copy(char to[TEXT], const char *one, const char *other)
{
    size_t length = strlen(one);

    if (length + strlen(other) >= TEXT)
        give_up("too long", one);
    memcpy(to, one, length);
    memcpy(to + length, other, strlen(other) + 1);
}

/* ---- a launch, line by line ---- */

static void take_list(struct request_entry *list, uint32_t *count, uint32_t limit, char *value)
{
    char *second = strchr(value, '|'), *number = second != NULL ? strchr(second + 1, '|') : NULL;

    if (*count == limit)
        give_up("too many entries", value);
    if (second != NULL)
        *second++ = '\0';
    if (number != NULL)
        *number++ = '\0';
    list[(*count)++] = (struct request_entry){.first = value, .second = second != NULL ? second : "",
                                              .number = number != NULL ? strtoull(number, NULL, 0) : 0};
}

static void take_request(char *text)
{
    struct request *request = &world.request;
    char *value = strchr(text, ' ');

    if (value != NULL)
        *value++ = '\0';
#define REQUEST_FLAG(tag, member) \
    if (strcmp(text, #member) == 0) { \
        request->member = true; \
        return; \
    }
#define REQUEST_NUMBER(tag, member) \
    if (strcmp(text, #member) == 0 && value != NULL) { \
        request->member = strtoull(value, NULL, 0); \
        return; \
    }
#define REQUEST_TEXT(tag, member) \
    if (strcmp(text, #member) == 0 && value != NULL) { \
        request->member = strcmp(value, "none") == 0 ? NULL : value; \
        return; \
    }
#define REQUEST_LIST(tag, member, limit) \
    if (strcmp(text, #member) == 0 && value != NULL) { \
        take_list(request->member, &request->member##_count, (limit), value); \
        return; \
    }
#include "request.def"
#undef REQUEST_FLAG
#undef REQUEST_NUMBER
#undef REQUEST_TEXT
#undef REQUEST_LIST
    give_up("no such member of a request", text);
}

static void take_mode(const char *mode)
{
    bool root = strcmp(mode, "root") == 0;

    world.setuid = strcmp(mode, "setuid") == 0;
    world.caller.uid = root ? 0 : 1000;
    world.caller.gid = root ? 0 : 1000;
    world.host.machines_namespace = root || world.setuid;
}

static void take_image(struct image *image, struct image_facts *facts, char *text)
{
    static const char *const formats[] = {[FORMAT_DIRECTORY] = "directory", [FORMAT_SQUASHFS] = "squashfs", [FORMAT_EXT] = "ext",
                                          [FORMAT_SIF] = "sif", [FORMAT_EROFS] = "erofs"};
    char *word = strtok(text, " ");

    *image = (struct image){.fd = -1, .owner = 1000, .group = 1000};
    *facts = (struct image_facts){.owner_listed = true, .group_listed = true, .place_listed = true};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(word, formats[i]) == 0)
            image->format = (enum image_format)i;
    image->root.filesystem = image->format == FORMAT_DIRECTORY ? FILESYSTEM_DIRECTORY
                             : image->format == FORMAT_EXT     ? FILESYSTEM_EXT
                             : image->format == FORMAT_EROFS   ? FILESYSTEM_EROFS
                                                               : FILESYSTEM_SQUASHFS;
    image->root.offset = image->format == FORMAT_SIF ? 4096 : 0;
    while ((word = strtok(NULL, " ")) != NULL) {
        facts->served |= strcmp(word, "served") == 0;
        if (strcmp(word, "damaged") == 0)
            image->root.no_kernel = "a kind that the kernel does not know";
        if (strcmp(word, "overlay") == 0)
            image->overlays[image->overlay_count++] = (struct partition){.filesystem = FILESYSTEM_EXT, .offset = 8192};
        if (strcmp(word, "foreign") == 0) {
            world.host.runs = false;
            snprintf(image->architecture, sizeof image->architecture, "s390x");
        }
    }
}

/* PATH WORD */
static void take_entry(struct entry *entries, uint32_t *count, char *text)
{
    static const struct {
        const char *name;
        int number;
    } errors[] = {{"ENOENT", ENOENT}, {"EACCES", EACCES}, {"EPERM", EPERM}, {"EMFILE", EMFILE}, {"missing", ENOENT}};
    char *word = strrchr(text, ' ');

    if (word == NULL || *count == ENTRIES)
        give_up("no entry", text);
    *word++ = '\0';
    struct entry entry = {.path = text, .type = strcmp(word, "file") == 0 ? S_IFREG : S_IFDIR, .number = USUAL_ENTRIES};
    if (*word >= '0' && *word <= '9')
        entry.number = atoi(word);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (strcmp(word, errors[i].name) == 0)
            entry = (struct entry){.path = text, .number = errors[i].number};
    entries[(*count)++] = entry;
}

/* NAME LINE */
static void take_line_of_list(char *text)
{
    char *line = strchr(text, ' ');
    uint64_t option = strncmp(text, "nv", 2) == 0 ? LIBRARY_NV : strncmp(text, "rocm", 4) == 0 ? LIBRARY_ROCM : LIBRARY_FABRIC;

    if (line == NULL)
        give_up("no line of a list", text);
    strcat(strcat(world.host.lists[option].text, line + 1), "\n");
}

static void take_limit(const char *what)
{
    world.host.image.owner_listed &= strcmp(what, "owner") != 0;
    world.host.image.group_listed &= strcmp(what, "group") != 0;
    world.host.image.place_listed &= strcmp(what, "place") != 0;
}

static void take_line(char *line)
{
    char *value = strstr(line, ": ");

    if (value == NULL)
        give_up("no KEY: VALUE", line);
    *value = '\0';
    value += 2;
    if (strcmp(line, "mode") == 0)
        take_mode(value);
    else if (strcmp(line, "image") == 0)
        take_image(&world.images.image, &world.host.image, value);
    else if (strcmp(line, "overlay") == 0 && world.overlay_count < IMAGES_OVERLAYS) {
        take_image(&world.images.overlays[world.overlay_count], &world.host.overlays[world.overlay_count], value);
        world.overlay_count++;
    } else if (strcmp(line, "request") == 0)
        take_request(value);
    else if (strcmp(line, "config") == 0)
        strcat(strcat(world.config_text, value), "\n");
    else if (strcmp(line, "home") == 0)
        world.host.home = value;
    else if (strcmp(line, "mount") == 0 && world.mount_count < ENTRIES)
        world.mounts[world.mount_count++] = value;
    else if (strcmp(line, "list") == 0)
        take_line_of_list(value);
    else if (strcmp(line, "limit") == 0)
        take_limit(value);
    else if (strcmp(line, "source") == 0)
        take_entry(world.sources, &world.source_count, value);
    else if (strcmp(line, "inside") == 0)
        take_entry(world.inside, &world.inside_count, value);
    else
        give_up("no such key", line);
}

/* ---- facts, as facts/ would find them in that world ---- */

static const struct entry *entry_at(const struct entry *entries, uint32_t count, const char *path)
{
    while (count-- > 0) /* the last word on a path counts */
        if (strcmp(entries[count].path, path) == 0)
            return &entries[count];
    return NULL;
}

static void find_source(struct step *step)
{
    static const char *const files[] = {"/etc/hosts", "/etc/localtime", "/etc/resolv.conf"};
    const struct entry *entry = entry_at(world.sources, world.source_count, step->source);

    step->facts.source_type = strncmp(step->source, "/dev/", 5) == 0 ? S_IFCHR : S_IFDIR;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strcmp(step->source, files[i]) == 0)
            step->facts.source_type = S_IFREG;
    if (entry != NULL)
        step->facts.source_type = entry->type;
    if (entry != NULL && entry->type == 0)
        step->facts.source_error = entry->number;
}

static const struct entry *inside_at(const char *path)
{
    static const struct entry usual[] = {
        {"/", S_IFDIR, USUAL_ENTRIES}, {"/dev", S_IFDIR, 0}, {"/proc", S_IFDIR, 0}, {"/sys", S_IFDIR, 0}, {"/tmp", S_IFDIR, 0},
        {"/var", S_IFDIR, 8}, {"/var/tmp", S_IFDIR, 0}, {"/etc", S_IFDIR, 40}, {"/usr", S_IFDIR, 8}, {"/home", S_IFDIR, 0},
        {"/etc/passwd", S_IFREG, 0}, {"/etc/group", S_IFREG, 0}, {"/etc/hosts", S_IFREG, 0}, {"/etc/localtime", S_IFREG, 0},
        {"/etc/resolv.conf", S_IFREG, 0}, {"/opt", S_IFDIR, 2}, {"/root", S_IFDIR, 0}, {"/.singularity.d", S_IFDIR, 3},
    };
    const struct entry *entry = entry_at(world.inside, world.inside_count, path);

    return entry != NULL ? entry : entry_at(usual, sizeof usual / sizeof *usual, path);
}

static void find_target(struct plan *plan, uint32_t number)
{
    struct step *step = &plan->steps[number];
    char parent[PATH_MAX];

    if (*step->target == '\0' || step->kind == STEP_LINK || (step->kind == STEP_BIND && step->facts.source_type == 0))
        return;
    step->facts.covered = step_covered(plan, number);
    const struct entry *entry = inside_at(step->target);
    if (step->facts.covered)
        return;
    step->facts.target_found = entry != NULL && entry->type != 0;
    step->facts.target_type = entry != NULL ? entry->type : 0;
    if (step->facts.target_found && (step->flags & (STEP_PASSWD | STEP_GROUP)))
        step->facts.source_fd = STDIN_FILENO;
    if (step->facts.target_found || (step->flags & STEP_ONLY_IF_FILE))
        return;
    snprintf(parent, sizeof parent, "%s", step->target);
    do {
        char *slash = strrchr(parent, '/');
        slash[slash == parent ? 1 : 0] = '\0';
        entry = inside_at(parent);
    } while (entry == NULL || entry->type == 0);
    step->facts.parent = plan_text(plan, "%s", parent);
    step->facts.rest = step->target + strlen(parent) + (strcmp(parent, "/") == 0 ? 0 : 1);
    step->facts.parent_entries = (uint32_t)entry->number;
}

static void find_all(struct plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].kind == STEP_BIND)
            find_source(&plan->steps[i]);
    for (uint32_t i = 0; i < plan->step_count; i++)
        find_target(plan, i);
}

/* ---- a plan as text ---- */

static void begin(void)
{
    memset(&world.request, 0, offsetof(struct request, text_store)); /* the stores of text are large, and need no clearing */
    memset(&world.config, 0, offsetof(struct config, text_store));
    memset(&world.host, 0, offsetof(struct host_facts, lists));
    memset(&world.plan, 0, offsetof(struct plan, text));
    for (size_t i = 0; i <= LIBRARY_FABRIC; i++)
        world.host.lists[i].text[0] = '\0';
    world.source_count = world.inside_count = world.mount_count = world.overlay_count = 0;
    world.config_text[0] = '\0';
    world.host.architecture = "amd64";
    world.host.runs = true;
    world.request.image = "/image";
    take_mode("setuid");
    take_image(&world.images.image, &world.host.image, (char[]){"squashfs"});
}

/* What is printed of it, or the error that ends it. */
static void plan_all(FILE *file)
{
    struct plan *plan = &world.plan;
    const struct plan_inputs inputs = {.request = &world.request, .config = &world.config, .image = &world.images.image,
                                       .overlays = world.images.overlays, .caller = &world.caller, .host = &world.host,
                                       .setuid = world.setuid};
    struct error error = {0};

    world.host.mounts = world.mount_count > 0 ? world.mounts : NULL;
    OWNED_FD fd = memfd_create("config", MFD_CLOEXEC);
    CHECK(fd >= 0 && pwrite(fd, world.config_text, strlen(world.config_text), 0) >= 0, "a file of the test's");
    bool planned = config_take(fd, "singularity.conf", true, &world.config, &error) &&
                   plan_mode(plan, &inputs, &error) && plan_steps(plan, &inputs, &error);
    if (planned)
        find_all(plan);
    if (planned && plan_layers(plan, &inputs, &error))
        plan_print(plan, &inputs, world.request.dry_run == DRY_RUN_JSON, file);
    else
        fprintf(file, "FATAL: %s\n", error.text);
}

/* With what is said meanwhile before it. The head is used up. */
static char *planned(char *head)
{
    static char text[TEXT];
    int messages = memfd_create("messages", MFD_CLOEXEC), kept = dup(STDERR_FILENO);
    char *plan = NULL, *next;
    size_t size = 0;
    FILE *file = open_memstream(&plan, &size);

    begin();
    for (char *line = head; line != NULL && *line != '\0'; line = next) {
        if ((next = strchr(line, '\n')) != NULL)
            *next++ = '\0';
        take_line(line);
    }
    if (file == NULL || messages < 0 || kept < 0 || dup2(messages, STDERR_FILENO) < 0)
        give_up("messages", strerror(errno));
    plan_all(file);
    (void)dup2(kept, STDERR_FILENO);
    fclose(file);
    ssize_t said = pread(messages, text, sizeof text - 1, 0);
    snprintf(text + (said > 0 ? said : 0), sizeof text - (size_t)(said > 0 ? said : 0), "%s", plan);
    free(plan);
    close(messages);
    close(kept);
    return text;
}

/* ---- files of cases ---- */

static size_t split(char *text, const char *lines[LINES])
{
    size_t count = 0;

    for (char *line = strtok(text, "\n"); line != NULL && count < LINES; line = strtok(NULL, "\n"))
        lines[count++] = line;
    return count;
}

/* Lines that go and lines that come, in order, after the longest common part. */
static void differences(const char *before, const char *after, FILE *file)
{
    static char one[TEXT], other[TEXT];
    static const char *a[LINES], *b[LINES];
    static size_t common[LINES + 1][LINES + 1];

    copy(one, before, "");
    copy(other, after, "");
    size_t an = split(one, a), bn = split(other, b), i = 0, j = 0;
    memset(common, 0, sizeof common);
    for (size_t x = an; x-- > 0;)
        for (size_t y = bn; y-- > 0;)
            common[x][y] = strcmp(a[x], b[y]) == 0              ? common[x + 1][y + 1] + 1
                           : common[x + 1][y] > common[x][y + 1] ? common[x + 1][y]
                                                                 : common[x][y + 1];
    while (i < an || j < bn) {
        if (i < an && j < bn && strcmp(a[i], b[j]) == 0)
            i++, j++;
        else if (j == bn || (i < an && common[i + 1][j] >= common[i][j + 1]))
            fprintf(file, "- %s\n", a[i++]);
        else
            fprintf(file, "+ %s\n", b[j++]);
    }
}

/* One launch: `base` is the head of the file's first, NULL for that itself; writes what its part of the file should be. */
static void run_case(const char *name, const char *head, const char *base, const char *expected, FILE *file)
{
    static char lines[TEXT], plan[TEXT];
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    copy(lines, base != NULL ? base : head, "");
    copy(plan, planned(lines), "");
    if (base == NULL)
        fputs(plan, stream);
    else {
        copy(lines, base, head);
        const char *other = planned(lines);
        if (strstr(other, "FATAL: ") != NULL) /* there is no plan to compare */
            fputs(other, stream);
        else
            differences(plan, other, stream);
    }
    fclose(stream);
    CHECK(strcmp(text, expected) == 0, "%s", name);
    if (strcmp(text, expected) != 0)
        differences(expected, text, stdout);
    fprintf(file, "%s\n%s", head, text);
    free(text);
}

/* All of a file; each part is a head, an empty line, and what is expected up to the next "== " line or the end. */
static void run_file(const char *path, const char *name)
{
    static char text[4 * TEXT], base[TEXT], label[NAME_MAX + TEXT];
    char *updated = NULL, *next;
    size_t size = 0;
    FILE *file = fopen(path, "re"), *out = open_memstream(&updated, &size);
    size_t length = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;

    text[length] = '\0';
    for (char *part = text; part != NULL; part = next) {
        char *title = part == text ? NULL : part, *head = part;
        if ((next = strstr(part, "\n== ")) != NULL) {
            *next = '\0';
            next += strlen("\n== ");
        }
        if (title != NULL) {
            head = strchr(part, '\n');
            if (head == NULL)
                give_up("a title alone", part);
            *head++ = '\0';
            fprintf(out, "\n== %s\n", title);
        }
        char *plan = strstr(head, "\n\n");
        if (plan == NULL)
            give_up(path, "no empty line behind a head");
        plan[1] = '\0';
        snprintf(label, sizeof label, "%s%s%.200s", name, title != NULL ? ": " : "", title != NULL ? title : "");
        run_case(label, head, title != NULL ? base : NULL, plan + 2, out);
        if (title == NULL)
            copy(base, head, "");
    }
    fclose(file);
    fclose(out);
    if (getenv("UPDATE_PLANS") != NULL && (file = fopen(path, "we")) != NULL) {
        fputs(updated, file);
        fclose(file);
    }
    free(updated);
}

static int is_case(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return length > 4 && strcmp(entry->d_name + length - 4, ".txt") == 0;
}

/* The checkout's own, found from where this program lies. */
int main(void)
{
    char directory[PATH_MAX], path[2 * PATH_MAX];
    struct dirent **entries;
    ssize_t length = readlink("/proc/self/exe", directory, sizeof directory - 64);

    directory[length > 0 ? length : 0] = '\0';
    do {
        char *slash = strrchr(directory, '/');
        if (slash == NULL)
            give_up("no directory tests/launcher/plans above", "this program");
        *slash = '\0';
        snprintf(path, sizeof path, "%s/tests/launcher/plans", directory);
    } while (access(path, R_OK) != 0);
    message_begin(LEVEL_INFO, false);
    int count = scandir(path, &entries, is_case, alphasort);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/tests/launcher/plans/%s", directory, entries[i]->d_name);
        run_file(path, entries[i]->d_name);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return checks_end();
}
