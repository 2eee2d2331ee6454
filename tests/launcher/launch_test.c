/* From options to the launch request: what each option asks for, and which values are refused. */
#include "front/front.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { TEXT = 4096, WORDS = 64 };

static struct invocation *invocation;
static struct command_line line;
static struct arena arena;
static struct error error;
static const char *cwd = "/here";
static bool root;

/* Words separated by "|"; `environment` likewise, may be NULL. */
static char **cut(char *copy, char **list)
{
    size_t count = 0;

    for (char *word = strtok(copy, "|"); word != NULL; word = strtok(NULL, "|"))
        list[count++] = word;
    list[count] = NULL;
    return list;
}

static bool fill(const char *words, const char *environment)
{
    static struct option_variables variables;
    static char word_copy[TEXT], environment_copy[TEXT];
    static char *word_list[WORDS], *environment_list[WORDS];

    memset(&variables, 0, sizeof variables);
    memset(&line, 0, sizeof line);
    memset(invocation, 0, sizeof *invocation);
    error = (struct error){.number = 0};
    snprintf(word_copy, sizeof word_copy, "%s", words);
    snprintf(environment_copy, sizeof environment_copy, "%s", environment != NULL ? environment : "");
    if (!command_line_parse(cut(word_copy, word_list), &line, &error))
        return false;
    option_variables_read(cut(environment_copy, environment_list), &variables);
    if (!option_variables_apply(&variables, line.scope, &line.options, &error))
        return false;
    invocation_begin(invocation, &arena, cwd, root);
    return invocation_take_options(invocation, line.scope, &line.options, &error);
}

static void refused_with(const char *words, const char *environment, const char *sentence)
{
    bool accepted = fill(words, environment);

    CHECK(!accepted && strcmp(error.text, sentence) == 0, "\"%s\" is refused: %s%s%s", words, sentence,
          strcmp(error.text, sentence) == 0 ? "" : " ; got: ", strcmp(error.text, sentence) == 0 ? "" : error.text);
}

static void refused(const char *words, const char *sentence)
{
    refused_with(words, NULL, sentence);
}

/* Entries as "first>second" and "(number)" where it is not 0, one blank between. */
static const char *listed(const struct request_entry *list, uint32_t count)
{
    static char text[TEXT];
    size_t used = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        const char *second = list[i].second != NULL ? list[i].second : "";
        int length = snprintf(text + used, sizeof text - used, "%s%s%s%s", i > 0 ? " " : "", list[i].first,
                              *second != '\0' ? ">" : "", second);
        used += (size_t)length;
        if (list[i].number != 0)
            used += (size_t)snprintf(text + used, sizeof text - used, "(%llu)", (unsigned long long)list[i].number);
    }
    return text;
}

static void binds(const char *words, const char *wanted)
{
    bool accepted = fill(words, NULL);
    const char *got = accepted ? listed(invocation->request.bind, invocation->request.bind_count) : error.text;

    CHECK(accepted && strcmp(got, wanted) == 0, "\"%s\" binds \"%s\"%s%s", words, wanted,
          strcmp(got, wanted) == 0 ? "" : " and not ", strcmp(got, wanted) == 0 ? "" : got);
}

