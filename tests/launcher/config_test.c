/* The configuration file: every key, every refusal, bounds. */
#include "config.h"
#include "descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static struct config config;
static struct error error;
static char long_text[2 * CONFIG_SIZE_LIMIT];

static bool parse_named(const char *name, const char *text, size_t size, bool enforced)
{
    OWNED_FD fd = memfd_create("config", MFD_CLOEXEC);

    memset(&error, 0, sizeof error);
    memset(&config, 0, offsetof(struct config, text_store));
    CHECK(fd >= 0 && pwrite(fd, text, size, 0) == (ssize_t)size, "a file of the test's");
    return config_take(fd, name, enforced, &config, &error);
}

static bool parse(const char *text, bool enforced)
{
    return parse_named("x.conf", text, strlen(text), enforced);
}

static bool says(const char *words)
{
    return strstr(error.text, words) != NULL;
}

/* ---- what is written to standard error ---- */

static int heard_fd = -1, heard_before = -1;

static void hear(int level)
{
    heard_fd = memfd_create("stderr", MFD_CLOEXEC);
    heard_before = dup(STDERR_FILENO);
    dup2(heard_fd, STDERR_FILENO);
    message_begin(level, false);
}

static const char *heard(void)
{
    static char text[1 << 16];
    ssize_t size = pread(heard_fd, text, sizeof text - 1, 0);

    text[size > 0 ? size : 0] = '\0';
    message_begin(LEVEL_INFO, false);
    dup2(heard_before, STDERR_FILENO);
    close(heard_before);
    close(heard_fd);
    return text;
}

/* ---- text ---- */

static void test_defaults(void)
{
    CHECK(parse("", true), "an empty file is accepted");
    CHECK(config.allow_setuid && config.mount_proc && !config.mount_hostfs && !config.setuid_extfs,
          "booleans have their defaults");
    CHECK(config.enable_overlay == CHOICE_TRY && config.setuid_squashfs == CHOICE_YES && config.mount_dev == CHOICE_YES,
          "choices have their defaults");
    CHECK(config.sessiondir_max_size == 0 && config.max_loop_devices == 256, "numbers have their defaults");
    CHECK(strcmp(config.container_dir, CONTAINER_DIR) == 0 && strcmp(config.sessiondir_prefix, "") == 0,
          "paths have their defaults");
    CHECK(config.bind_path_count == 0 && config.limit_container_paths_count == 0, "a missing list key means none");
}

static void test_booleans(void)
{
    static const struct {
        const char *text;
        bool value;
    } words[] = {{"yes", true}, {"y", true},  {"1", true},  {"YES", true}, {"Y", true},
                 {"no", false}, {"n", false}, {"0", false}, {"No", false}, {"N", false}};
    char text[64];

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        snprintf(text, sizeof text, "mount hostfs = %s\nmount proc = %s\n", words[i].text, words[i].text);
        CHECK(parse(text, true) && config.mount_hostfs == words[i].value && config.mount_proc == words[i].value,
              "the boolean %s is %s", words[i].text, words[i].value ? "yes" : "no");
    }
}

static void test_choices(void)
{
    CHECK(parse("mount dev = minimal\n", true) && config.mount_dev == CHOICE_MINIMAL, "a choice by its word");
    CHECK(parse("mount dev = Minimal\n", true) && config.mount_dev == CHOICE_MINIMAL, "in either case");
    CHECK(parse("enable overlay = 1\n", true) && config.enable_overlay == CHOICE_YES, "1 is yes where yes is a choice");
    CHECK(parse("enable overlay = n\n", true) && config.enable_overlay == CHOICE_NO, "n is no where no is a choice");
    CHECK(parse("allow setuid-mount squashfs = iflimited", true) && config.setuid_squashfs == CHOICE_IFLIMITED,
          "the last line needs no newline");
    CHECK(!parse("root default capabilities = y\n", true), "y is no choice where yes is none");
}

