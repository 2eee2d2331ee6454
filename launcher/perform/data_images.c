/* Images whose directories are bound into a container: opened as the user, served through FUSE. No privilege, and not in the setuid
 * program. */
#include "data_images.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../image/bytes.h"
#include "../inside.h"

/* As in image/sif.c, which looks for what can be launched. */
enum { HEADER_SIZE = 128, MAGIC_AT = 32, DESCRIPTOR_SIZE = 585, EXTRA_AT = 201, DESCRIPTOR_LIMIT = 4096 };
enum { TYPE_PARTITION = 0x4004, PARTITION_PRIMARY = 2, PARTITION_DATA = 3 };

static bool filesystem_at(int fd, uint64_t offset, uint64_t size, struct partition *partition, struct error *error)
{
    static enum verdict (*const kinds[])(int, uint64_t, uint64_t, struct partition *, struct error *) = {
        squashfs_recognise, ext_recognise, erofs_recognise};

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        enum verdict verdict = kinds[i](fd, offset, size, partition, error);
        if (verdict != VERDICT_OTHER)
            return verdict == VERDICT_YES;
    }
    return error_set(error, 0, "no squashfs, ext3 or EROFS file system at byte %llu", (unsigned long long)offset);
}

/* The partition with this id; without one the first that holds data, or else the root file system. */
static bool sif_partition(int fd, uint64_t size, const uint8_t *header, uint64_t id, struct partition *partition, struct error *error)
{
    uint8_t entry[DESCRIPTOR_SIZE];
    uint64_t count = le64(header + 88), table = le64(header + 96), offset = 0, length = 0;
    uint32_t best = 0;

    for (uint64_t i = 0; i < count && i < DESCRIPTOR_LIMIT && best != PARTITION_DATA; i++) {
        if (table > size || !bytes_read(fd, 0, size, table + i * DESCRIPTOR_SIZE, entry, sizeof entry))
            return error_set(error, 0, "the table of objects of the SIF cannot be read");
        uint32_t use = le32(entry + EXTRA_AT + 4);
        bool wanted = id > 0 ? le32(entry + 5) == id : use == PARTITION_DATA || (use == PARTITION_PRIMARY && best == 0);
        if (entry[4] == 0 || le32(entry) != TYPE_PARTITION || !wanted)
            continue;
        best = id > 0 ? PARTITION_DATA : use;
        offset = le64(entry + 17);
        length = le64(entry + 25);
    }
    if (best == 0)
        return error_set(error, 0, id > 0 ? "no partition %llu in this SIF (singularity sif list shows which there are)"
                                          : "no partition with data in this SIF", (unsigned long long)id);
    if (offset > size || length > size - offset)
        return error_set(error, 0, "the partition ends after the file: incomplete download? (get it again)");
    return filesystem_at(fd, offset, length, partition, error);
}

static bool recognise(int fd, uint64_t size, const struct request_entry *wanted, struct partition *partition, struct error *error)
{
    struct image image = {.fd = fd};
    struct error reason = {0};
    uint8_t header[HEADER_SIZE];

    if (size >= HEADER_SIZE && bytes_read(fd, 0, size, 0, header, sizeof header) && memcmp(header + MAGIC_AT, "SIF_MAGIC", 10) == 0)
        return sif_partition(fd, size, header, wanted->number, partition, &reason) ||
               error_set(error, 0, "%.500s: %s", wanted->first, reason.text);
    if (wanted->number > 0)
        return error_set(error, 0, "%.500s: id=%llu: only SIF files have numbered parts", wanted->first, (unsigned long long)wanted->number);
    if (!image_recognise(fd, size, wanted->first, &image, error))
        return false;
    *partition = image.root;
    return true;
}