static void test_binds(void)
{
    binds("exec|-B|/a|i", "/a>/a");
    binds("exec|-B|/a:/b|i", "/a>/b");
    binds("exec|-B|/a:/b:ro|i", "/a>/b(1)");
    binds("exec|-B|/a:/b:rw|i", "/a>/b");
    binds("exec|-B|/a:/b:ro,/c:/d,/e|i", "/a>/b(1) /c>/d /e>/e");
    binds("exec|-B|/a:/b:ro,rw,/c|i", "/a>/b /c>/c");
    binds("exec|-B|/a:/b:ro,ro:/x|i", "/a>/b(1) /here/ro>/x");
    binds("exec|-B|/a\\:b\\,c:/d\\:e|i", "/a:b,c>/d:e");
    binds("exec|-B|/a\\b|i", "/a\\b>/a\\b");
    binds("exec|-B|/opt,|i", "/opt>/opt");
    binds("exec|-B|,,|i", "");
    binds("exec|-B|/a::ro|i", "/a>/a(1)");
    binds("exec|-B|data:/d|i", "/here/data>/d");
    binds("exec|-B|.|i", "/here>/here");
    binds("exec|-B|./x//y/./z/|i", "/here/x/y/z>/here/x/y/z");
    binds("exec|-B|../x|i", "/here/../x>/x");
    binds("exec|-B|/a:/b/../../c/|i", "/a>/c");
    binds("exec|-B|/:/host|i", "/>/host");
    binds("exec|-B|/a:/b|-B|/a:/b|-B|/a:/b:ro|i", "/a>/b /a>/b(1)");
    binds("exec|--mount|type=bind,source=/a,target=/b|i", "/a>/b(2)");
    binds("exec|--mount=type=bind,src=/a,dst=/b,ro|--mount|readonly,type=bind,destination=/d,source=/c|i",
          "/a>/b(3) /c>/d(3)");
    binds("exec|--mount=type=bind,\"source=/a, \"\"b\"\"\",target=/c|i", "/a, \"b\">/c(2)");
    binds("exec|--mount=type=bind,source=/a:x,target=/c,readonly=false|i", "/a:x>/c(2)");
    CHECK(fill("exec|i", "SINGULARITY_MOUNT=type=bind,source=/a,target=/b\ntype=bind,source=/c,target=/d\n") &&
              strcmp(listed(invocation->request.bind, invocation->request.bind_count), "/a>/b(258) /c>/d(258)") == 0,
          "a variable may hold several mounts, one a line");
}

static void test_bind_refusals(void)
{
    refused("exec|-B|/a:/b:ro:x|i",
            "--bind /a:/b:ro:x: more than two colons (SOURCE[:TARGET[:OPTIONS]], a colon in a path is written \"\\:\")");
    refused("exec|-B|/a:/b:rx|i", "--bind: \"rx\" is not a valid bind option (ro, rw, nonested, image-src=DIR and id=N are)");
    refused("exec|-B|:/b|i", "--bind :/b: no source before the colon");
    refused("exec|--mount|type=tmpfs,target=/x|i",
            "--mount type=tmpfs,target=/x: unsupported mount type (\"type=bind\" is the only one)");
    refused("exec|--mount|type=bind,source=/x|i", "--mount type=bind,source=/x: source and target are both needed");
    refused("exec|--mount|type=bind,bind-propagation=shared|i", "--mount: bind-propagation is not supported here (\"mount slave\" of the configuration is for all binds)");
    refused("exec|--mount|type=bind,size=3|i",
            "--mount: invalid key \"size\" in mount specification (type, source, target, readonly, image-src, id, nonested)");
    refused("exec|--mount|type=bind,\"source=/a|i", "--mount type=bind,\"source=/a: a quote is not closed");
}

static void test_relative_targets(void)
{
    refused("exec|-B|/a:b|i", "--bind /a: the path in the container must begin with \"/\", not \"b\"");
    refused("exec|--mount|type=bind,src=/a,dst=b|i", "--mount /a: the path in the container must begin with \"/\", not \"b\"");
    refused("exec|-S|/a,b|i", "--scratch: the path in the container must begin with \"/\", not \"b\"");
    refused("exec|-H|/a:b|i", "--home: the path in the container must begin with \"/\", not \"b\"");
}

