/* apparmor: and selinux: of --security: the label of the program that is executed next. Writes one file of /proc. */
#include "restrict.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../inside.h"

/* The file of the attribute is there without SELinux, too, and is another module's then (selinux(8)). */
static bool has_selinux(void)
{
    OWNED_FD file = openat(proc_fd(), "filesystems", O_RDONLY | O_CLOEXEC);
    char text[4096];
    ssize_t size = file >= 0 ? read(file, text, sizeof text - 1) : 0;

    text[size > 0 ? size : 0] = '\0';
    return strstr(text, "\tselinuxfs\n") != NULL;
}

/* Written in one piece. The exec forms: the label counts from the next execve(2) on, also for those of our children, so that what
 * reads the environment of the image has it as well. AppArmor has had a directory of its own since Linux 5.8. */
void restrict_label(const struct request_entry *asked, enum restriction module)
{
    bool apparmor = module == RESTRICTION_APPARMOR;
    char text[PATH_MAX + 8];
    int length = snprintf(text, sizeof text, "%s%s", apparmor ? "exec " : "", asked->first);

    if (!apparmor && !has_selinux())
        stop(0, "%s: SELinux is not there, so nothing can be labelled %s", asked->second, asked->first);
    OWNED_FD file = openat(proc_fd(), apparmor ? "self/attr/apparmor/exec" : "self/attr/exec", O_WRONLY | O_CLOEXEC);
    if (file < 0)
        stop(0, "%s: %s is not there, so %s cannot be applied", asked->second, apparmor ? "AppArmor" : "SELinux", asked->first);
    if (write(file, text, (size_t)length) == length)
        return;
    if (apparmor && errno == EINVAL)
        stop(0, "%s: AppArmor is switched off, so %s cannot be applied", asked->second, asked->first);
    stop(errno, "%s: %s cannot be applied: is it loaded?", asked->second, asked->first);
}