static void test_layout(void)
{
    CHECK(parse("#comment\n\n \t\n  # comment = x\n\tmount proc=no\n", true) && !config.mount_proc,
          "comments, empty lines, indentation and a missing blank are fine");
    CHECK(parse("mount   proc\t =  no \t \r\n", true) && !config.mount_proc, "repeated and trailing blanks are fine");
    CHECK(parse("mount\tproc = no\n", true) && !config.mount_proc, "a tab is a blank");
    CHECK(parse("container dir = /a=b\n", true) && strcmp(config.container_dir, "/a=b") == 0,
          "a value may hold an equals sign");
    CHECK(parse("container dir = /a  b\n", true) && strcmp(config.container_dir, "/a  b") == 0,
          "blanks inside a path stay as they are");
    CHECK(parse("sessiondir prefix = /tmp/.s-\n", true) && strcmp(config.sessiondir_prefix, "/tmp/.s-") == 0,
          "a prefix written as its comment suggests");
    CHECK(parse("max loop devices = 1048576\n", true) && config.max_loop_devices == 1048576, "a number at its limit");
    CHECK(parse("max loop devices = 0\n", true) && config.max_loop_devices == 0, "the number 0");
}

static void test_lists(void)
{
    CHECK(parse("bind path = /a\n# /x\nbind path = /b : /c, /d\nlimit container owners = root, 1000\n", true) &&
          config.bind_path_count == 3 && config.limit_container_owners_count == 2, "lines and commas add up");
    CHECK(strcmp(config.bind_path[0].text, "/a") == 0 && config.bind_path[0].line == 1 &&
          strcmp(config.bind_path[1].text, "/b:/c") == 0 && config.bind_path[1].line == 3 &&
          strcmp(config.bind_path[2].text, "/d") == 0 && config.bind_path[2].line == 3,
          "entries keep order and line, and lose the blanks around colons");
    CHECK(strcmp(config.limit_container_owners[1].text, "1000") == 0, "entries lose the blanks around commas");
    CHECK(parse("bind path = /a  b :\t /c  d:ro\n", true) && strcmp(config.bind_path[0].text, "/a  b:/c  d:ro") == 0,
          "blanks inside a path of an entry stay");
    CHECK(parse("bind path = /a\nbind path = /a\n", true) && config.bind_path_count == 2, "a list may repeat itself");
}

static void test_list_limit(void)
{
    size_t used = 0;

    for (int i = 0; i < 64; i++)
        used += (size_t)snprintf(long_text + used, sizeof long_text - used, "limit container groups = g%d\n", i);
    CHECK(parse(long_text, true) && config.limit_container_groups_count == 64, "a list of 64 where 64 fit");
    snprintf(long_text + used, sizeof long_text - used, "limit container groups = g64\n");
    CHECK(!parse(long_text, true) && says("x.conf:65: limit container groups: more than 64 entries"), "and not one more");
}

static void test_malformed(void)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"allow setuid\n", "x.conf:1: \"allow setuid\" is not \"key = value\""},
        {"\n\nallow setuid: no\n", "x.conf:3: \"allow setuid: no\" is not \"key = value\""},
        {"allow setuid = maybe\n", "x.conf:1: allow setuid: \"maybe\" is not \"yes\" or \"no\""},
        {"allow setuid = yes no\n", "\"yes no\" is not"},
        {"allow setuid = ye\n", "\"ye\" is not"},
        {"allow setuid = yess\n", "\"yess\" is not"},
        {"allow setuid = no # for now\n", "\"no # for now\" is not"},
        {"allow setuid =\n", "x.conf:1: allow setuid has no value"},
        {"limit container owners = \n", "limit container owners has no value"},
        {"enable overlay = perhaps\n", "\"perhaps\" is not one of \"no\", \"yes\", \"try\""},
        {"max loop devices = 1048577\n", "is not a number from 0 to 1048576"},
        {"max loop devices = 18446744073709551617\n", "is not a number"},
        {"max loop devices = -1\n", "is not a number"},
        {"max loop devices = +1\n", "is not a number"},
        {"max loop devices = 0x10\n", "is not a number"},
        {"max loop devices = 1 0\n", "is not a number"},
        {"container dir = mnt\n", "container dir: \"mnt\" is not an absolute path"},
        {"bind path = /a, b\n", "bind path: \"b\" is not an absolute path"},
        {"limit container paths = scratch\n", "limit container paths: \"scratch\" is not an absolute path"},
        {"bind path = /a,, /b\n", "bind path: \"\" is not"},
        {"limit container owners = root,\n", "limit container owners: \"\" is not a list without gaps"},
        {"mount proc = yes\nmount sys = no\nmount proc = no\n", "x.conf:3: mount proc has another value in line 1"},
        {"container dir = /a\ncontainer dir = /b\n", "x.conf:2: container dir has another value in line 1"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int enforced = 0; enforced < 2; enforced++)
            CHECK(!parse(cases[i].text, enforced) && says(cases[i].words), "R-C2 refused%s: %s",
                  enforced ? ", enforced" : "", cases[i].words);
    CHECK(parse("mount proc = no\nmount proc = N\n", true) && !config.mount_proc, "the same value twice is one value");
}

