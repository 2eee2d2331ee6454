/* The image and the overlays of a launch: opened once, as the user, and locked while they are used. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

enum { LOCK_TRIES = 20 };

static bool overlay_writable(const struct request *request, uint32_t number)
{
    return !(request->overlay[number].number & OVERLAY_READONLY);
}

/* By identity: whatever it is called, and wherever else it is bound. */
static bool not_host_root(const struct image *image, const char *path, struct error *error)
{
    struct stat root;

    return (stat("/", &root) == 0 && (root.st_dev != image->device || root.st_ino != image->inode)) ||
           error_set(error, 0, "%.500s is the host's root directory: it cannot be part of a container", path);
}

static bool overlay_open(const struct request *request, uint32_t number, struct image *overlay, struct error *error)
{
    const char *path = request->overlay[number].first;
    struct error found = {0};

    if (!image_open(path, overlay_writable(request, number), overlay, &found))
        return error_set(error, 0, "overlay %s", found.text);
    return not_host_root(overlay, path, error);
}

bool images_open(const struct request *request, struct images *images, struct error *error)
{
    if (!image_open(request->image, request->writable, &images->image, error) ||
        !not_host_root(&images->image, request->image, error))
        return false;
    if (request->overlay_count > IMAGES_OVERLAYS)
        return error_set(error, 0, "more than %d overlays", IMAGES_OVERLAYS);
    for (uint32_t i = 0; i < request->overlay_count; i++)
        if (!overlay_open(request, i, &images->overlays[i], error))
            return false;
    return true;
}

/* Squashfs is never written, so its readers need no lock. ext may be written by a second launch while the kernel has
 * it mounted, and a file system that changes under the kernel is how its bugs are reached (R-I2, R-I4). */
static bool is_locked(const struct image *image)
{
    return image->root.filesystem == FILESYSTEM_EXT || image->overlay_count > 0;
}

bool images_are_locked(const struct request *request, const struct images *images)
{
    bool any = is_locked(&images->image);

    for (uint32_t i = 0; i < request->overlay_count; i++)
        any |= is_locked(&images->overlays[i]);
    return any;
}

/* Who has the lock that is in the way: for a lock of an open file has no process (fcntl_locking(2)), each holder has a second one, on
 * a byte where no file has any. Which byte says where its process has its number, as the front door knows (lock_place), and the
 * number. singularity/locks.py does the same. */
static bool in_use(int fd, const char *path, bool writable, uint64_t here, struct error *error)
{
    struct flock mark = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)IMAGE_MARKS};
    char by[64] = "";

    if (fcntl(fd, F_OFD_GETLK, &mark) == 0 && mark.l_type != F_UNLCK && (uint64_t)mark.l_start >= IMAGE_MARKS)
        snprintf(by, sizeof by, (uint64_t)mark.l_start / IMAGE_PROCESSES == here / IMAGE_PROCESSES ? " by process %u" :
                 " on another machine, or from another container", (unsigned)((uint64_t)mark.l_start % IMAGE_PROCESSES));
    return error_set(error, 0, writable ? "%.500s is in use%s: it can be written by one container at a time, and only when none reads it"
                                        : "%.500s is being written%s", path, by);
}

/* Half a second, in steps of 25 ms: the launch before may just be ending, and a second writer is to be told within
 * one (R-I2). */
bool image_lock(int fd, const char *path, bool writable, uint64_t holder, struct error *error)
{
    const struct timespec pause = {.tv_nsec = 25000000};
    struct flock range = {.l_type = (short)(writable ? F_WRLCK : F_RDLCK), .l_whence = SEEK_SET, .l_len = (off_t)IMAGE_MARKS};

    /* of the open file, as flock(2), but only who can write an image can keep its readers out (Linux 3.15) */
    for (int tries = 0; fcntl(fd, F_OFD_SETLK, &range) < 0; tries++) {
        bool held = errno == EAGAIN || errno == EACCES;
        if (!held && !writable)
            return true; /* a file system without locks: nobody can lock it for writing either */
        if (!held)
            return error_set(error, errno, "%.500s cannot be locked for writing, and nothing else would keep a second writer out (Lustre "
                             "needs the mount option flock, NFS its lock service; a local disk has locks)", path);
        if (tries == LOCK_TRIES)
            return in_use(fd, path, writable, holder, error);
        (void)nanosleep(&pause, NULL);
    }
    range = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = (off_t)holder, .l_len = 1};
    (void)fcntl(fd, F_OFD_SETLK, &range);
    return true;
}

bool images_lock(const struct request *request, const struct images *images, pid_t process, struct error *error)
{
    uint64_t holder = IMAGE_HOLDER(request->lock_place, process);

    if (is_locked(&images->image) && !image_lock(images->image.fd, request->image, request->writable, holder, error))
        return false;
    for (uint32_t i = 0; i < request->overlay_count; i++)
        if (is_locked(&images->overlays[i]) &&
            !image_lock(images->overlays[i].fd, request->overlay[i].first, overlay_writable(request, i), holder, error))
            return false;
    return true;
}
