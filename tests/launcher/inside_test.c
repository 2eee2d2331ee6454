/* Paths of the host as a launch looks them up, with and without openat2. */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

static void relative_is_not_there(const char *which)
{
    static const char *const relative[] = {"", ".", "..", "etc", "etc/passwd", "./etc"};

    for (size_t i = 0; i < sizeof relative / sizeof *relative; i++) {
        errno = 0;
        CHECK(host_open(relative[i], O_PATH) == -1 && errno == ENOENT, "%s: \"%s\" is not there", which, relative[i]);
    }
    int root = host_open("/", O_PATH);
    CHECK(root >= 0, "%s: the root directory is", which);
    close(root);
}

/* As before Linux 5.6. */
static bool refuse_openat2(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {.len = sizeof rules / sizeof *rules, .filter = rules};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

int main(void)
{
    CHECK(chdir("/") == 0, "in the root directory, where all of them are");
    relative_is_not_there("with openat2");
    CHECK(refuse_openat2(), "a filter");
    relative_is_not_there("without openat2");
    return checks_end();
}
