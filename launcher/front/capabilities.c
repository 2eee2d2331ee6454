/* --add-caps and --drop-caps: names of capabilities to bits of the request. */
#include "front.h"

#include <string.h>
#include <strings.h>

#include "../suggest.h"

/* In the order of their numbers: linux/capability.h, up to Linux 5.9 and unchanged since. */
static const char *const names[] = {
    "chown",           "dac_override",     "dac_read_search", "fowner",           "fsetid",
    "kill",            "setgid",           "setuid",          "setpcap",          "linux_immutable",
    "net_bind_service", "net_broadcast",   "net_admin",       "net_raw",          "ipc_lock",
    "ipc_owner",       "sys_module",       "sys_rawio",       "sys_chroot",       "sys_ptrace",
    "sys_pacct",       "sys_admin",        "sys_boot",        "sys_nice",         "sys_resource",
    "sys_time",        "sys_tty_config",   "mknod",           "lease",            "audit_write",
    "audit_control",   "setfcap",          "mac_override",    "mac_admin",        "syslog",
    "wake_alarm",      "block_suspend",    "audit_read",      "perfmon",          "bpf",
    "checkpoint_restore"};
enum { NAMES = sizeof names / sizeof names[0] };

const char *capability_name(unsigned number)
{
    return number < NAMES ? names[number] : "?";
}

/* Bits beyond the table stay clear for "all": what a newer kernel adds is asked for by name or not at all. */
bool capability_take(const struct option_value *use, const char *name, uint64_t *mask, struct error *error)
{
    const char *bare = strncasecmp(name, "cap_", 4) == 0 ? name + 4 : name;
    struct suggestion nearest = {.word = bare, .length = strlen(bare)};

    if (strcasecmp(bare, "all") == 0) {
        *mask = (UINT64_C(1) << NAMES) - 1;
        return true;
    }
    for (int number = 0; number < NAMES; number++) {
        if (strcasecmp(bare, names[number]) == 0) {
            *mask |= UINT64_C(1) << number;
            return true;
        }
        suggest_from(&nearest, names[number], strlen(names[number]));
    }
    if (nearest.found_length > 0)
        return error_set(error, 0, "%.*s: unknown capability \"%.60s\" (did you mean cap_%s?)", OPTION_NAME(use), name, nearest.found);
    return error_set(error, 0, "%.*s: unknown capability \"%.60s\" (see: man 7 capabilities)", OPTION_NAME(use), name);
}
