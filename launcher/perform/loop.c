/* Loop devices: a free one is asked for, configured in one call where the kernel can (LOOP_CONFIGURE, Linux 5.8), and verified to
 * show our file; and dm-verity on top of them. Each privileged call stands in a bracket of its own. */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
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
    return PRIVILEGE_RAISED("ioctl of a block device", PRIVILEGE_ROOT, syscall(SYS_ioctl, fd, command, argument));
}

static bool is_loop_device(int fd)
{
    struct stat status;
    bool known = fd >= 0 && fstat(fd, &status) == 0;

    errno = known ? ENOTBLK : errno;
    return known && S_ISBLK(status.st_mode) && major(status.st_rdev) == 7;
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
    return (uint32_t)((file.st_ino ^ file.st_dev) % request->devices);
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
    if (!is_loop_device(device))
        return errno == ENXIO || errno == EBUSY ? 0 : -1;
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

/* ---- dm-verity (the kernel's Documentation/admin-guide/device-mapper, linux/dm-ioctl.h) ---- */

/* libdevmapper's DM_UDEV_DISABLE_*, shifted: nobody else is to look at the device, or to name it. */
enum { UNSEEN = 0x000f << 16, SECTOR = 512 };

/* To the device mapper, with a table where there is one. */
struct command {
    struct dm_ioctl head;
    struct dm_target_spec target;
    char table[256];
};

/* By a copy, since the kernel writes its answer over it. */
static bool map(int control, const struct command *given, unsigned long number, uint32_t flags, uint64_t *device)
{
    struct command command = *given;

    command.head.flags |= flags;
    bool done = privileged_ioctl(control, number, (uintptr_t)&command) == 0;
    *device = command.head.dev;
    return done;
}

/* The mapped device is to be removed by the kernel when nobody has it open, from before it is used: no way of dying leaves one behind
 * but between the first call and the last. */
bool loop_seal(const struct seal *seal, struct loop *loop)
{
    struct command command = {.head = {.version = {DM_VERSION_MAJOR}, .data_size = sizeof command, .target_count = 1,
                                       .data_start = offsetof(struct command, target), .flags = DM_READONLY_FLAG, .event_nr = UNSEEN},
                              .target = {.length = seal->size / SECTOR, .target_type = "verity"}};
    struct stat below;
    uint64_t device, same;
    OWNED_FD control = privileged_open("/dev/mapper/control", O_RDWR);

    if (control < 0 || fstat(loop->fd, &below) < 0)
        return false;
    unsigned on = major(below.st_rdev), number = minor(below.st_rdev);
    snprintf(command.head.name, sizeof command.head.name, "singularity-%u-%d-%lx", number, (int)getpid(), (unsigned long)clock());
    snprintf(command.table, sizeof command.table, "1 %u:%u %u:%u %s", on, number, on, number, seal->table);
    if (!map(control, &command, DM_DEV_CREATE, 0, &device))
        return false;
    snprintf(loop->path, sizeof loop->path, "/dev/dm-%u", minor((dev_t)device));
    bool ready = map(control, &command, DM_TABLE_LOAD, 0, &same) && map(control, &command, DM_DEV_SUSPEND, 0, &same);
    OWNED_FD mapped = ready ? privileged_open(loop->path, O_RDONLY) : -1;
    int why = errno;
    bool removed = map(control, &command, DM_DEV_REMOVE, mapped >= 0 ? DM_DEFERRED_REMOVE : 0, &same);
    fd_close(&loop->fd);
    loop->fd = fd_give(&mapped);
    errno = why;
    return loop->fd >= 0 && removed;
}
