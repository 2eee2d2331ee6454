/* What each call means for the files that it names, and what has to be known of them before it is made: what is about to change, and has
 * been read or is kept in part, is read now, for nobody will be able to later. */
#include "parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../descriptor.h"
#include "../signature/signature.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

/* ---- what is known of a file of the host by now: a number for its path, and in the last bits: */

enum { KNOWN_READ = 1, KNOWN_WRITTEN = 2, KNOWN_DIGEST = 4, KNOWN_BITS = 7, FEWEST = 1 << 12, MOST = 1 << 22 };

static uint64_t *table;
static size_t table_size, table_used;

/* FNV-1a, of 64 bits. */
static uint64_t number_of(const char *text)
{
    uint64_t number = 0xcbf29ce484222325;

    for (; *text != '\0'; text++)
        number = (number ^ (uint8_t)*text) * 0x100000001b3;
    return (number | 8) & ~(uint64_t)KNOWN_BITS;
}

static uint64_t *slot(uint64_t *slots, size_t size, uint64_t number)
{
    size_t at = (number >> 8) % size;

    while (slots[at] != 0 && (slots[at] & ~(uint64_t)KNOWN_BITS) != number)
        at = (at + 1) % size;
    return &slots[at];
}

/* False: it is as large as it gets, and what is new is no longer known when it is met again. */
static bool table_grow(void)
{
    size_t size = table_size == 0 ? FEWEST : 2 * table_size;
    uint64_t *larger = size <= MOST ? calloc(size, sizeof *larger) : NULL;

    if (larger == NULL)
        return false;
    for (size_t i = 0; i < table_size; i++)
        if (table[i] != 0)
            *slot(larger, size, table[i] & ~(uint64_t)KNOWN_BITS) = table[i];
    free(table);
    table = larger;
    table_size = size;
    return true;
}

/* What is known of this text, to be changed; what there was no room for is forgotten at once. */
static uint64_t *known(const char *text)
{
    static uint64_t nothing;
    uint64_t number = number_of(text);

    if (2 * table_used >= table_size && !table_grow() && 8 * table_used >= 7 * table_size)
        return nothing = number, &nothing;
    uint64_t *found = slot(table, table_size, number);
    table_used += *found == 0;
    *found = number | (*found & KNOWN_BITS);
    return found;
}

/* Of what may come a thousand times, the first. */
static bool is_new(const char *text)
{
    uint64_t *found = known(text);
    bool was = *found & KNOWN_READ;

    *found |= KNOWN_READ;
    return !was;
}

static void log_gap(const char *text)
{
    if (is_new(text))
        log_words(LOG_GAP, text, "", "");
}

/* ---- one call ---- */

static void note_read(const struct place *place)
{
    uint64_t *found = known(place->host);

    if (!(*found & KNOWN_BITS))
        log_place(LOG_READ, place, "");
    *found |= *found & KNOWN_WRITTEN ? 0 : KNOWN_READ;
}

/* What is about to change. `kept`: what is there stays in part. */
static void note_change(struct question *question, const struct place *place, bool kept)
{
    uint64_t *found = known(place->host);
    bool content = place->there && S_ISREG(place->status.st_mode) && place->status.st_size > 0;

    if (content && !(*found & (KNOWN_WRITTEN | KNOWN_DIGEST)) && (kept || (*found & KNOWN_READ))) {
        *found |= KNOWN_DIGEST;
        question->before[question->before_count++] = place;
    }
}

static void note_write(struct question *question, const struct place *place, bool kept)
{
    note_change(question, place, kept);
    uint64_t *found = known(place->host);
    if (!(*found & KNOWN_WRITTEN))
        log_place(LOG_WRITE, place, "");
    *found |= KNOWN_WRITTEN;
}

/* The path in its memory; with AT_EMPTY_PATH in `flags` none may be there, and what is open as `directory` is meant. True: it is there, or
 * with `making` its directory. */
static bool find_any(const struct question *question, int directory, uint64_t address, bool named, bool making, int flags, struct place *place)
{
    static char path[PATH_MAX];

    if (!look_text(&question->who, address, path)) {
        if (errno == EPERM)
            log_gap("a process that its user may not look into (its program cannot be read)");
        return false;
    }
    if (*path == '\0' && (flags & AT_EMPTY_PATH))
        return look_descriptor(&question->who, directory, place);
    return look_place(&question->who, directory, path, named, making, place);
}

static bool find(const struct question *question, int directory, uint64_t address, bool named, bool making, struct place *place)
{
    return find_any(question, directory, address, named, making, 0, place) && place->outside;
}

/* ---- calls ---- */