static void test_bytes(void)
{
    CHECK(!parse_named("x.conf", "mount proc = no\nmount\0sys = no\n", 31, true) &&
          says("x.conf:2: a NUL byte"), "R-C2 a NUL byte is refused");
    memset(long_text, 0, sizeof long_text);
    memset(long_text, '#', CONFIG_LINE_LIMIT);
    CHECK(parse(long_text, true), "a line of 4096 bytes is read");
    memset(long_text, '#', CONFIG_LINE_LIMIT + 1);
    CHECK(!parse(long_text, true) && says("x.conf:1: longer than 4096 bytes"), "R-C2 a line of 4097 bytes is refused");
    memset(long_text, '\n', CONFIG_SIZE_LIMIT);
    long_text[CONFIG_SIZE_LIMIT] = '\0';
    CHECK(parse(long_text, true), "a file of 1 MiB is read");
    long_text[CONFIG_SIZE_LIMIT] = '\n';
    CHECK(!parse(long_text, true) && says("File too large"), "R-C1 a file of more than 1 MiB is refused");
    memset(long_text, 'n', PATH_MAX);
    long_text[PATH_MAX] = '\0';
    CHECK(!parse_named(long_text, "", 0, true) && error.number == ENAMETOOLONG,
          "a name longer than a path can be is refused");
}

static void test_unknown_keys(void)
{
    CHECK(!parse("\nallow setiud = no\n", true) && says("x.conf:2: unknown key \"allow setiud\" (did you mean \"allow setuid\"?)"),
          "R-C2 enforced, an unknown key is refused with the nearest one");
    CHECK(!parse("Allow Setuid = no\n", true) && says("did you mean \"allow setuid\"?"), "keys are lower case");
    CHECK(!parse("image drivr = x\n", true) && says("did you mean \"image driver\"?"), "foreign keys are known ones");
    CHECK(!parse("quite something else = 1\n", true) && says("unknown key \"quite something else\"") && !says("did you mean"),
          "nothing is suggested when nothing is near");
    CHECK(!parse("= yes\n", true) && says("unknown key \"\""), "an empty key is unknown");
    memset(long_text, 'k', 4000);
    memcpy(long_text + 4000, " = 1\n", sizeof " = 1\n");
    CHECK(!parse(long_text, true) && says("unknown key \"kkkk"), "a key of 4000 letters is unknown");
    hear(LEVEL_INFO);
    bool accepted = parse("allow setiud = no\nmount proc = no\n", false);
    const char *text = heard();
    CHECK(accepted && !config.mount_proc, "not enforced, an unknown key is passed over and the rest counts");
    CHECK(strcmp(text, "WARNING: x.conf:1: unknown key \"allow setiud\" (did you mean \"allow setuid\"?)\n") == 0,
          "with a warning that names file, line and nearest key");
}

