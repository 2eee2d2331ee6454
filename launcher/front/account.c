/* The caller's passwd entry and the names of his groups, from files or from getent, which asks whatever else the site has.
 * Without privilege. */
#include "front.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "../descriptor.h"

const struct account_sources account_sources_usual = {.passwd = "/etc/passwd", .group = "/etc/group",
                                                      .nsswitch = "/etc/nsswitch.conf", .getent = "/usr/bin/getent",
                                                      .subuid = "/etc/subuid", .subgid = "/etc/subgid"};

/* passwd(5) has seven fields; of a group(5) line the first three say enough */
enum { LINE_BUFFER = 16 << 10, PASSWD_FIELDS = 7, GROUP_FIELDS = 3, RANGE_FIELDS = 3, GROUP_LIMIT = 1024 };

/* ---- lines of a file or a pipe ---- */

/* `begin` and `end` are what is read and not yet given; `last`: the file has ended. */
struct lines {
    int fd;
    size_t begin, end;
    bool last;
    bool skipping; /* the rest of a line that was longer than the buffer */
    char buffer[LINE_BUFFER + 1];
};

/* One reader at a time, whose buffer is not cleared: its pages stay untouched beyond what is read. */
static struct lines *lines_begin(int fd)
{
    static struct lines lines;

    lines.fd = fd;
    lines.begin = lines.end = 0;
    lines.last = lines.skipping = false;
    return &lines;
}

/* What is left of a line moves to the front, and as much as there is room for is read behind it. */
static bool lines_fill(struct lines *lines)
{
    size_t left = lines->end - lines->begin;
    size_t room = left < LINE_BUFFER ? LINE_BUFFER - left : 0; /* compilers do not see that more is never left */
    ssize_t size;

    memmove(lines->buffer, lines->buffer + lines->begin, left);
    do
        size = read(lines->fd, lines->buffer + left, room);
    while (size < 0 && errno == EINTR);
    lines->last = size <= 0;
    lines->begin = 0;
    lines->end = left + (size > 0 ? (size_t)size : 0);
    return size > 0;
}

/* What stands in the buffer up to `end` as one line; whether it is only the rest of a long one is left in `rest`. */
static char *lines_cut(struct lines *lines, size_t end, bool whole, bool *rest)
{
    char *start = lines->buffer + lines->begin;

    lines->buffer[end] = '\0';
    lines->begin = end + (end < lines->end);
    *rest = lines->skipping;
    lines->skipping = !whole;
    return start;
}

/* The next line without its newline, or NULL at the end. It lives until the next call. A line longer than the buffer is
 * cut: the members of a large group are of no interest, its name and number come first. */
static char *lines_next(struct lines *lines)
{
    for (;;) {
        char *newline = memchr(lines->buffer + lines->begin, '\n', lines->end - lines->begin);
        bool full = lines->begin == 0 && lines->end == LINE_BUFFER;
        bool rest = false;
        char *line = NULL;
        if (newline != NULL)
            line = lines_cut(lines, (size_t)(newline - lines->buffer), true, &rest);
        else if (lines->last && lines->begin == lines->end)
            return NULL;
        else if (lines->last || full)
            line = lines_cut(lines, lines->end, lines->last, &rest);
        else
            lines_fill(lines);
        if (line != NULL && !rest)
            return line;
    }
}

/* Cuts `line` at its colons; false when there are fewer fields than that. A field more than asked for stays in the
 * last one: some sites add their own. */
static bool split(char *line, char *fields[], int count)
{
    for (int i = 0; i < count; i++) {
        fields[i] = line;
        char *colon = strchr(line, ':');
        if (colon == NULL && i + 1 < count)
            return false;
        if (colon != NULL) {
            *colon = '\0';
            line = colon + 1;
        }
    }
    return true;
}

/* Strict (R-L6): "-1", "+1" or a blank would be read by strtoul(3), and 4294967295 is the kernel's word for "leave as
 * it is" (setreuid(2)). */
static bool id_read(const char *text, uint32_t *id)
{
    uint64_t value = 0;

    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || (value = value * 10 + (uint64_t)(*text - '0')) >= UINT32_MAX)
            return false;
    }
    *id = (uint32_t)value;
    return true;
}

/* ---- what is looked for ---- */

