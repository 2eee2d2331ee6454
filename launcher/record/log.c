/* What is written down, in the order of the calls: five texts each, and nothing is ever read here. */
#include "parts.h"

#include <stdio.h>
#include <string.h>

#include "../descriptor.h"

enum { ROOM = 64 << 10 };

static char room[ROOM];
static size_t used;
static int log_fd = -1;
static bool failed;

void log_begin(int fd)
{
    log_fd = fd;
}

bool log_flush(void)
{
    if (used > 0 && !failed) /* what came after a gap would be read as something else */
        failed = !fd_write(log_fd, room, used);
    used = 0;
    return !failed;
}

static void put(const char *text)
{
    size_t size = strlen(text) + 1;

    if (size > sizeof room - used)
        (void)log_flush();
    if (size > sizeof room) { /* a variable may be longer */
        failed = failed || !fd_write(log_fd, text, size);
        return;
    }
    memcpy(room + used, text, size);
    used += size;
}

static void put_all(char kind, const char *numbers, const char *first, const char *second, const char *third)
{
    put((const char[]){kind, '\0'});
    put(numbers);
    put(first);
    put(second);
    put(third);
}

static long long nanoseconds(struct timespec time)
{
    return (long long)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void put_of(char kind, const struct place *place, const char *second, const char *third)
{
    const struct stat *status = &place->status;
    char numbers[192] = "";

    if (place->there)
        snprintf(numbers, sizeof numbers, "%o %llu %llu %lld %lld %lld", (unsigned)status->st_mode, (unsigned long long)status->st_dev,
                 (unsigned long long)status->st_ino, (long long)status->st_size, nanoseconds(status->st_mtim), nanoseconds(status->st_ctim));
    put_all(kind, numbers, place->host, second, third);
}

void log_place(char kind, const struct place *place, const char *more)
{
    put_of(kind, place, place->inside, more);
}

void log_move(const struct place *from, const struct place *to)
{
    put_of(LOG_MOVE, from, to->inside, to->host);
}

void log_words(char kind, const char *first, const char *second, const char *third)
{
    put_all(kind, "", first, second, third);
}