/* A wrong value of a variable is not blamed on the option. */
static void test_variables_are_named(void)
{
    refused_with("exec|i", "SINGULARITY_BIND=/a:b", "SINGULARITY_BIND /a: the path in the container must begin with \"/\", not \"b\"");
    refused_with("exec|i", "APPTAINER_BINDPATH=:/b", "APPTAINER_BINDPATH :/b: no source before the colon");
    refused_with("exec|i", "SINGULARITY_BIND=/a:/b:rx", "SINGULARITY_BIND: \"rx\" is not a valid bind option (ro, rw, nonested, image-src=DIR and id=N are)");
    refused_with("exec|i", "SINGULARITY_MOUNT=type=bind,size=3",
                 "SINGULARITY_MOUNT: invalid key \"size\" in mount specification (type, source, target, readonly, image-src, id, nonested)");
    refused_with("exec|i", "SINGULARITY_SCRATCHDIR=b", "SINGULARITY_SCRATCHDIR: the path in the container must begin with \"/\", not \"b\"");
    refused_with("exec|i", "SINGULARITY_ADD_CAPS=xyzzy", "SINGULARITY_ADD_CAPS: unknown capability \"xyzzy\" (see: man 7 capabilities)");
    refused_with("exec|i", "SINGULARITY_KEEP_FD=x", "SINGULARITY_KEEP_FD: \"x\" is no descriptor (numbers, or \"all\")");
    refused_with("exec|i", "APPTAINER_FABRIC=foo", "APPTAINER_FABRIC=foo: \"auto\", \"host\" or \"container\" is wanted");
}

/* The starter is told which variable stood for which option, and which one gave a bind. */
static void test_origins(void)
{
    struct request *request = &invocation->request;

    CHECK(fill("exec|-B|/c|--mount|type=bind,src=/d,dst=/d|i", "SINGULARITY_HOME=/h|SINGULARITY_BIND=/a|APPTAINER_BINDPATH=/b") &&
              strcmp(listed(request->variable, request->variable_count),
                     "SINGULARITY_BIND>--bind APPTAINER_BINDPATH>--bind SINGULARITY_HOME>--home") == 0,
          "variables and their options: %s", listed(request->variable, request->variable_count));
    CHECK(strcmp(listed(request->bind, request->bind_count), "/a>/a(256) /b>/b(512) /c>/c /d>/d(2)") == 0,
          "binds and where they came from: %s", listed(request->bind, request->bind_count));
    CHECK(fill("exec|-B|/a|i", "SINGULARITY_BIND=/a") && request->bind_count == 1, "the same bind twice is one bind");
}

static void test_limits_of_binds(void)
{
    static char words[8192];
    const struct option_value bind_option = {.id = OPTION_bind, .name = "--bind,more"};
    size_t used = (size_t)snprintf(words, sizeof words, "/0");
    struct text_store store;

    for (int i = 1; i < 256; i++)
        used += (size_t)snprintf(words + used, sizeof words - used, ",/%d", i);
    memset(invocation, 0, sizeof *invocation);
    error = (struct error){.number = 0};
    invocation_begin(invocation, &arena, cwd, false);
    CHECK(bind_take(invocation, &bind_option, words, &error) && invocation->request.bind_count == 256,
          "256 binds fit");
    CHECK(!bind_take(invocation, &bind_option, "/more", &error) &&
              strcmp(error.text, "--bind: more than 256 binds (bind a directory above them)") == 0,
          "one more is refused");
    memset(words, 'x', sizeof words - 1);
    words[0] = '/';
    words[5000] = '\0';
    error = (struct error){.number = 0};
    invocation->request.bind_count = 0;
    CHECK(!bind_take(invocation, &bind_option, words, &error) && strstr(error.text, "File name too long") != NULL,
          "a path of 5000 bytes is refused, not cut");
    store = (struct text_store){words, 4};
    CHECK(text_copy(&store, "abc", 3) != NULL && text_copy(&store, "", 0) == NULL, "a full store says so");
}

