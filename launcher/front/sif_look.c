/* What the descriptors of a SIF file tell the front door: that its root file system is encrypted, so that Python must have it decrypted
 * first, that names have been removed from it, or that it lies on a base (base.c). Read as the user; whatever is wrong with the file is
 * told by whoever launches it. */
#include "front.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../image/bytes.h"

/* As in image/sif.c; file systems 5 (LUKS) and 6 (gocryptfs) are encrypted. The name of an object has 128 bytes. AT_ONCE: descriptors that
 * are read together. */
enum { HEADER_SIZE = 128, MAGIC_AT = 32, DESCRIPTOR_SIZE = 585, NAME_AT = 73, EXTRA_AT = 201, DESCRIPTOR_LIMIT = 4096, AT_ONCE = 8 };
enum { TYPE_PARTITION = 0x4004, TYPE_JSON = 0x4006, PARTITION_PRIMARY = 2, PARTITION_OVERLAY = 4, ENCRYPTED_LUKS = 5, ENCRYPTED_GOCRYPTFS = 6 };
static const char removed_names[] = "removed-names.json"; /* singularity/image/removed.py */

/* "base:sha256:" and 64 digits (singularity/image/base.py); nothing else is a name of a file of records. */
static void take_base(const uint8_t *entry, struct sif_look *look)
{
    static const char mark[] = "base:sha256:";
    const char *name = (const char *)entry + NAME_AT;
    size_t length = sizeof mark - 1;

    if (memcmp(name, mark, length) != 0)
        return;
    memcpy(look->base, name + length, BASE_DIGITS);
    look->base[BASE_DIGITS] = '\0';
    if (strspn(look->base, "0123456789abcdef") != BASE_DIGITS || name[length + BASE_DIGITS] != '\0')
        look->senseless = true, look->base[0] = '?';
}

static void take_entry(const uint8_t *entry, struct sif_look *look)
{
    uint32_t type = le32(entry), filesystem = le32(entry + EXTRA_AT), use = le32(entry + EXTRA_AT + 4);

    if (entry[4] == 0) /* not used */
        return;
    look->lacks_names |= type == TYPE_JSON && memcmp(entry + NAME_AT, removed_names, sizeof removed_names) == 0;
    look->senseless |= type == TYPE_PARTITION && use == PARTITION_OVERLAY;
    if (type != TYPE_PARTITION || use != PARTITION_PRIMARY)
        return;
    look->encrypted = filesystem == ENCRYPTED_LUKS || filesystem == ENCRYPTED_GOCRYPTFS;
    take_base(entry, look);
}

void sif_look(const char *name, struct sif_look *look)
{
    uint8_t header[HEADER_SIZE], entries[AT_ONCE * DESCRIPTOR_SIZE] = {0};
    struct stat status;
    OWNED_FD fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    *look = (struct sif_look){.encrypted = false};
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) ||
        !bytes_read(fd, 0, (uint64_t)status.st_size, 0, header, sizeof header) || memcmp(header + MAGIC_AT, "SIF_MAGIC", 10) != 0)
        return;
    uint64_t size = (uint64_t)status.st_size, count = le64(header + 88), table = le64(header + 96);
    for (uint64_t i = 0; i < count && i < DESCRIPTOR_LIMIT; i += AT_ONCE) {
        uint64_t more = count - i < AT_ONCE ? count - i : AT_ONCE;
        if (table > size || !bytes_read(fd, table, size - table, i * DESCRIPTOR_SIZE, entries, more * DESCRIPTOR_SIZE))
            return;
        for (uint64_t each = 0; each < more; each++)
            take_entry(entries + each * DESCRIPTOR_SIZE, look);
    }
}
