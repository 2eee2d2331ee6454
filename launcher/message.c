/* One line a message, to standard error and syslog. Runs without privilege always, in every program of ours. */
#include "message.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "descriptor.h"

/* room for some escapes, which take four bytes each: what does not fit is cut; priorities are facility times 8 plus
 * severity (RFC 5424): 10 is LOG_AUTHPRIV, 1 an alert, 5 a notice */
enum { TEXT_LIMIT = 4096, LINE_LIMIT = 3 * TEXT_LIMIT, SYSLOG_ALERT = 80 + 1, SYSLOG_NOTICE = 80 + 5 };

/* file scope, as in privilege.c: what is shown is the process's, and every function would have to carry it */
static int shown = LEVEL_INFO;
static bool coloured;
static bool logged;
static int64_t teller = -1;

void message_begin(int level, bool colour)
{
    shown = level;
    coloured = colour;
}

int message_level_get(void)
{
    return shown;
}

void message_syslog(bool on)
{
    logged = on;
}

void message_as(int64_t uid)
{
    teller = uid;
}

static const char *level_name(int level)
{
    static const char *const names[] = {"FATAL", "ERROR", "WARNING", "LOG", "", "INFO"}; /* from LEVEL_FATAL on */

    return level == LEVEL_DEBUG ? "DEBUG" : level > LEVEL_INFO ? "VERBOSE" : names[level - LEVEL_FATAL];
}

static const char *level_colour(int level)
{
    return !coloured || level >= LEVEL_INFO ? "" : level == LEVEL_WARNING ? "\033[33m" : "\033[31m";
}

/* A terminal obeys ESC, and 8 bit controls as well (0x9b is CSI, ECMA-48): text of an image must not move its cursor,
 * set its title or answer for the user (R-P3). In UTF-8 the same bytes occur within characters, after a byte of 0x80
 * or more; 0xc2 0x80 to 0xc2 0x9f are the controls themselves. */
size_t message_escaped(char *line, size_t used, size_t size, const char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (; *text != '\0' && used + 5 < size; text++) {
        unsigned char byte = (unsigned char)*text, before = used > 0 ? (unsigned char)line[used - 1] : 0;
        if (byte >= 0x20 && byte != 0x7f && (byte < 0x80 || byte >= 0xa0 || (before >= 0x80 && before != 0xc2))) {
            line[used++] = *text;
            continue;
        }
        line[used++] = '\\';
        line[used++] = 'x';
        line[used++] = digits[byte >> 4];
        line[used++] = digits[byte & 15];
    }
    return used;
}

static size_t append_header(char *line, size_t size, int level, const char *file, int number, const char *function)
{
    char word[16], ids[48], origin[256];
    const char *slash = strrchr(file, '/');
    int length;

    if (shown < LEVEL_DEBUG) {
        snprintf(word, sizeof word, "%s:", level_name(level));
        length = snprintf(line, size, "%s%-9s%s", level_colour(level), word, *level_colour(level) ? "\033[0m" : "");
    } else {
        snprintf(ids, sizeof ids, "[U=%u,P=%d]", (unsigned)(teller >= 0 ? teller : geteuid()), (int)getpid());
        snprintf(origin, sizeof origin, "%s:%d:%s()", slash != NULL ? slash + 1 : file, number, function);
        length = snprintf(line, size, "%-7s %-18s %-43s: ", level_name(level), ids, origin);
    }
    return length > 0 && (size_t)length < size ? (size_t)length : 0;
}

/* By hand and not by syslog(3), which in a setuid program would read the time zone and keep a descriptor open (R-L4).
 * Nothing waits: a log that is full or gone must not stop or delay a launch (R-A1). */
static void send_to_syslog(int priority, const char *text)
{
    static const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    char line[2048];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return;
    int length = snprintf(line, sizeof line, "<%d>singularity[%d]: (U=%u) ", priority, (int)getpid(),
                          (unsigned)getuid());
    if (length > 0) {
        size_t size = message_escaped(line, (size_t)length, sizeof line, text);
        (void)sendto(fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&address, sizeof address);
    }
    close(fd);
}