static void test_lists_and_paths(void)
{
    struct request *request = &invocation->request;

    CHECK(fill("exec|-S|/a,/b/../c|-S|\"/x,y\"|i", NULL) &&
              strcmp(listed(request->scratch, request->scratch_count), "/a /c /x,y") == 0,
          "scratch directories add up, quoted as CSV");
    CHECK(fill("exec|-o|up|-o|/img.sqfs:ro,/d:rw|i", NULL) &&
              strcmp(listed(request->overlay, request->overlay_count), "/here/up /img.sqfs(1) /d") == 0,
          "overlays keep their order, with :ro");
    message_begin(LEVEL_FATAL, false);
    CHECK(fill("exec|--no-mount|tmp,/etc/hosts,hostfss|i", NULL) &&
              strcmp(listed(request->no_mount, request->no_mount_count), "tmp /etc/hosts") == 0,
          "an unknown word of --no-mount is left out");
    CHECK(fill("exec|-H|git|-W|w|--cwd|sub|i", NULL) && strcmp(request->home_source, "/here/git") == 0 &&
              request->home_target == NULL && strcmp(request->workdir, "/here/w") == 0 &&
              strcmp(request->target_cwd, "/here/sub") == 0,
          "home, workdir and cwd are made absolute");
    CHECK(fill("exec|-H|/a:/home/me|i", NULL) && strcmp(request->home_source, "/a") == 0 &&
              strcmp(request->home_target, "/home/me") == 0,
          "home has a source and a target");
    CHECK(fill("exec|--dns|1.2.3.4|--dns|::1,8.8.8.8|i", NULL) && strcmp(request->dns, "1.2.3.4,::1,8.8.8.8") == 0,
          "name servers add up");
    CHECK(fill("exec|-B|/cl:/x|i", "SINGULARITY_BINDPATH=/v:/x") &&
              strcmp(listed(request->bind, request->bind_count), "/v>/x(256) /cl>/x") == 0,
          "binds of a variable come first, so that those of the command line show");
    CHECK(fill("exec|i", "SINGULARITY_SCRATCH=/a , /b") &&
              strcmp(listed(request->scratch, request->scratch_count), "/a /b") == 0,
          "blanks around commas of a variable do not count");
}

static void test_flags(void)
{
    struct request *request = &invocation->request;

    CHECK(fill("exec|-C|i", NULL) && request->contain && request->pid && request->ipc && request->cleanenv &&
              !request->no_init,
          "--containall is contain, pid, ipc and cleanenv");
    CHECK(fill("exec|--compat|i", NULL) && request->contain && request->pid && request->no_init && request->no_umask &&
              request->no_eval && request->writable_tmpfs && request->oci_defaults && !request->no_oci_defaults,
          "--compat is containall, no-init, no-umask, no-eval, writable-tmpfs and what the image says");
    CHECK(fill("exec|--compat|--no-compat|i", NULL) && request->contain && request->no_oci_defaults,
          "--no-compat takes what the image says away");
    CHECK(fill("exec|-C|--no-pid|i", NULL) && request->contain && !request->pid, "--no-pid takes the PID namespace of -C away");
    CHECK(fill("exec|--nv|--no-nv|--rocm|i", NULL) && !request->nv && request->rocm, "--no-nv takes --nv away");
    CHECK(fill("exec|--hostname|node-1.site|i", NULL) && request->uts && strcmp(request->hostname, "node-1.site") == 0,
          "--hostname implies a UTS namespace");
    CHECK(fill("exec|--network|none|i", NULL) && request->net, "--network none implies a network namespace");
    CHECK(fill("exec|i", "SINGULARITY_DISABLE_OVERLAYFS=1|SINGULARITY_WRITABLE=1") && request->disable_overlay &&
              request->writable,
          "variables without an option work");
    CHECK(fill("run|--dry-run|i", NULL) && request->dry_run == DRY_RUN_TEXT && request->action == ACTION_RUN &&
              fill("test|--dry-run=json|i", NULL) && request->dry_run == DRY_RUN_JSON && request->action == ACTION_TEST,
          "--dry-run prints text, or JSON");
    CHECK(fill("exec|--add-caps|CAP_NET_RAW,sys_admin|--drop-caps|chown|i", NULL) &&
              request->add_caps == (UINT64_C(1) << 13 | UINT64_C(1) << 21) && request->drop_caps == 1,
          "capabilities by name, in any case");
    CHECK(fill("exec|--add-caps|all|i", NULL) && request->add_caps == (UINT64_C(1) << 41) - 1, "all capabilities");
}

