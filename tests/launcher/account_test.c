/* Account and group names from files, and from getent for what the files lack. */
#include "front/front.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static struct request *request;
static struct text_store store;
static char directory[] = "/tmp/account_test.XXXXXX";
static char passwd[64], group[64], nsswitch[64], getent[64], asked[64];

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
}

static void look(uid_t uid, const gid_t *gids, uint32_t count)
{
    const struct account_sources sources = {.passwd = passwd, .group = group, .nsswitch = nsswitch, .getent = getent};

    memset(request, 0, sizeof *request);
    store = (struct text_store){request->text_store, sizeof request->text_store};
    unlink(asked);
    account_read(&sources, uid, gids, count, request, &store);
}

static bool same(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

static const char *groups(void)
{
    static char text[512];
    size_t used = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < request->group_count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s=%llu", i > 0 ? " " : "", request->group[i].first,
                                 (unsigned long long)request->group[i].number);
    return text;
}

static const char *what_was_asked(void)
{
    static char text[256];
    FILE *file = fopen(asked, "r");
    size_t size = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;

    text[size] = '\0';
    if (file != NULL)
        fclose(file);
    return text;
}

static void make_files(void)
{
    static char script[256];

    if (mkdtemp(directory) == NULL)
        abort();
    snprintf(passwd, sizeof passwd, "%s/passwd", directory);
    snprintf(group, sizeof group, "%s/group", directory);
    snprintf(nsswitch, sizeof nsswitch, "%s/nsswitch.conf", directory);
    snprintf(getent, sizeof getent, "%s/getent", directory);
    snprintf(asked, sizeof asked, "%s/asked", directory);
    write_file(passwd, "# comment\n\nbroken:x\nroot:x:0:0:root:/root:/bin/bash\nada:x:1000:100:Ada L.,,,:/home/ada:/bin/zsh\n"
                       "twin:x:1000:100::/home/twin:/bin/sh\nlast:x:1002:1002:::");
    write_file(group, "root:x:0:\nusers:x:100:ada\n+nis\nodd:x:99x:\nwheel:x:10:ada,root\n");
    write_file(nsswitch, "# x\npasswd: files ldap\ngroup:\tfiles [NOTFOUND=continue] sss # y\n");
    snprintf(script, sizeof script,
             "#!/bin/sh\necho \"$@\" >> %s\ncase $1 in\npasswd) echo remote:*:$2:7:Far Away:/net/remote:/bin/csh;;\n"
             "group) shift; for id; do [ $id = 77 ] || echo far$id:*:$id:; done; exit 2;;\nesac\n", asked);
    write_file(getent, script);
    chmod(getent, 0755);
}

static void test_files(void)
{
    const gid_t gids[] = {100, 10, 0};

    look(1000, gids, 3);
    CHECK(same(request->account_name, "ada") && same(request->account_gecos, "Ada L.,,,") &&
              same(request->account_home, "/home/ada") && same(request->account_shell, "/bin/zsh"),
          "the first entry of the uid is taken whole");
    CHECK(same(groups(), "users=100 wheel=10 root=0"), "groups keep the caller's order, not the file's");
    CHECK(same(what_was_asked(), ""), "nothing else is asked when the files know all");
    look(1002, gids, 1);
    CHECK(same(request->account_name, "last") && request->account_home == NULL && same(request->account_shell, ""),
          "a last line without newline counts, and no home is none");
}

static void test_other_sources(void)
{
    const gid_t gids[] = {100, 500, 77, 501};

    look(5000, gids, 4);
    CHECK(same(request->account_name, "remote") && same(request->account_home, "/net/remote"),
          "an account that the file lacks comes from getent");
    CHECK(same(groups(), "users=100 far500=500 far501=501"), "so do groups; one that is known nowhere stays out");
    CHECK(same(what_was_asked(), "passwd 5000\ngroup 500 77 501\n"), "getent runs once for each, with what is missing");
    write_file(nsswitch, "passwd: files\ngroup: files\n");
    look(5000, gids, 4);
    CHECK(request->account_name == NULL && request->account_home == NULL && same(groups(), "users=100") &&
              same(what_was_asked(), ""),
          "where only files are named nothing is asked");
    unlink(nsswitch);
    look(5000, gids, 4);
    CHECK(request->account_name == NULL && same(what_was_asked(), ""), "nor without a nsswitch.conf");
    write_file(nsswitch, "passwd: sss\ngroup: sss\n");
    unlink(getent);
    look(5000, gids, 4);
    CHECK(request->account_name == NULL && same(groups(), "users=100"), "without getent the launch goes on");
}

static void test_size(void)
{
    FILE *file = fopen(group, "w");
    gid_t gids[1500];

    if (file == NULL)
        abort();
    fputs("big:x:300:", file);
    for (int i = 0; i < 30000; i++)
        fprintf(file, "user%d,", i);
    fputs("fake:x:301:\nnext:x:302:\n", file);
    for (unsigned i = 0; i < 1500; i++)
        fprintf(file, "g%u:x:%u:\n", 10000 + i, 10000 + i);
    fclose(file);
    gids[0] = 300;
    gids[1] = 301;
    gids[2] = 302;
    write_file(nsswitch, "");
    look(1000, gids, 3);
    CHECK(same(groups(), "big=300 next=302"), "a line longer than the buffer gives its name, and its tail is no line");
    for (unsigned i = 0; i < 1500; i++)
        gids[i] = 10000 + i;
    look(1000, gids, 1500);
    CHECK(request->group_count == 1024 && request->group[1023].number == 11023, "more groups than fit are cut, in order");
    unlink(passwd);
    unlink(group);
    look(1000, gids, 3);
    CHECK(request->account_name == NULL && request->group_count == 0, "missing files are no failure");
}

int main(void)
{
    request = calloc(1, sizeof *request);
    if (request == NULL)
        return 1;
    message_begin(LEVEL_FATAL, false);
    make_files();
    test_files();
    test_other_sources();
    test_size();
    unlink(asked);
    unlink(nsswitch);
    rmdir(directory);
    free(request);
    return checks_end();
}