static void answer_open(struct question *question, int directory, uint64_t path, uint64_t flags)
{
    struct place *place = &question->place;
    bool makes = flags & O_CREAT, alone = makes && (flags & O_EXCL), shortens = flags & O_TRUNC;
    uint64_t access = flags & O_ACCMODE;

    if ((flags & O_PATH) || (flags & O_TMPFILE) == O_TMPFILE || !find(question, directory, path, alone || (flags & O_NOFOLLOW), makes, place) ||
        (place->there && (alone || S_ISLNK(place->status.st_mode))))
        return;
    bool writes = access != O_RDONLY || shortens || !place->there;
    if (place->there && !shortens)
        note_read(place);
    if (writes && !(place->there && !S_ISREG(place->status.st_mode)))
        note_write(question, place, !shortens);
}

static void answer_openat2(struct question *question)
{
    struct open_how how;

    if (look_memory(&question->who, question->arguments[2], &how, sizeof how))
        answer_open(question, (int)question->arguments[0], question->arguments[1], how.flags);
}

/* The variables that the container gives its first program, which executes it from here. */
static void note_variables(const struct question *question, uint64_t list)
{
    static char text[PATH_MAX * 32 + 1];
    const size_t size = question->who.compatible ? sizeof(uint32_t) : sizeof(uint64_t);

    for (uint64_t at = list, variable = 0; look_memory(&question->who, at, &variable, size) && variable != 0; at += size, variable = 0) {
        size_t used = 0;
        while (used < sizeof text - PATH_MAX && !look_text(&question->who, variable + used, text + used))
            used += PATH_MAX;
        text[sizeof text - 1] = '\0';
        log_words(LOG_VARIABLE, text, "", "");
    }
}

/* Whether it is executed for the first time: what it needs has been noted then. */
static bool is_new_program(const struct place *program)
{
    const struct stat *status = &program->status;
    char text[128];

    snprintf(text, sizeof text, "program %llu %llu %lld %lld %ld", (unsigned long long)status->st_dev, (unsigned long long)status->st_ino,
             (long long)status->st_size, (long long)status->st_ctim.tv_sec, status->st_ctim.tv_nsec);
    return is_new(text);
}

/* The program, and what the kernel opens with it: interpreters, which may be scripts themselves, and the loader. */
static void note_program(struct question *question)
{
    enum { DEEPEST = 6 }; /* the kernel takes five interpreters, and one of them has a loader */
    static char path[PATH_MAX];
    struct place *program = &question->place, *next = &question->other;

    for (int depth = 0; depth <= DEEPEST; depth++) {
        if (program->outside && S_ISREG(program->status.st_mode))
            note_read(program);
        if (!is_new_program(program) || !program_needs(program, path) || !look_place(&question->who, AT_FDCWD, path, false, false, next))
            return;
        struct place *last = program;
        program = next;
        next = last;
    }
}

static void answer_execute(struct question *question, int directory, uint64_t path, uint64_t variables, uint64_t flags)
{
    static bool noted;

    if (!noted && question->begins) {
        noted = true;
        note_variables(question, variables);
    }
    if (path != 0 && find_any(question, directory, path, flags & AT_SYMLINK_NOFOLLOW, false, (int)flags, &question->place))
        note_program(question);
}

static void answer_rename(struct question *question, int from, uint64_t old, int to, uint64_t new, uint64_t flags)
{
    struct place *source = &question->place, *target = &question->other;

    if (!find(question, from, old, true, false, source) || !find(question, to, new, true, true, target))
        return;
    if (flags & RENAME_EXCHANGE) {
        note_write(question, source, true);
        note_write(question, target, true);
        return;
    }
    if (!S_ISDIR(source->status.st_mode))
        note_read(source);
    note_change(question, target, false);
    log_move(source, target);
    uint64_t bits = *known(source->host) & KNOWN_BITS; /* what was read and has another name is still to be read before it changes */
    *known(source->host) &= ~(uint64_t)KNOWN_BITS;
    uint64_t *found = known(target->host);
    *found = (*found & ~(uint64_t)KNOWN_BITS) | (bits != 0 ? bits : KNOWN_WRITTEN);
}

static void answer_remove(struct question *question, int directory, uint64_t path)
{
    struct place *place = &question->place;

    if (!find(question, directory, path, true, false, place) || S_ISDIR(place->status.st_mode))
        return;
    note_change(question, place, false);
    log_place(LOG_REMOVE, place, "");
    *known(place->host) &= ~(uint64_t)(KNOWN_WRITTEN | KNOWN_READ);
}

static void answer_name(struct question *question, int directory, uint64_t path)
{
    if (find(question, directory, path, true, true, &question->place) && !question->place.there)
        note_write(question, &question->place, false);
}

/* Another name for what is there: its content is that of the new name. */
static void answer_link(struct question *question, int from, uint64_t old, int to, uint64_t new, uint64_t flags)
{
    struct place *source = &question->other;

    if (find_any(question, from, old, !(flags & AT_SYMLINK_FOLLOW), false, (int)flags, source) && source->outside)
        note_read(source);
    answer_name(question, to, new);
}