/* O_NONBLOCK and O_NOCTTY: what may be there in place of a file does not make this process wait, nor becomes its terminal. */
static void open_part(struct part *part, const struct request_entry *wanted, const struct request *request)
{
    struct error error = {0};
    struct stat status;

    part->source = wanted->first;
    part->way = WAY_FUSE;
    part->fd = host_open(wanted->first, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (part->fd < 0 || fstat(part->fd, &status) < 0)
        stop(errno, "data image %s", wanted->first);
    if (!S_ISREG(status.st_mode))
        stop(0, "%s: no file of an image (a directory is bound without image-src, id and --data)", wanted->first);
    if (!recognise(part->fd, (uint64_t)status.st_size, wanted, &part->partition, &error) ||
        (part->partition.filesystem == FILESYSTEM_EXT &&
         !image_lock(part->fd, wanted->first, false, IMAGE_HOLDER(request->lock_place, getpid()), &error)))
        stop(error.number, "%s", error.text);
}

/* Before the first step that is to be mounted in it. */
static void put_before_inner(struct plan *plan)
{
    uint32_t last = plan->step_count - 1, place = 0;
    struct step step = plan->steps[last];
    size_t length = strlen(step.target);

    while (place < last && !(strncmp(plan->steps[place].target, step.target, length) == 0 && plan->steps[place].target[length] == '/'))
        place++;
    memmove(&plan->steps[place + 1], &plan->steps[place], (last - place) * sizeof step);
    plan->steps[place] = step;
}

void data_images_open(struct data_images *data, struct plan *plan, const struct plan_inputs *inputs)
{
    const struct request *request = inputs->request;

    if (request_enters(request) || request->data_count < 2 || request->action == ACTION_LINGER)
        return;
    if (plan->binds_ignored || (!inputs->config->user_bind_control && inputs->caller->uid != 0)) {
        message_warning("%s: ignored, not allowed here (\"user bind control = no\" in %s)", request->data[0].first, inputs->config->path);
        return;
    }
    for (uint32_t i = 0; i + 1 < request->data_count && data->count < DATA_IMAGES; i += 2) {
        const struct request_entry *shown = &request->data[i + 1];
        struct error error = {0};
        open_part(&data->parts[data->count], &request->data[i], request);
        if (!facts_signature(&data->parts[data->count], plan, inputs, &error))
            stop(0, "%s", error.text);
        struct step *step = plan_add(plan, STEP_BIND, request->data[i].first, shown->second, STEP_NODEV | STEP_READONLY | STEP_IN_IMAGE,
                                     plan_text(plan, "%s of this image", shown->first));
        step->missing_source = step->missing_target = LOSS_STOP;
        data->inside[data->count] = shown->first;
        data->target[data->count++] = shown->second;
        put_before_inner(plan);
    }
    plan->data = data;
}

void data_images_prepare(const struct plan *plan)
{
    for (uint32_t i = 0; plan->data != NULL && !plan->dry && i < plan->data->count; i++)
        fuse_prepare_part(&plan->data->parts[i], NULL, &plan->data->servers[i]);
}

static int mounted(const struct stage *stage, const struct data_images *data, uint32_t number, struct fuse *server)
{
    const uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY;
    const struct part *part = &data->parts[number];
    char name[32];

    snprintf(name, sizeof name, "data%u", number);
    OWNED_FD tree = fuse_mount(&stage->session, part, server);
    OWNED_FD place = session_entry(&stage->session, name, true, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    if (mount_attach(tree, place) < 0 || mount_restrict(tree, attributes) < 0)
        stop(errno, "attach %s", part->source);
    int source = inside_open(tree, data->inside[number], O_PATH);
    if (source < 0)
        stop(errno, "%s in %s (%s)", data->inside[number], part->source, "bound by image-src");
    return source;
}

void data_images_find(struct plan *plan, const struct stage *stage)
{
    struct stat status;

    for (uint32_t i = 0; plan->data != NULL && i < plan->data->count; i++)
        for (struct step *step = plan->steps; step < plan->steps + plan->step_count; step++) {
            if (!(step->flags & STEP_IN_IMAGE) || step->source != plan->data->parts[i].source || step->target != plan->data->target[i])
                continue;
            fd_close(&step->facts.source_fd);
            step->facts.source_fd = mounted(stage, plan->data, i, &plan->data->servers[i]);
            if (fstat(step->facts.source_fd, &status) < 0)
                stop(errno, "%s", step->source);
            step->facts.source_type = status.st_mode & S_IFMT;
        }
}
