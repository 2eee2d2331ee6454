/* The launch request as bytes, and the sealed memory in which it is handed from program to program. */
#include "request.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "descriptor.h"

static const uint8_t magic[4] = {'S', 'G', 'R', 'Q'};
/* the layout stands in request.h */
enum { HEADER_SIZE = 16, FIELD_HEADER_SIZE = 8, ENTRY_HEADER_SIZE = 12 };

/* ---- bytes out ---- */

struct writer {
    uint8_t *bytes;
    size_t size;
    size_t used;
    uint32_t fields;
    bool full;
};

/* Nothing is written past the end; that it was full is asked once, at the end. */
static void write_number(struct writer *writer, uint64_t value, size_t width)
{
    if (writer->full || writer->size - writer->used < width) {
        writer->full = true;
        return;
    }
    for (size_t i = 0; i < width; i++)
        writer->bytes[writer->used++] = (uint8_t)(value >> (8 * i));
}

static void write_bytes(struct writer *writer, const void *bytes, size_t length)
{
    if (writer->full || writer->size - writer->used < length) {
        writer->full = true;
        return;
    }
    memcpy(writer->bytes + writer->used, bytes, length);
    writer->used += length;
}

static void write_field(struct writer *writer, uint16_t tag, size_t length)
{
    write_number(writer, tag, 2);
    write_number(writer, 0, 2);
    write_number(writer, length, 4);
    writer->fields++;
}

static bool text_fits(const char *text, struct error *error)
{
    return strlen(text) < PATH_MAX || error_set(error, ENAMETOOLONG, "%.60s...", text);
}

static bool write_text(struct writer *writer, uint16_t tag, const char *text, struct error *error)
{
    if (text == NULL)
        return true;
    if (!text_fits(text, error))
        return false;
    write_field(writer, tag, strlen(text));
    write_bytes(writer, text, strlen(text));
    return true;
}

static bool write_list(struct writer *writer, uint16_t tag, const struct request_entry *list, uint32_t count,
                       struct error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *first = list[i].first != NULL ? list[i].first : "";
        const char *second = list[i].second != NULL ? list[i].second : "";
        if (!text_fits(first, error) || !text_fits(second, error))
            return false;
        write_field(writer, tag, ENTRY_HEADER_SIZE + strlen(first) + strlen(second));
        write_number(writer, list[i].number, 8);
        write_number(writer, strlen(first), 4);
        write_bytes(writer, first, strlen(first));
        write_bytes(writer, second, strlen(second));
    }
    return true;
}

/* What is empty is not written, so that a request has one form only: request_decode() refuses flags with a value,
 * numbers that are 0 and fields out of order. A fuzz target holds it to that: what decodes must encode to the same
 * bytes. */