static bool restricted(const char *words, const char *environment, const char *wanted)
{
    const struct request *request = &invocation->request;

    return fill(words, environment) && strcmp(listed(request->restriction, request->restriction_count), wanted) == 0;
}

static void test_restrictions(void)
{
    CHECK(restricted("exec|--read-only-home|--deny-net|i", NULL, ">--read-only-home >--deny-net(1)"), "flags are restrictions");
    CHECK(restricted("exec|--deny-net=false|i", "SINGULARITY_DENY_NET=1|SINGULARITY_READ_ONLY_HOME=1", ">SINGULARITY_READ_ONLY_HOME"),
          "variables are too, and a flag takes its own back");
    CHECK(restricted("exec|--allow-paths|/a:ro,b/../c,/d:rw|i", NULL, "/a>--allow-paths(3) /here/c>--allow-paths(2) /d>--allow-paths(2)"),
          "paths are absolute, and written unless they say otherwise");
    CHECK(restricted("exec|--security|seccomp:p.json,apparmor:x|--security=uid:5|--security|gid:1:2|i", NULL,
                     "/here/p.json>--security(4) x>--security(5) 5>--security(7) 1>--security(8) 2>--security(8)"),
          "each of --security is one, a group at a time");
    refused("exec|--security|secomp:x|i", "--security: unknown \"secomp:x\" (did you mean seccomp:?)");
    refused("exec|--security|xyzzy|i",
            "--security: unknown \"xyzzy\" (seccomp:FILE, apparmor:PROFILE, selinux:LABEL, uid:N and gid:N are known)");
    refused("exec|--security|uid|i", "--security uid: a value is wanted, as uid:VALUE");
    refused("exec|--security|uid:x|i", "--security: \"x\" is no number of a user");
    refused("exec|--security|uid:4294967295|i", "--security: \"4294967295\" is no number of a user");
    refused("exec|--security|gid:1::2|i", "--security: \"\" is no number of a group");
}

static void test_variables_of_what_is_not_here(void)
{
    refused_with("exec|i", "SINGULARITY_FUSESPEC=x", "SINGULARITY_FUSESPEC: \"x\": TYPE:COMMAND MOUNTPOINT is wanted (types are container, host, container-daemon "
                 "and host-daemon)");
    refused_with("exec|i", "APPTAINER_NOENV=0", "variable APPTAINER_NOENV is not available here (variables to keep out: use \"env -u NAME\" or "
                 "--cleanenv)");
    refused_with("run|i", "SINGULARITY_SHARENS=1", "variable SINGULARITY_SHARENS is not available here (one container for several processes: use "
                 "--join=yes)");
    CHECK(fill("exec|i", "SINGULARITY_SHARENS=false|SINGULARITY_OCI=0|SINGULARITY_MEMORY="), "what asks for nothing is no mistake");
}