/* `missing` counts the groups without a name: at 0 reading ends, which in a big site's file saves most of it. */
struct search {
    uid_t uid;
    const gid_t *gids;
    uint32_t count;
    uint32_t missing;
    uint32_t range_first, range_size;
    struct request *request;
    struct text_store *store;
};

static const char *keep(struct search *search, const char *text)
{
    return text_copy(search->store, text, strlen(text));
}

/* The first entry of an id counts, as for getpwuid(3). A home that is no absolute path is none. */
static bool passwd_take(struct search *search, char *line)
{
    char *fields[PASSWD_FIELDS];
    struct request *request = search->request;
    uint32_t uid;

    if (!split(line, fields, PASSWD_FIELDS) || !id_read(fields[2], &uid) || uid != search->uid || *fields[0] == '\0')
        return false;
    request->account_name = keep(search, fields[0]);
    request->account_gecos = keep(search, fields[4]);
    request->account_home = *fields[5] == '/' ? keep(search, fields[5]) : NULL;
    request->account_shell = keep(search, fields[6]);
    return true;
}

/* An entry of the list whose `first` is still missing stands for a gid without a name. */
static bool group_take(struct search *search, char *line)
{
    char *fields[GROUP_FIELDS];
    uint32_t gid;

    if (!split(line, fields, GROUP_FIELDS) || !id_read(fields[2], &gid) || *fields[0] == '\0')
        return false;
    for (uint32_t i = 0; i < search->count; i++)
        if (search->gids[i] == gid && search->request->group[i].first == NULL) {
            search->request->group[i] = (struct request_entry){.first = keep(search, fields[0]), .second = "", .number = gid};
            search->missing--;
        }
    return search->missing == 0;
}

static void search_lines(struct search *search, int fd, bool (*take)(struct search *, char *))
{
    struct lines *lines = lines_begin(fd);
    char *line;

    while ((line = lines_next(lines)) != NULL)
        if (take(search, line))
            return;
}

/* Read by hand: getpwuid(3) would load whatever nsswitch.conf names into this process (R-L4), or, in a static
 * program, find nothing that is not in the file either. */
static void search_file(struct search *search, const char *path, bool (*take)(struct search *, char *))
{
    OWNED_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd >= 0)
        search_lines(search, fd, take);
}

/* ---- the other sources ---- */

/* systemd is asked through its sockets: where it does not run there is nobody to answer. */
static bool source_answers(const char *name, size_t length)
{
    if (length == 0 || *name == '[' || (length == 5 && strncmp(name, "files", length) == 0))
        return false;
    return length != 7 || strncmp(name, "systemd", length) != 0 || access("/run/systemd/userdb", F_OK) == 0;
}

/* "[NOTFOUND=return]" and the like are no sources (nsswitch.conf(5)). */
static bool line_names_source(const char *words)
{
    for (words += strspn(words, " \t"); *words != '\0' && *words != '#'; words += strspn(words, " \t")) {
        size_t length = strcspn(words, " \t#");
        if (source_answers(words, length))
            return true;
        words += length;
    }
    return false;
}

/* Whether nsswitch.conf names a source beside the files for this database; without the file there is none. */
static bool other_sources(const char *path, const char *database)
{
    OWNED_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct lines *lines = lines_begin(fd);
    size_t length = strlen(database);
    const char *line;

    while (fd >= 0 && (line = lines_next(lines)) != NULL) {
        line += strspn(line, " \t");
        const char *colon = strncmp(line, database, length) == 0 ? line + length + strspn(line + length, " \t") : "";
        if (*colon == ':')
            return line_names_source(colon + 1);
    }
    return false;
}

/* A child of getent(1), since only glibc's own program knows LDAP, SSSD and what else a site has. Its environment is
 * empty and its path fixed (R-L13): nothing of the caller's decides which code answers. Our end of the pipe is closed
 * before waiting, so that a getent that goes on writing ends by SIGPIPE. */
