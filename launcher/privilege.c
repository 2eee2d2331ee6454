/* Raises and drops privilege, and drops it for good: the one file that changes ids and capabilities. */
#include "privilege.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "message.h"

/* File scope, as nowhere else but in message.c: the kernel keeps one set of ids a process, and so does this file. */
static bool raisable;   /* root is our saved id */
static const char *raised; /* what for, or NULL */
static bool as_root;       /* raised under root's id */
static uid_t user;      /* whom we are outside the brackets */

#define CAPABILITY(name) (UINT64_C(1) << (name))
/* CAP_SYS_CHROOT: setns(2) into a mount namespace asks for it besides CAP_SYS_ADMIN. */
static const uint64_t mount_set = CAPABILITY(CAP_SYS_ADMIN) | CAPABILITY(CAP_SYS_CHROOT);
/* An overlay keeps the credentials of whoever mounts it, and checks its layers with them (Documentation/filesystems/overlayfs.rst,
 * "Permission model"): these are for copying files up, whoever owns them. */
static const uint64_t overlay_set = CAPABILITY(CAP_SYS_ADMIN) | CAPABILITY(CAP_DAC_OVERRIDE) |
                                    CAPABILITY(CAP_DAC_READ_SEARCH) | CAPABILITY(CAP_FOWNER) | CAPABILITY(CAP_CHOWN) |
                                    CAPABILITY(CAP_FSETID) | CAPABILITY(CAP_MKNOD);
static const uint64_t network_set = CAPABILITY(CAP_NET_ADMIN);
static const uint64_t end_set = CAPABILITY(CAP_SETUID) | CAPABILITY(CAP_SETGID) | CAPABILITY(CAP_SETPCAP);

static void capabilities_set(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    for (unsigned i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(effective >> (32 * i));
        data[i].permitted = (uint32_t)(permitted >> (32 * i));
        data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
    }
    if (syscall(SYS_capset, &header, data) < 0)
        stop(errno, "set the capabilities");
}

static void capabilities_get(uint64_t *effective, uint64_t *permitted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) < 0)
        stop(errno, "read the capabilities");
    *effective = data[0].effective | (uint64_t)data[1].effective << 32;
    *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
}

/* Not for the debugger, not for /proc. Whenever the effective id changes the kernel makes that what suid_dumpable says, and forgets
 * whose end is to end this process (commit_creds(), prctl(2)): a set-up must not outlive its launcher (R-L16). */
static void effective_set(uid_t uid)
{
    int death;

    if (prctl(PR_GET_PDEATHSIG, &death) < 0 || setresuid((uid_t)-1, uid, (uid_t)-1) < 0 ||
        prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_PDEATHSIG, death) < 0)
        stop(errno, "change to uid %u, unreadable for others", (unsigned)uid);
}

static void user_verify(void)
{
    uid_t real, effective, saved;
    uint64_t caps, permitted;

    capabilities_get(&caps, &permitted);
    if (getresuid(&real, &effective, &saved) < 0 || real != user || effective != user || caps != 0)
        stop(0, "privilege did not drop to uid %u", (unsigned)user);
}

/* No capability is effective from here on, and only those that a bracket needs can be made so. */
static void begin(void)
{
    raisable = true;
    capabilities_set(0, mount_set | overlay_set | network_set | end_set, 0);
    effective_set(user);
    user_verify();
}

bool privilege_begin(void)
{
    uid_t effective, saved;

    if (getresuid(&user, &effective, &saved) < 0)
        stop(errno, "the caller's ids");
    if (effective == user)
        return false;
    if (effective != 0)
        stop(0, "the starter is setuid, but not to root (reinstall it: owner root, mode 4755)");
    if (setresgid(getgid(), getgid(), getgid()) < 0 || setresuid(user, user, 0) < 0) /* groups first: a user may not */
        stop(errno, "drop privilege");
    begin();
    return true;
}

void privilege_begin_for(uid_t uid, gid_t gid)
{
    user = uid;
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, 0) < 0)
        stop(errno, "become uid %u", (unsigned)uid);
    begin();
}

void privilege_mapped(uid_t uid)
{
    user = uid;
}