static void test_value_refusals(void)
{
    refused("exec|--network|calico|i", "--network calico: not available here (networks are none, host, and bridge or fakeroot, which pasta "
                                       "carries; those of the site are root's)");
    refused("exec|--dns|1.2.3|i", "--dns: \"1.2.3\" is no IP address");
    refused("exec|--hostname|-a|i", "--hostname -a: no host name (letters, digits, hyphens and dots, at most 64)");
    refused("exec|--hostname|a..b|i", "--hostname a..b: no host name (letters, digits, hyphens and dots, at most 64)");
    refused("exec|--hostname|a b|i", "--hostname a b: no host name (letters, digits, hyphens and dots, at most 64)");
    refused("exec|-H|a:b:c|i", "--home a:b:c: SOURCE or SOURCE:TARGET is wanted");
    refused("exec|-H|/a:b|i", "--home: the path in the container must begin with \"/\", not \"b\"");
    refused("exec|--app|../x|i", "--app ../x: no name of an application");
    refused("exec|--dry-run=xml|i", "--dry-run=xml: \"text\" or \"json\" is wanted");
    refused("exec|--add-caps|net_rw|i", "--add-caps: unknown capability \"net_rw\" (did you mean cap_net_raw?)");
    refused("exec|--drop-caps|xyzzy|i", "--drop-caps: unknown capability \"xyzzy\" (see: man 7 capabilities)");
    refused("exec|--keep-fd|x|i", "--keep-fd: \"x\" is no descriptor (numbers, or \"all\")");
    refused("exec|--keep-fd|987654|i", "--keep-fd: descriptor 987654: Bad file descriptor");
    refused("exec|-S|\"/a|i", "--scratch \"/a: a quote is not closed");
    refused("exec|--env|novalue|i", "--env: \"novalue\" is no NAME=VALUE (a value with a comma is quoted: '\"NAME=a,b\"')");
    refused("exec|--env|1X=a|i", "--env: \"1X\" is no name of a variable");
}

static void test_targets(void)
{
    struct request *request = &invocation->request;

    root = true;
    CHECK(fill("exec|i", "SINGULARITY_TARGET_UID=1000|SINGULARITY_TARGET_GID=100") && request->target_uid == 1001 &&
              request->target_gid == 101,
          "root may name the ids of the program");
    CHECK(!fill("exec|i", "SINGULARITY_TARGET_UID=1000") &&
              strcmp(error.text, "SINGULARITY_TARGET_UID and SINGULARITY_TARGET_GID go together: only one is set") == 0,
          "one id without the other is refused");
    CHECK(!fill("exec|i", "SINGULARITY_TARGET_UID=4294967295|SINGULARITY_TARGET_GID=1"), "the id that means none is refused");
    CHECK(!fill("exec|i", "SINGULARITY_TARGET_UID=+5|SINGULARITY_TARGET_GID=1"), "a sign is refused");
    root = false;
    CHECK(fill("exec|i", "SINGULARITY_TARGET_UID=1000") && request->target_uid == 0, "for others these variables do nothing");
}

static void test_images(void)
{
    struct request *request = &invocation->request;

    fill("exec|i", NULL);
    CHECK(invocation_take_image(invocation, "./a//b/", &error) && strcmp(request->image, "/here/a/b") == 0,
          "the image is made absolute, without a slash at its end");
    CHECK(invocation_take_image(invocation, "/", &error) && strcmp(request->image, "/") == 0, "the root stays the root");
    CHECK(invocation_take_image(invocation, "/a/../b", &error) && strcmp(request->image, "/a/../b") == 0,
          "a parent directory is left to the kernel, which knows the links");
    CHECK(!invocation_take_image(invocation, "", &error), "an empty name is refused");
    cwd = NULL;
    fill("exec|i", NULL);
    CHECK(!invocation_take_image(invocation, "a", &error) &&
              strcmp(error.text, "image a: relative to the current directory, which is gone: No such file or directory") == 0,
          "a relative image in a deleted directory is refused");
    refused("exec|-B|x|i", "--bind x: relative to the current directory, which is gone: No such file or directory");
    refused("exec|-W|x|i", "--workdir x: relative to the current directory, which is gone: No such file or directory");
    CHECK(fill("exec|-B|/x|-W|/w|i", NULL) && invocation_take_image(invocation, "/a", &error),
          "absolute paths need no current directory");
    cwd = "/here";
    CHECK(image_name_resolved_elsewhere("docker://x") && image_name_resolved_elsewhere("instance://x") &&
              image_name_resolved_elsewhere("oci:dir") && image_name_resolved_elsewhere("docker:x") &&
              image_name_resolved_elsewhere("docker-archive:x.tar") &&
              image_name_resolved_elsewhere("https://h/x"),
          "references go elsewhere");
    CHECK(!image_name_resolved_elsewhere("a.sif") && !image_name_resolved_elsewhere("a:b") &&
              !image_name_resolved_elsewhere("./docker://x") && !image_name_resolved_elsewhere("://x") &&
              !image_name_resolved_elsewhere("no/such.tar"),
          "paths do not, nor do names that are no files");
}