/* One write(2) a line, so that lines of several processes do not mix. errno stays what it was, for callers that
 * report it next. */
static void say(int level, const char *file, int number, const char *function, const char *text)
{
    char line[LINE_LIMIT];
    int saved = errno;

    if (level <= shown) {
        size_t used = append_header(line, sizeof line, level, file, number, function);
        used = message_escaped(line, used, sizeof line - 1, text);
        line[used++] = '\n';
        (void)fd_write(STDERR_FILENO, line, used);
    }
    if (logged && level <= LEVEL_ERROR)
        send_to_syslog(SYSLOG_ALERT, text);
    errno = saved;
}

void message_at(int level, const char *file, int line, const char *function, const char *format, ...)
{
    char text[TEXT_LIMIT];
    va_list arguments;

    if (level > shown && !(logged && level <= LEVEL_ERROR))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say(level, file, line, function, text);
}

void message_log(const char *format, ...)
{
    char text[TEXT_LIMIT];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    send_to_syslog(SYSLOG_NOTICE, text);
}

/* Where musl has other words than glibc. Scripts that look for a message find the same one from both builds. */
static const struct {
    int number;
    const char *words;
} other_words[] = {
    {EIO, "Input/output error"}, {ENOMEM, "Cannot allocate memory"}, {EBUSY, "Device or resource busy"},
    {EXDEV, "Invalid cross-device link"}, {EMFILE, "Too many open files"}, {ENOTTY, "Inappropriate ioctl for device"},
    {ENAMETOOLONG, "File name too long"}, {ELOOP, "Too many levels of symbolic links"}, {ECHILD, "No child processes"},
    {EOVERFLOW, "Value too large for defined data type"}, {EOPNOTSUPP, "Operation not supported"}, {EDQUOT, "Disk quota exceeded"},
    {EADDRINUSE, "Address already in use"}, {ENOTCONN, "Transport endpoint is not connected"}, {EMSGSIZE, "Message too long"},
    {ETIMEDOUT, "Connection timed out"}, {EUCLEAN, "Structure needs cleaning"},
};

const char *errno_words(int number)
{
    for (size_t i = 0; i < sizeof other_words / sizeof other_words[0]; i++)
        if (other_words[i].number == number)
            return other_words[i].words;
    return strerror(number);
}

/* What is to be done about a limit that was met, or NULL. Limits are set long before they are met, and forgotten. */
static const char *limit_hint(int number)
{
    return number == EMFILE   ? "raise the limit of open files: ulimit -n"
           : number == ENFILE ? "the machine has no file descriptor left"
           : number == EFBIG  ? "raise the limit of file sizes: ulimit -f"
                              : NULL;
}

/* Where a limit was met the text's last words in parentheses go: they guess at other causes. */
static void append_number(char *text, size_t size, int number)
{
    const char *hint = limit_hint(number);
    size_t used = strlen(text);
    char *guess = hint != NULL && used > 0 && text[used - 1] == ')' ? strrchr(text, '(') : NULL;

    if (number == 0)
        return;
    if (guess != NULL)
        used = (size_t)(guess - text) - (guess > text && guess[-1] == ' ');
    snprintf(text + used, size - used, hint != NULL ? ": %s (%s)" : ": %s", errno_words(number), hint);
}

/* _exit(2), not exit(3): nothing that was registered by somebody runs, and buffers are not written a second time by a
 * forked child (R-L13). */
static bool family_statuses;

void message_statuses(bool family)
{
    family_statuses = family;
}

_Noreturn void stop_at(int status, int number, const char *file, int line, const char *function, const char *format, ...)
{
    char text[TEXT_LIMIT];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    append_number(text, sizeof text, number);
    say(LEVEL_FATAL, file, line, function, text);
    _exit(family_statuses && (status == EXIT_NOT_FOUND || status == EXIT_NOT_EXECUTABLE) ? EXIT_OWN_FAILURE : status);
}

/* The first error is the cause, what follows from it is noise. */
bool error_set(struct error *error, int number, const char *format, ...)
{
    va_list arguments;

    if (error->text[0] != '\0')
        return false;
    error->number = number;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    append_number(error->text, sizeof error->text, number);
    return false;
}
