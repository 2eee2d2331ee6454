/* Loop devices: a free one is asked for, configured in one call where the kernel can (LOOP_CONFIGURE, Linux 5.8), and verified to
 * show our file. Each privileged call stands in a bracket of its own. */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../message.h"
#include "../privilege.h"

/* 200 launches at once must all get a device (R-B3): the pauses between tries differ by process id, so that they do
 * not meet again and again. */
enum { TRIES = 64 };

static int privileged_open(const char *path, int flags)
{
    return PRIVILEGE_RAISED("open", PRIVILEGE_ROOT, open(path, flags | O_CLOEXEC | O_NOFOLLOW));
}

/* Some take a number where others take a pointer. */
static int privileged_ioctl(int fd, unsigned long command, uintptr_t argument)
{
    return PRIVILEGE_RAISED("ioctl of a loop device", PRIVILEGE_ROOT, syscall(SYS_ioctl, fd, command, argument));
}

static bool is_loop_device(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISBLK(status.st_mode) && major(status.st_rdev) == 7;
}

/* Is this device backed by our very file, in the same place? LOOP_GET_STATUS64 gives device and inode of the file
 * behind the device. A device could have been given away between two calls (autoclear), and the file that was judged
 * must be the one that is mounted (R-I3). */
static bool shows(int device, const struct loop_request *request)
{
    struct loop_info64 info;
    struct stat file;

    if (fstat(request->file, &file) < 0 || privileged_ioctl(device, LOOP_GET_STATUS64, (uintptr_t)&info) < 0)
        return false;
    return info.lo_device == file.st_dev && info.lo_inode == file.st_ino && info.lo_offset == request->offset &&
           info.lo_sizelimit == request->size && (info.lo_flags & LO_FLAGS_AUTOCLEAR) &&
           !(info.lo_flags & LO_FLAGS_READ_ONLY) == request->writable;
}

/* Two calls: between them the device shows the whole file from its start, which is why shows() is asked afterwards
 * and nothing is mounted before. */
static int configure_old(int device, const struct loop_config *config)
{
    struct loop_info64 info = config->info;
    int result = privileged_ioctl(device, LOOP_SET_FD, config->fd);

    if (result < 0 || privileged_ioctl(device, LOOP_SET_STATUS64, (uintptr_t)&info) == 0)
        return result;
    int number = errno;
    (void)privileged_ioctl(device, LOOP_CLR_FD, 0);
    errno = number;
    return -1;
}

/* LO_FLAGS_AUTOCLEAR (loop(4)): the kernel frees the device when its last user is gone, so that no way of dying
 * leaves one behind. */
static int configure(int device, const struct loop_request *request)
{
    struct loop_config config = {.fd = (uint32_t)request->file, .block_size = request->block};

    config.info.lo_offset = request->offset;
    config.info.lo_sizelimit = request->size;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (request->writable ? 0 : LO_FLAGS_READ_ONLY);
    int result = privileged_ioctl(device, LOOP_CONFIGURE, (uintptr_t)&config);
    if (result < 0 && (errno == EINVAL || errno == ENOTTY)) /* before Linux 5.8 */
        return configure_old(device, &config);
    return result;
}

/* A number made from the file's identity: launches of one image look there first, and share the device that one of them set up. */
static uint32_t first_number(const struct loop_request *request)
{
    struct stat file;

    if (!request->shared || fstat(request->file, &file) < 0)
        return 0;
    uint64_t mixed = (file.st_ino * UINT64_C(0x9e3779b97f4a7c15)) ^ (file.st_dev << 7) ^ (request->offset << 1);
    return (uint32_t)((mixed >> 32) % request->devices);
}

/* 1: this device is ours now, 0: somebody else's, -1: errno. The node is opened by number below /dev, which is
 * root's: never a name that a user gave. EBUSY is no failure: another launch was faster, and may even have set up the
 * very device that this one wants. */
static int try_number(int control, uint32_t number, const struct loop_request *request, struct loop *loop)
{
    snprintf(loop->path, sizeof loop->path, "/dev/loop%u", number);
    OWNED_FD device = privileged_open(loop->path, request->writable ? O_RDWR : O_RDONLY);
    if (device < 0 && errno == ENOENT) {
        if (privileged_ioctl(control, LOOP_CTL_ADD, number) < 0 && errno != EEXIST)
            return -1;
        device = privileged_open(loop->path, request->writable ? O_RDWR : O_RDONLY);
    }
    if (device < 0)
        return errno == ENXIO || errno == EBUSY ? 0 : -1;
    if (!is_loop_device(device)) {
        errno = ENOTBLK;
        return -1;
    }
    bool shared = request->shared && shows(device, request), busy = !shared && configure(device, request) < 0;
    if (busy && errno != EBUSY)
        return -1;
    if (busy && !request->shared)
        return 0;
    if (!shared && !shows(device, request)) {
        errno = EBADF;
        return busy ? 0 : -1;
    }
    loop->fd = fd_give(&device);
    return 1;
}

bool loop_attach(const struct loop_request *request, struct loop *loop)
{
    OWNED_FD control = privileged_open("/dev/loop-control", O_RDWR);
    uint32_t number = request->devices > 0 ? first_number(request) : 0;

    if (control < 0 || request->devices == 0) {
        errno = control < 0 ? errno : ENOSPC;
        return false;
    }
    for (uint32_t tries = 0; tries < TRIES || tries < request->devices; tries++) {
        bool meet = request->shared && tries < 4;
        int chosen = meet ? (int)((number + tries) % request->devices) : privileged_ioctl(control, LOOP_CTL_GET_FREE, 0);
        if (chosen >= (int)request->devices) {
            errno = ENOSPC;
            return false;
        }
        int result = chosen < 0 ? -1 : try_number(control, (uint32_t)chosen, request, loop);
        if (result != 0)
            return result > 0;
        if (tries > 8) { /* many launches at once take each other's devices: wait, each for another time */
            struct timespec pause = {.tv_nsec = 100000L * (1 + getpid() % 16)};
            (void)nanosleep(&pause, NULL);
        }
    }
    errno = EBUSY;
    return false;
}
