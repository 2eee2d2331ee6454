/* Whether an image's root file system is encrypted, so that Python must have it decrypted first: by the descriptors of a SIF file, read
 * as the user. Whatever is wrong with the file is told by whoever launches it. */
#include "front.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../image/bytes.h"

/* As in image/sif.c; file systems 5 (LUKS) and 6 (gocryptfs) are encrypted. */
enum { HEADER_SIZE = 128, MAGIC_AT = 32, DESCRIPTOR_SIZE = 585, EXTRA_AT = 201, ENTRY_SIZE = EXTRA_AT + 8, DESCRIPTOR_LIMIT = 4096 };
enum { TYPE_PARTITION = 0x4004, PARTITION_PRIMARY = 2, ENCRYPTED_LUKS = 5, ENCRYPTED_GOCRYPTFS = 6 };

bool image_is_encrypted(const char *name)
{
    uint8_t header[HEADER_SIZE], entry[ENTRY_SIZE];
    struct stat status;
    OWNED_FD fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) ||
        !bytes_read(fd, 0, (uint64_t)status.st_size, 0, header, sizeof header) || memcmp(header + MAGIC_AT, "SIF_MAGIC", 10) != 0)
        return false;
    uint64_t size = (uint64_t)status.st_size, count = le64(header + 88), table = le64(header + 96);
    for (uint64_t i = 0; i < count && i < DESCRIPTOR_LIMIT; i++) {
        if (table > size || !bytes_read(fd, table, size - table, i * DESCRIPTOR_SIZE, entry, sizeof entry))
            return false;
        uint32_t filesystem = le32(entry + EXTRA_AT);
        if (entry[4] != 0 && le32(entry) == TYPE_PARTITION && le32(entry + EXTRA_AT + 4) == PARTITION_PRIMARY)
            return filesystem == ENCRYPTED_LUKS || filesystem == ENCRYPTED_GOCRYPTFS;
    }
    return false;
}
