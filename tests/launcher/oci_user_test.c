/* WORKDIR and USER of an image: read from its files, by the rules of Docker. */
#include <string.h>

#include "check.h"
#include "plan/plan.h"

static struct plan plan;
static struct request request;
static struct config config;
static struct caller caller;
static const struct plan_inputs inputs = {.request = &request, .config = &config, .caller = &caller};

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "broken\n"
                             "app:x:1234:2345:App:/home/app:/bin/sh\n"
                             "again:x:1234:1:Second:/second:/bin/sh\n"
                             "77:x:5:6:A number:/number:/bin/sh\n"
                             "far:x:4294967295:1::/:/bin/sh\n"
                             "homeless:x:9:9";
static const char group[] = "root:x:0:\nappg:x:2345:\nextra:x:3456:other,app\nnearly:x:3457:app2,xapp\nlast:x:3458:app";

static void begin(void)
{
    memset(&plan, 0, offsetof(struct plan, text));
    plan.text_used = 0;
    plan.oci_wanted = true;
    plan.mode = MODE_USERNS;
    plan.home = "/home/alice";
    config.allow_user_ns = true;
    caller = (struct caller){.uid = 1000, .gid = 1000};
    plan_add(&plan, STEP_BIND, "/proc", "/proc", 0, "");
}

/* As `uid:gid home +groups`, or "none". */
static const char *user(const char *spec)
{
    static char text[256];

    begin();
    snprintf(text, sizeof text, "USER=%s\nWORKDIR=/\n", spec);
    if (!plan_oci(&plan, &inputs, text))
        return "no user";
    plan_oci_passwd(&plan, passwd);
    plan_oci_group(&plan, group);
    if (!plan.user.found)
        return "none";
    int used = snprintf(text, sizeof text, "%u:%u %s", (unsigned)plan.user.uid, (unsigned)plan.user.gid, plan.user.home);
    for (uint32_t i = 0; i < plan.user.group_count; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, " +%u", (unsigned)plan.user.groups[i]);
    return text;
}

static void found(const char *spec, const char *expected)
{
    const char *got = user(spec);

    CHECK(strcmp(got, expected) == 0, "USER %s is %s%s%s", spec, expected, strcmp(got, expected) == 0 ? "" : ", not ", 
          strcmp(got, expected) == 0 ? "" : got);
}

static void test_names(void)
{
    found("app", "1234:2345 /home/app +3456 +3458");
    found("1234", "1234:2345 /home/app +3456 +3458");
    found("app:appg", "1234:2345 /home/app");
    found("app:extra", "1234:3456 /home/app");
    found("app:42", "1234:42 /home/app");
    found("app:", "1234:2345 /home/app +3456 +3458");
    found("4321", "4321:0 /");
    found("4321:77", "4321:77 /");
    found("77", "77:0 /");
    found(":2345", "0:2345 /root");
    found("root", "0:0 /root");
    found("", "no user");
    found("nobody", "none");
    found("app:nogroup", "none");
    found("ap", "none");
    found("app2", "none");
    found("far", "none");
    found("-1", "none");
    found("+5", "none");
    found(" 5", "none");
    found("2147483647", "2147483647:0 /");
    found("2147483648", "none");
    found("18446744073709551617", "none");
    found("homeless", "9:9 /");
}

static void test_without_account_files(void)
{
    begin();
    CHECK(plan_oci(&plan, &inputs, "USER=root\nWORKDIR=/w\n"), "there is a user");
    plan_oci_passwd(&plan, NULL);
    plan_oci_group(&plan, NULL);
    CHECK(plan.user.found && plan.user.uid == 0, "root needs no account file");
}

static const char *directory(const char *text)
{
    begin();
    plan.directory = "before";
    plan_oci(&plan, &inputs, text);
    return plan.directory;
}

static void test_directory(void)
{
    CHECK(strcmp(directory("USER=\nWORKDIR=/a b/c\n"), "/a b/c") == 0 && plan.steps[1].kind == STEP_PLACE, "a directory");
    CHECK(strcmp(directory("USER=\nWORKDIR=/a\nb\n"), "/a\nb") == 0, "a newline in its name");
    CHECK(strcmp(directory("USER=\nWORKDIR=/\n"), "/") == 0 && plan.step_count == 1, "the root directory needs no place");
    CHECK(strcmp(directory("USER=\nWORKDIR=/a/../b\n"), "before") == 0, "no path that climbs");
    CHECK(strcmp(directory("USER=\nWORKDIR=a\n"), "before") == 0, "no relative path");
    CHECK(strcmp(directory("USER=\nWORKDIR=/..a/b..\n"), "/..a/b..") == 0, "dots in a name");
    CHECK(strcmp(directory("USER=x"), "before") == 0 && !plan.oci_image, "a file that was cut");
    CHECK(strcmp(directory("USER=x\nWORKDIR=/w"), "before") == 0, "a last line that was cut");
    CHECK(strcmp(directory(""), "before") == 0, "an empty file");
    request.target_cwd = "/chosen";
    CHECK(strcmp(directory("USER=\nWORKDIR=/w\n"), "before") == 0 && plan.oci_image, "--cwd goes before");
    request.target_cwd = NULL;
}

static enum user_way way(const char *spec, const char *obstacle)
{
    user(spec);
    plan_oci_user(&plan, &inputs, obstacle);
    return plan.user.way;
}

static void test_ways(void)
{
    CHECK(way("app", NULL) == USER_NAMESPACE && strcmp(plan.home, "/home/app") == 0 && plan.home_yields, "in a user namespace");
    CHECK(way("app", "refused") == USER_CALLER && strcmp(plan.home, "/home/alice") == 0, "not where the kernel makes none");
    CHECK(way("nobody", NULL) == USER_CALLER && way("root", NULL) == USER_CALLER, "nobody unknown, and not root");
    user("app");
    plan.root_mapped = true;
    CHECK(!plan_oci_user_needs_namespace(&plan, &inputs), "--fakeroot needs no other namespace");
    plan_oci_user(&plan, &inputs, NULL);
    CHECK(plan.user.way == USER_CALLER, "--fakeroot goes before");
    user("app");
    plan.step_count = 0;
    plan_oci_user(&plan, &inputs, NULL);
    CHECK(plan.user.way == USER_CALLER, "not without /proc");
    user("1000:1000");
    CHECK(!plan_oci_user_needs_namespace(&plan, &inputs), "the caller's own ids need nothing");
    config.allow_user_ns = true;
    user("app");
    config.allow_user_ns = false;
    plan_oci_user(&plan, &inputs, NULL);
    CHECK(plan.user.way == USER_CALLER, "not where the administrator forbids it");
    user("app");
    plan.mode = MODE_ROOT;
    plan.keep_capabilities = UINT64_MAX;
    plan_oci_user(&plan, &inputs, "refused");
    CHECK(plan.user.way == USER_REAL && plan.keep_capabilities == 0 && plan.no_new_privs, "root becomes that user");
}

int main(void)
{
    message_begin(LEVEL_FATAL, false);
    test_names();
    test_without_account_files();
    test_directory();
    test_ways();
    return checks_end();
}
