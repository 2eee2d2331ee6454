/* seccomp: of --security: a filter of system calls that somebody has compiled, checked and loaded. Knows nothing of profiles. */
#include "restrict.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"

/* Sealed like a request, and looked at only then; the kernel takes BPF_MAXINSNS instructions, and checks each of them. The descriptor
 * is one that the launch has kept open for us: the program does not get it. */
void restrict_calls(const struct request_entry *asked)
{
    static struct sock_filter lines[BPF_MAXINSNS];
    OWNED_FD file = (int)(asked->number >> RESTRICTION_DESCRIPTOR);
    const int needed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
    struct stat status;

    if (file <= STDERR_FILENO || (fcntl(file, F_GET_SEALS) & needed) != needed || fstat(file, &status) < 0)
        stop(0, "%s: no filter came with the profile %s (a fault of singularity: please report it)", asked->second, asked->first);
    if (status.st_size <= 0 || status.st_size % (off_t)sizeof lines[0] != 0 || status.st_size > (off_t)sizeof lines)
        stop(0, "%s: the filter of %s is %lld bytes long: 8 for each of 1 to %d instructions are wanted", asked->second, asked->first,
             (long long)status.st_size, BPF_MAXINSNS);
    if (pread(file, lines, (size_t)status.st_size, 0) != (ssize_t)status.st_size)
        stop(errno, "%s: the filter of %s", asked->second, asked->first);
    const struct sock_fprog program = {(unsigned short)((size_t)status.st_size / sizeof lines[0]), lines};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
        stop(errno, "%s: the kernel does not take the filter of %s", asked->second, asked->first);
}
