/* What an image says of WORKDIR and USER, and its account files, cut at NULs: whatever they hold, the plan's directory is a
 * plain path, ids are within limits, and only a user who was found is taken. */
#include <assert.h>
#include <string.h>

#include "plan/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_LIMIT = 64 << 10 };

static struct plan plan;
static struct request request;
static struct config config = {.allow_user_ns = true};
static struct caller caller = {.uid = 1000, .gid = 1000};
static char text[INPUT_LIMIT + 3];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct plan_inputs inputs = {.request = &request, .config = &config, .caller = &caller};

    if (size > INPUT_LIMIT)
        return 0;
    message_begin(LEVEL_FATAL, false);
    memset(&plan, 0, offsetof(struct plan, text));
    memcpy(text, data, size);
    memset(text + size, 0, 3);
    plan.oci_wanted = true;
    plan.mode = MODE_USERNS;
    plan.directory = plan.home = "/";
    plan_add(&plan, STEP_BIND, "/proc", "/proc", 0, "");
    const char *passwd = text + strlen(text) + 1;
    const char *group = passwd + (passwd < text + size ? strlen(passwd) + 1 : 0);
    bool user = plan_oci(&plan, &inputs, text);
    assert(plan.directory[0] == '/' && strstr(plan.directory, "/../") == NULL);
    if (!user)
        return 0;
    plan_oci_passwd(&plan, passwd);
    plan_oci_group(&plan, group);
    plan_oci_user(&plan, &inputs, NULL);
    assert(plan.user.uid <= INT32_MAX && plan.user.gid <= INT32_MAX && plan.user.group_count <= PLAN_GROUPS);
    assert(plan.user.way == USER_CALLER || (plan.user.found && plan.user.uid != 0));
    assert(*plan.home == '/');
    return 0;
}