static void answer_truncate(struct question *question, uint64_t path, uint64_t length)
{
    if (find(question, AT_FDCWD, path, false, false, &question->place) && S_ISREG(question->place.status.st_mode))
        note_write(question, &question->place, length != 0);
}

/* Port 0 is no connection: libraries ask so by which of its addresses this machine would speak. */
static void answer_connect(struct question *question)
{
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
        struct sockaddr_un local;
    } address = {.any = {.sa_family = AF_UNSPEC}};
    uint64_t size = (uint32_t)question->arguments[2];
    char text[sizeof address + INET6_ADDRSTRLEN] = "", number[INET6_ADDRSTRLEN];

    if (size > sizeof address || !look_memory(&question->who, question->arguments[1], &address, size))
        return;
    if (address.any.sa_family == AF_INET && address.four.sin_port != 0)
        snprintf(text, sizeof text, "%s:%u", inet_ntop(AF_INET, &address.four.sin_addr, number, sizeof number), ntohs(address.four.sin_port));
    else if (address.any.sa_family == AF_INET6 && address.six.sin6_port != 0)
        snprintf(text, sizeof text, "[%s]:%u", inet_ntop(AF_INET6, &address.six.sin6_addr, number, sizeof number), ntohs(address.six.sin6_port));
    else if (address.any.sa_family == AF_UNIX && address.local.sun_path[0] == '/') {
        snprintf(text, sizeof text, "%.*s", (int)sizeof address.local.sun_path, address.local.sun_path);
        if (!look_place(&question->who, AT_FDCWD, text, false, false, &question->place))
            return;
    }
    if (*text != '\0' && is_new(text))
        log_words(LOG_CONNECT, text, "", "");
}

void record_call_seen(struct question *question)
{
    const __u64 *a = question->arguments;

    switch (question->call) {
    case RECORD_OPEN: answer_open(question, AT_FDCWD, a[0], a[1]); break;
    case RECORD_CREAT: answer_open(question, AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC); break;
    case RECORD_OPENAT: answer_open(question, (int)a[0], a[1], (uint32_t)a[2]); break;
    case RECORD_OPENAT2: answer_openat2(question); break;
    case RECORD_EXECVE: answer_execute(question, AT_FDCWD, a[0], a[2], 0); break;
    case RECORD_EXECVEAT: answer_execute(question, (int)a[0], a[1], a[3], a[4]); break;
    case RECORD_RENAME: answer_rename(question, AT_FDCWD, a[0], AT_FDCWD, a[1], 0); break;
    case RECORD_RENAMEAT: answer_rename(question, (int)a[0], a[1], (int)a[2], a[3], 0); break;
    case RECORD_RENAMEAT2: answer_rename(question, (int)a[0], a[1], (int)a[2], a[3], a[4]); break;
    case RECORD_UNLINK: answer_remove(question, AT_FDCWD, a[0]); break;
    case RECORD_UNLINKAT: answer_remove(question, (int)a[0], a[1]); break;
    case RECORD_LINK: answer_link(question, AT_FDCWD, a[0], AT_FDCWD, a[1], 0); break;
    case RECORD_LINKAT: answer_link(question, (int)a[0], a[1], (int)a[2], a[3], a[4]); break;
    case RECORD_SYMLINK: answer_name(question, AT_FDCWD, a[1]); break;
    case RECORD_SYMLINKAT: answer_name(question, (int)a[1], a[2]); break;
    case RECORD_TRUNCATE: answer_truncate(question, a[0], a[1]); break;
    case RECORD_CONNECT: answer_connect(question); break;
    case RECORD_ROOT: look_roots_changed(); mounts_changed(); break; /* before it has happened: who made the call asks nothing meanwhile */
    case RECORD_NONE: break;
    }
}

/* ---- reading before the call ---- */

/* Of the file that was found, whatever has its name by now: a program that puts a link there has nothing else read. */
static void digest(const struct recording *recording, const struct place *place)
{
    char name[32], text[2 * SEAL_DIGEST + 1] = "";
    uint8_t bytes[SEAL_DIGEST];
    uint64_t size = (uint64_t)place->status.st_size;

    snprintf(name, sizeof name, "/proc/self/fd/%d", place->fd);
    OWNED_FD file = size <= recording->limit ? open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;

    if (file >= 0 && sha256_of_file(file, 0, size, bytes))
        for (size_t i = 0; i < sizeof bytes; i++)
            snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    log_place(LOG_DIGEST, place, text);
}

uint64_t record_size(const struct question *question)
{
    uint64_t size = 0;

    for (unsigned i = 0; i < question->before_count; i++)
        size += (uint64_t)question->before[i]->status.st_size;
    return size;
}

void record_call_done(struct question *question)
{
    fd_close(&question->place.fd);
    fd_close(&question->other.fd);
}

void record_digests(const struct question *question)
{
    for (unsigned i = 0; i < question->before_count; i++)
        digest(question->recording, question->before[i]);
}