static void test_messages(void)
{
    static const char text[] = "mount proc = n\nbind path = /a,/b\nimage driver =\n";

    hear(LEVEL_INFO);
    bool accepted = parse(text, true);
    CHECK(accepted && strcmp(heard(), "") == 0, "a good file is read without a word");
    hear(LEVEL_VERBOSE);
    accepted = parse(text, true);
    CHECK(accepted && strcmp(heard(), "VERBOSE: x.conf:3: \"image driver\" has no meaning here\n") == 0,
          "a key of the family that has no meaning here is a line at -v");
    hear(LEVEL_DEBUG);
    accepted = parse(text, true);
    const char *said = heard();
    CHECK(accepted && strstr(said, ": config mount proc = no (line 1)\n") != NULL &&
          strstr(said, ": config bind path = /a (line 2)\n") != NULL &&
          strstr(said, ": config bind path = /b (line 2)\n") != NULL, "at -d each value is a line with its origin");
    CHECK(strstr(said, ": config mount sys = yes (default)\n") != NULL &&
          strstr(said, ": config sessiondir max size = 0 (default)\n") != NULL &&
          strstr(said, ": config container dir = " CONTAINER_DIR " (default)\n") != NULL, "defaults are lines too");
}

/* ---- files ---- */

static void file_make(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, mode) < 0)
        perror(path);
    if (fd >= 0)
        close(fd);
}

static bool load(const char *path, bool enforced)
{
    memset(&error, 0, sizeof error);
    memset(&config, 0, offsetof(struct config, text_store));
    return config_read(path, enforced, &config, &error);
}

static void test_files(const char *directory)
{
    if (chdir(directory) < 0)
        perror(directory);
    CHECK(load("missing.conf", false) && config.mount_proc, "not enforced, a missing file means the defaults");
    CHECK(load("missing/missing.conf", false), "and so does a missing directory");
    file_make("loose.conf", "mount proc = no\n", 0666);
    CHECK(load("loose.conf", false) && !config.mount_proc && strcmp(config.path, "loose.conf") == 0,
          "not enforced, who may write to the file does not matter");
    if (symlink("loose.conf", "link.conf") < 0 || mkfifo("pipe.conf", 0600) < 0)
        perror("link.conf, pipe.conf");
    CHECK(load("link.conf", false) && !config.mount_proc, "not enforced, links are followed");
    CHECK(!load("pipe.conf", false) && says("not a regular file"), "a pipe is refused without waiting");
    CHECK(load("loose.conf/x", false) && config.mount_proc, "a file instead of a directory is a missing file");
    CHECK(!load(".", false) && says("not a regular file"), "a directory is refused");
    file_make("bad.conf", "mount proc\n", 0644);
    CHECK(!load("bad.conf", false) && says("bad.conf:1:"), "not enforced, a malformed line is an error all the same");
    CHECK(!load("loose.conf", true) && error.text[0] != '\0', "R-C1 enforced, a relative path is refused");
}

static void enforced_case(bool accepted, const char *path, const char *words, const char *what)
{
    CHECK(load(path, true) == accepted && says(words), "R-C1 enforced, %s: %s", what, accepted ? "read" : words);
}