static void search_getent(struct search *search, const char *program, char *const *arguments,
                          bool (*take)(struct search *, char *))
{
    static char *const nothing[] = {NULL};
    posix_spawn_file_actions_t actions;
    int ends[2];
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    OWNED_FD reading = ends[0];
    OWNED_FD writing = ends[1];
    if (posix_spawn_file_actions_init(&actions) != 0)
        return;
    bool started = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0 &&
                   posix_spawn_file_actions_adddup2(&actions, writing, STDOUT_FILENO) == 0 &&
                   posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
                   posix_spawn(&child, program, &actions, NULL, arguments, nothing) == 0;
    posix_spawn_file_actions_destroy(&actions);
    fd_close(&writing);
    if (!started)
        return;
    search_lines(search, reading, take);
    fd_close(&reading);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
}

static void ask_for_account(struct search *search, const struct account_sources *sources)
{
    static char getent[] = "getent", passwd[] = "passwd";
    char number[16];
    char *const arguments[] = {getent, passwd, number, NULL};

    snprintf(number, sizeof number, "%u", search->uid);
    message_verbose("uid %s is not in %s: asking %s", number, sources->passwd, sources->getent);
    search_getent(search, sources->getent, arguments, passwd_take);
}

/* All in one call: a directory service takes a round trip for each, and users of big sites are in dozens of groups. */
static void ask_for_groups(struct search *search, const struct account_sources *sources)
{
    static char getent[] = "getent", group[] = "group", numbers[GROUP_LIMIT][12];
    static char *arguments[GROUP_LIMIT + 3] = {getent, group};
    uint32_t asked = 0;

    for (uint32_t i = 0; i < search->count; i++)
        if (search->request->group[i].first == NULL) {
            snprintf(numbers[asked], sizeof numbers[asked], "%u", search->gids[i]);
            arguments[2 + asked] = numbers[asked];
            asked++;
        }
    arguments[2 + asked] = NULL;
    message_verbose("%u groups are not in %s: asking %s", asked, sources->group, sources->getent);
    search_getent(search, sources->getent, arguments, group_take);
}

/* Groups without a name leave the list. plan_group() writes a line for each, and one without a name would be none. */
static void close_gaps(struct request *request, uint32_t count)
{
    request->group_count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (request->group[i].first != NULL)
            request->group[request->group_count++] = request->group[i];
}

/* Files first, and others only where something is missing: a service that is down makes every launch wait for its
 * time-out. */
void account_read(const struct account_sources *sources, uid_t uid, const gid_t *gids, uint32_t count,
                  struct request *request, struct text_store *store)
{
    uint32_t used = count < GROUP_LIMIT ? count : GROUP_LIMIT;
    struct search search = {.uid = uid, .gids = gids, .count = used, .missing = used, .request = request, .store = store};

    for (uint32_t i = 0; i < used; i++)
        request->group[i] = (struct request_entry){.first = NULL};
    search_file(&search, sources->passwd, passwd_take);
    if (request->account_name == NULL && other_sources(sources->nsswitch, "passwd"))
        ask_for_account(&search, sources);
    search_file(&search, sources->group, group_take);
    if (search.missing > 0 && other_sources(sources->nsswitch, "group"))
        ask_for_groups(&search, sources);
    close_gaps(request, used);
}

/* ---- subordinate ids ---- */

/* subuid(5): the first line of the user's name or number. */
static bool range_take(struct search *search, char *line)
{
    char *fields[RANGE_FIELDS], number[16];
    const char *name = search->request->account_name;

    snprintf(number, sizeof number, "%u", (unsigned)search->uid);
    if (!split(line, fields, RANGE_FIELDS) || (strcmp(fields[0], number) != 0 && (name == NULL || strcmp(fields[0], name) != 0)))
        return false;
    return id_read(fields[1], &search->range_first) && id_read(fields[2], &search->range_size) && search->range_size > 0;
}

/* The words are those of namespaces/fakeroot.py. */
void account_ranges(const struct account_sources *sources, uid_t uid, struct request *request, struct text_store *store)
{
    struct search uids = {.uid = uid, .request = request}, gids = uids;
    char text[64];

    search_file(&uids, sources->subuid, range_take);
    search_file(&gids, sources->subgid, range_take);
    if (uids.range_size == 0 || gids.range_size == 0) {
        message_verbose("No subordinate ids for user %u (/etc/subuid, /etc/subgid): only your own id is mapped, to root", (unsigned)uid);
        return;
    }
    int length = snprintf(text, sizeof text, "%u %u %u %u", uids.range_first, uids.range_size, gids.range_first, gids.range_size);
    request->id_ranges = text_copy(store, text, (size_t)length);
}