static bool write_fields(struct writer *writer, const struct request *request, struct error *error)
{
#define REQUEST_FLAG(tag, member) \
    if (request->member) \
        write_field(writer, tag, 0);
#define REQUEST_NUMBER(tag, member) \
    if (request->member != 0) { \
        write_field(writer, tag, 8); \
        write_number(writer, request->member, 8); \
    }
#define REQUEST_TEXT(tag, member) \
    if (!write_text(writer, tag, request->member, error)) \
        return false;
#define REQUEST_LIST(tag, member, limit) \
    if (!write_list(writer, tag, request->member, request->member##_count, error)) \
        return false;
#include "request.def"
#undef REQUEST_FLAG
#undef REQUEST_NUMBER
#undef REQUEST_TEXT
#undef REQUEST_LIST
    return true;
}

/* The fields first, then the header, which has their number and length. */
size_t request_encode(const struct request *request, uint8_t *bytes, size_t size, struct error *error)
{
    struct writer writer = {.bytes = bytes, .size = size < REQUEST_LIMIT ? size : REQUEST_LIMIT, .used = HEADER_SIZE};

    if (writer.size < HEADER_SIZE || !write_fields(&writer, request, error)) {
        error_set(error, ENOBUFS, "launch request");
        return 0;
    }
    if (writer.full) {
        error_set(error, 0, "the options of this launch are longer than %d bytes together", REQUEST_LIMIT);
        return 0;
    }
    struct writer header = {.bytes = bytes, .size = HEADER_SIZE};
    write_bytes(&header, magic, sizeof magic);
    write_number(&header, REQUEST_VERSION, 4);
    write_number(&header, writer.used, 4);
    write_number(&header, writer.fields, 4);
    return writer.used;
}

/* ---- bytes in ---- */

struct reader {
    const uint8_t *bytes;
    size_t size;
    size_t used;
    struct request *request;
    size_t text_used;
    uint16_t last_tag;
};

/* Little-endian by hand: both sides are of one build, but bytes that may be forged are nothing to cast to a structure
 * (R-L11). */
static uint64_t read_number(const uint8_t *bytes, size_t width)
{
    uint64_t value = 0;

    for (size_t i = 0; i < width; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

/* A copy with a terminator in the request's own store; NULL when it is too long or holds a NUL. PATH_MAX and NUL are
 * refused for every text, whatever it is for: what the kernel would not take as a path is not looked at further
 * (R-L11). */
static const char *keep_text(struct reader *reader, const uint8_t *bytes, size_t length)
{
    if (length >= PATH_MAX || memchr(bytes, '\0', length) != NULL ||
        sizeof reader->request->text_store - reader->text_used <= length)
        return NULL;
    char *text = reader->request->text_store + reader->text_used;
    memcpy(text, bytes, length);
    text[length] = '\0';
    reader->text_used += length + 1;
    return text;
}

/* Two texts share one length: the first has its own, what is left is the second. It is checked before it is
 * subtracted. */
static bool read_entry(struct reader *reader, const uint8_t *value, size_t length, struct request_entry *entry)
{
    if (length < ENTRY_HEADER_SIZE)
        return false;
    size_t first = (size_t)read_number(value + 8, 4);
    size_t texts = length - ENTRY_HEADER_SIZE;
    if (first > texts)
        return false;
    entry->number = read_number(value, 8);
    entry->first = keep_text(reader, value + ENTRY_HEADER_SIZE, first);
    entry->second = keep_text(reader, value + ENTRY_HEADER_SIZE + first, texts - first);
    return entry->first != NULL && entry->second != NULL;
}

/* The table of request.def once more, now from bytes; what is not in it is refused (R-L11: unknown fields). A text or
 * number given twice is refused too, or two readers could see two requests. */
static bool read_value(struct reader *reader, uint16_t tag, const uint8_t *value, size_t length)
{
    struct request *request = reader->request;
    bool again = tag == reader->last_tag;

    switch (tag) {
#define REQUEST_FLAG(number, member) \
    case number: \
        request->member = true; \
        return length == 0 && !again;
#define REQUEST_NUMBER(number, member) \
    case number: \
        if (length != 8 || again) \
            return false; \
        request->member = read_number(value, 8); \
        return request->member != 0;
#define REQUEST_TEXT(number, member) \
    case number: \
        request->member = keep_text(reader, value, length); \
        return request->member != NULL && !again;
#define REQUEST_LIST(number, member, limit) \
    case number: \
        return request->member##_count < (limit) && \
               read_entry(reader, value, length, &request->member[request->member##_count++]);
#include "request.def"
#undef REQUEST_FLAG
#undef REQUEST_NUMBER
#undef REQUEST_TEXT
#undef REQUEST_LIST
    default:
        return false;
    }
}

/* Tags may not fall: a sorted request has one form, and doubles stand side by side. */
static bool read_field(struct reader *reader)
{
    if (reader->size - reader->used < FIELD_HEADER_SIZE)
        return false;
    const uint8_t *field = reader->bytes + reader->used;
    uint16_t tag = (uint16_t)read_number(field, 2);
    size_t length = (size_t)read_number(field + 4, 4);
    reader->used += FIELD_HEADER_SIZE;
    if (read_number(field + 2, 2) != 0 || tag < reader->last_tag || reader->size - reader->used < length)
        return false;
    if (!read_value(reader, tag, reader->bytes + reader->used, length))
        return false;
    reader->used += length;
    reader->last_tag = tag;
    return true;
}

/* Exactly `size` bytes, no more and no less: what follows the last field would be read by nobody and could be
 * anything. */
bool request_decode(const uint8_t *bytes, size_t size, struct request *request, struct error *error)
{
    struct reader reader = {.bytes = bytes, .size = size, .used = HEADER_SIZE, .request = request};

    if (size < HEADER_SIZE || size > REQUEST_LIMIT || memcmp(bytes, magic, sizeof magic) != 0)
        return error_set(error, 0, "this is no launch request (run singularity, not the starter itself)");
    if (read_number(bytes + 4, 4) != REQUEST_VERSION)
        return error_set(error, 0, "launch request of another version (singularity and its starter differ: reinstall)");
    if (read_number(bytes + 8, 4) != size)
        return error_set(error, 0, "launch request of a wrong length");
    for (uint64_t fields = read_number(bytes + 12, 4); fields > 0; fields--)
        if (!read_field(&reader))
            return error_set(error, 0, "launch request: unusable field at byte %zu", reader.used);
    if (reader.used != size)
        return error_set(error, 0, "launch request: bytes after the last field");
    if (request->action >= ACTION_COUNT)
        return error_set(error, 0, "launch request: unknown action");
    return true;
}

const char *library_option(uint64_t number)
{
    static const char *const options[LIBRARY_OPTION + 1] = {[LIBRARY_NV] = "--nv", [LIBRARY_ROCM] = "--rocm",
                                                            [LIBRARY_FABRIC] = "--fabric", [LIBRARY_MPI] = "--mpi"};
    const char *option = options[number & LIBRARY_OPTION];

    return option != NULL ? option : "host libraries";
}

/* ---- handing over ---- */

static uint8_t buffer[REQUEST_LIMIT]; /* too large for a stack that may be limited */

/* memfd_create(2) and seals: once F_SEAL_WRITE is set nobody can change what the starter reads between its check and
 * its use, not even who made it. Not a pipe, which would need a second process for a request that is longer than its
 * buffer. The file is anonymous: nothing is left to remove. */
int request_send(const struct request *request, struct error *error)
{
    size_t size = request_encode(request, buffer, sizeof buffer, error);
    OWNED_FD fd = -1;

    if (size == 0)
        return -1;
    fd = memfd_create("launch request", MFD_ALLOW_SEALING);
    if (fd < 0 || !fd_write(fd, buffer, size) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        error_set(error, errno, "launch request");
        return -1;
    }
    return fd_give(&fd);
}

/* Seals are asked for before a byte is read (R-L11): without them the caller could still write. Only then are its
 * size and bytes a fact. A descriptor of another kind has no seals, and fails here. */
bool request_receive(int number, struct request *request, struct error *error)
{
    OWNED_FD fd = number;
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat status;

    if (seals < 0 || (seals & (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW))
        return error_set(error, 0, "this is no launch request (run singularity, not the starter itself)");
    if (fstat(fd, &status) < 0 || status.st_size < 0 || status.st_size > REQUEST_LIMIT)
        return error_set(error, 0, "launch request of a wrong length");
    size_t size = (size_t)status.st_size;
    if (pread(fd, buffer, size, 0) != (ssize_t)size)
        return error_set(error, errno, "launch request");
    return request_decode(buffer, size, request, error);
}