static void test_enforced_file(void)
{
    enforced_case(false, "/tmp/etc/missing.conf", "No such file", "a missing file");
    file_make("/tmp/etc/a.conf", "mount proc = no\n", 0644);
    enforced_case(true, "/tmp/etc/a.conf", "", "root's own file");
    CHECK(!config.mount_proc, "its values count");
    enforced_case(true, "//tmp///etc/a.conf", "", "slashes too many");
    enforced_case(false, "tmp/etc/a.conf", "Invalid argument", "a path that is not absolute");
    CHECK(chmod("/tmp/etc/a.conf", 0664) == 0, "made writable for the group");
    enforced_case(false, "/tmp/etc/a.conf", "/tmp/etc/a.conf: writable by others", "a file that the group may write");
    CHECK(chmod("/tmp/etc/a.conf", 0646) == 0, "made writable for others");
    enforced_case(false, "/tmp/etc/a.conf", "/tmp/etc/a.conf: writable by others", "a file that others may write");
    CHECK(chmod("/tmp/etc/a.conf", 0644) == 0 && chown("/tmp/etc/a.conf", 65534, 0) == 0, "given to another user");
    enforced_case(false, "/tmp/etc/a.conf", "belongs to uid 65534", "another user's file");
    CHECK(chown("/tmp/etc/a.conf", 0, 0) == 0 && link("/tmp/etc/a.conf", "/tmp/etc/b.conf") == 0, "linked twice");
    enforced_case(false, "/tmp/etc/a.conf", "second hard link", "a file with two names");
    CHECK(unlink("/tmp/etc/b.conf") == 0 && symlink("a.conf", "/tmp/etc/link.conf") == 0, "reached by a link");
    enforced_case(false, "/tmp/etc/link.conf", "follows no symbolic link", "a symbolic link");
    CHECK(mkfifo("/tmp/etc/pipe.conf", 0644) == 0, "a pipe made");
    enforced_case(false, "/tmp/etc/pipe.conf", "not a regular file", "a pipe, without waiting");
    enforced_case(false, "/tmp/etc/", "", "a directory");
    memset(long_text, '\n', CONFIG_SIZE_LIMIT + 1);
    long_text[CONFIG_SIZE_LIMIT + 1] = '\0';
    file_make("/tmp/etc/large.conf", long_text, 0644);
    enforced_case(false, "/tmp/etc/large.conf", "File too large", "a file of 1 MiB and a byte");
    CHECK(truncate("/tmp/etc/large.conf", CONFIG_SIZE_LIMIT) == 0, "cut to 1 MiB");
    enforced_case(true, "/tmp/etc/large.conf", "", "a file of 1 MiB");
    file_make("/tmp/etc/unknown.conf", "allow setiud = no\n", 0644);
    enforced_case(false, "/tmp/etc/unknown.conf", "/tmp/etc/unknown.conf:1: unknown key", "a misspelt policy");
}

static void test_enforced_directories(void)
{
    memcpy(long_text, "/tmp/", 5);
    memset(long_text + 5, 'd', NAME_MAX + 1);
    memcpy(long_text + 5 + NAME_MAX + 1, "/a.conf", sizeof "/a.conf");
    enforced_case(false, long_text, "", "a directory name that is too long");
    CHECK(chmod("/tmp/etc", 0775) == 0, "the directory made writable for the group");
    enforced_case(false, "/tmp/etc/a.conf", "/tmp/etc: writable by others", "a directory that the group may write");
    CHECK(chmod("/tmp/etc", 0755) == 0 && chmod("/tmp", 01777) == 0, "the directory above made writable and sticky");
    enforced_case(false, "/tmp/etc/a.conf", "/tmp: writable by others", "a sticky directory above");
    CHECK(chmod("/tmp", 0755) == 0 && chown("/tmp/etc", 65534, 0) == 0, "the directory given to another user");
    enforced_case(false, "/tmp/etc/a.conf", "/tmp/etc: belongs to uid 65534", "another user's directory");
    CHECK(chown("/tmp/etc", 0, 0) == 0 && symlink("etc", "/tmp/other") == 0, "a link to the directory");
    enforced_case(false, "/tmp/other/a.conf", "/tmp/other (SUID mode follows no symbolic link here)", "a link on the way");
    enforced_case(false, "/tmp/missing/a.conf", "/tmp/missing: No such file", "a missing directory");
    enforced_case(true, "/tmp/etc/a.conf", "", "with all that undone");
}

/* A file system of our own over /tmp, seen by this process alone: root's directories all the way down. */
static bool own_tmp(void)
{
    return geteuid() == 0 && unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") == 0 && mkdir("/tmp/etc", 0755) == 0;
}

int main(void)
{
    char directory[] = "/tmp/config_test.XXXXXX";

    umask(022);
    alarm(60);
    test_defaults();
    test_booleans();
    test_choices();
    test_layout();
    test_lists();
    test_list_limit();
    test_malformed();
    test_bytes();
    test_unknown_keys();
    test_messages();
    bool alone = own_tmp();
    CHECK(mkdtemp(directory) != NULL, "a directory to work in");
    test_files(directory);
    if (alone) {
        test_enforced_file();
        test_enforced_directories();
        return checks_end();
    }
    CHECK(true, "R-C1 ownership of the file # SKIP not root, or no mount namespace");
    static const char *const made[] = {"loose.conf", "link.conf", "pipe.conf", "bad.conf"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        unlink(made[i]);
    return rmdir(directory) == 0 ? checks_end() : 1;
}