void privilege_raise(const char *what, enum privilege privilege)
{
    if (raised != NULL)
        stop(0, "privilege raised twice, for %s", what);
    raised = what;
    message_debug("Raising privilege (U=%u): %s", (unsigned)user, what);
    if (!raisable)
        return;
    as_root = privilege == PRIVILEGE_ROOT || privilege == PRIVILEGE_OVERLAY;
    if (as_root)
        effective_set(0); /* hidden before a capability is effective: nobody can attach in between */
    uint64_t set = privilege == PRIVILEGE_OVERLAY ? overlay_set : privilege == PRIVILEGE_NETWORK ? network_set : mount_set;
    capabilities_set(set, mount_set | overlay_set | network_set | end_set, 0);
}

void privilege_drop(void)
{
    if (raised == NULL)
        stop(0, "privilege dropped, but never raised");
    if (raisable) {
        if (as_root)
            effective_set(user);
        /* leaving id 0 clears the effective set by itself (capabilities(7)), but not where no id was changed */
        capabilities_set(0, mount_set | overlay_set | network_set | end_set, 0);
        user_verify();
        message_as(0); /* told only now: nothing is written while it is raised */
        message_debug("Called with privilege: %s", raised);
        message_as(-1);
    }
    raised = NULL;
    message_debug("Dropped privilege to UID=%u, confirmed", (unsigned)user);
}

static void bounding_drop(uint64_t keep)
{
    for (unsigned long capability = 0; capability < 64; capability++) {
        if (keep & CAPABILITY(capability))
            continue;
        if (prctl(PR_CAPBSET_DROP, capability) == 0)
            continue;
        if (errno == EINVAL) /* the kernel has no more of them; any other error must not leave the rest */
            break;
        stop(errno, "drop capability %lu for good", capability);
    }
}

static void ids_end(const struct caller *caller)
{
    uid_t real, effective, saved;
    gid_t groups[3];

    /* groups before the user: without id 0 only CAP_SETGID, about to go, lets them be set */
    if (raisable && (setresgid(caller->gid, caller->gid, caller->gid) < 0 || setresuid(user, user, user) < 0))
        stop(errno, "drop privilege for good");
    raisable = false;
    if (getresuid(&real, &effective, &saved) < 0 || real != user || effective != user || saved != user ||
        getresgid(&groups[0], &groups[1], &groups[2]) < 0 || groups[0] != groups[1] || groups[1] != groups[2])
        stop(0, "privilege did not drop for good to uid %u", (unsigned)user);
}

void privilege_become(const struct ids *ids, uint64_t keep)
{
    uint64_t effective, permitted;

    capabilities_get(&effective, &permitted);
    if (effective & CAPABILITY(CAP_SETPCAP)) /* first: the last setresuid() takes the right to drop from the bounding set */
        bounding_drop(keep);
    if (setgroups(ids->group_count, ids->groups) < 0 || setresgid(ids->gid, ids->gid, ids->gid) < 0 ||
        setresuid(ids->uid, ids->uid, ids->uid) < 0)
        stop(errno, "become uid %u", (unsigned)ids->uid);
    effective_set(ids->uid);
    user = ids->uid;
}

void privilege_end(const struct caller *caller, uint64_t keep, bool no_new_privs)
{
    uint64_t effective, permitted;

    if (raisable) /* as the user: an effective id that changed could make the process readable again */
        capabilities_set(end_set, end_set, 0);
    capabilities_get(&effective, &permitted);
    if (effective & CAPABILITY(CAP_SETPCAP)) /* before the ids: the saved id 0 has brought this right, and goes with them */
        bounding_drop(keep);
    ids_end(caller);
    /* EINVAL: before Linux 4.3, which has no ambient set */
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
        stop(errno, "clear the ambient capabilities");
    capabilities_get(&effective, &permitted);
    capabilities_set(permitted & keep, permitted & keep, permitted & keep);
    /* last of what changes: for good, and inherited by all that the program starts (Linux 3.5) */
    if (no_new_privs && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1))
        stop(errno, "set no_new_privs");
    capabilities_get(&effective, &permitted);
    if (((effective | permitted) & ~keep) != 0)
        stop(0, "capabilities did not drop");
    message_debug("Dropped privilege for good: UID=%u, capabilities %#llx", (unsigned)user, (unsigned long long)effective);
}

void privilege_forget(const struct caller *caller)
{
    privilege_end(caller, 0, true);
}