static void test_directory(void)
{
    char path[PATH_MAX], link[] = "/tmp/launch_test.XXXXXX", name[64];

    CHECK(mkdtemp(link) != NULL && chdir(link) == 0, "a directory to be in");
    snprintf(name, sizeof name, "%s-link", link);
    CHECK(symlink(link, name) == 0, "and a link to it");
    CHECK(strcmp(current_directory(name, path), name) == 0, "the caller's name of the directory is kept");
    CHECK(strcmp(current_directory("/", path), link) == 0, "unless it is the name of another");
    CHECK(strcmp(current_directory(NULL, path), link) == 0, "or there is none");
    snprintf(name, sizeof name, "%s/../%s", link, link + 5);
    CHECK(strcmp(current_directory(name, path), link) == 0, "or it has a detour");
    CHECK(rmdir(link) == 0 && current_directory(link, path) == NULL, "a deleted directory has no name");
    snprintf(name, sizeof name, "%s-link", link);
    unlink(name);
}

static int level_of(const char *words, const char *environment)
{
    static struct option_variables variables;
    static char environment_copy[TEXT];
    static char *environment_list[WORDS];
    int level = -99;

    fill(words, NULL);
    memset(&variables, 0, sizeof variables);
    snprintf(environment_copy, sizeof environment_copy, "%s", environment);
    option_variables_read(cut(environment_copy, environment_list), &variables);
    if (!option_variables_apply(&variables, SCOPE_GLOBAL, &line.options, &error) ||
        !options_level(&line.options, &level, &error))
        return -99;
    return level;
}

static void test_levels(void)
{
    CHECK(level_of("exec|i", "") == 1 && level_of("-v|exec|i", "") == 4 && level_of("-vvv|exec|i", "") == 4 &&
              level_of("-vvvv|exec|i", "") == 5 && level_of("-d|exec|i", "") == 5 && level_of("-x|exec|i", "") == 5 &&
              level_of("-q|exec|i", "") == -1 && level_of("-s|exec|i", "") == -3,
          "each option has its level");
    CHECK(level_of("-q|-d|exec|i", "") == 5 && level_of("-s|-v|exec|i", "") == 4 && level_of("-s|-q|exec|i", "") == -1,
          "the more talkative one wins");
    CHECK(level_of("exec|i", "SINGULARITY_MESSAGELEVEL=3") == 3 && level_of("exec|i", "APPTAINER_MESSAGELEVEL=9") == 5 &&
              level_of("exec|i", "SINGULARITY_MESSAGELEVEL=-3") == 1 &&
              level_of("-q|exec|i", "SINGULARITY_MESSAGELEVEL=5") == -1,
          "MESSAGELEVEL counts when no option does, and never hides what is usual");
    CHECK(level_of("exec|i", "SINGULARITY_MESSAGELEVEL=loud") == -99, "a word is no level");
    CHECK(level_of("exec|i", "SINGULARITY_QUIET=yes") == -1, "levels have variables too");
}

int main(void)
{
    invocation = calloc(1, sizeof *invocation);
    if (invocation == NULL)
        return 1;
    arena_begin(&arena, ARENA_LIMIT);
    message_begin(LEVEL_FATAL, false);
    test_binds();
    test_bind_refusals();
    test_relative_targets();
    test_variables_are_named();
    test_origins();
    test_limits_of_binds();
    test_lists_and_paths();
    test_flags();
    test_restrictions();
    test_variables_of_what_is_not_here();
    test_value_refusals();
    test_targets();
    test_images();
    test_directory();
    test_levels();
    arena_end(&arena);
    free(invocation);
    return checks_end();
}
