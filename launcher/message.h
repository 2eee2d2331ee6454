/* What the program says: one line a message, on standard error, the same words and levels as the Python side. */
#ifndef SINGULARITY_MESSAGE_H
#define SINGULARITY_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Levels of the family: -s shows FATAL only, -q hides INFO, -v shows VERBOSE, -d everything in the audit format. */
enum message_level {
    LEVEL_FATAL = -4,
    LEVEL_ERROR = -3,
    LEVEL_WARNING = -2,
    LEVEL_LOG = -1,
    LEVEL_INFO = 1,
    LEVEL_VERBOSE = 2,
    LEVEL_DEBUG = 5
};

/* Statuses of our own failures; a program's own status passes through untouched. */
enum exit_status { EXIT_USAGE = 1, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127, EXIT_OWN_FAILURE = 255 };

/* Sets what is shown from here on. `level` is one of message_level or a number between; `colour` for a terminal that
 * wants it. */
void message_begin(int level, bool colour);
int message_level_get(void);

/* From here on errors and LOG lines go to syslog too (LOG_AUTHPRIV); a failed log neither blocks nor unlocks anything. */
void message_syslog(bool on);

/* One line for syslog alone: what was launched or refused. */
void message_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The audit format shows this effective id, of which the next lines tell; -1: the one that we have. */
void message_as(int64_t uid);

/* Appends text that may hold names from images and users: control characters are shown, not sent to the terminal, and so are those
 * of eight bits, 0x80 to 0x9f, but for where they are a part of another character in UTF-8. Returns what is used; no end. */
size_t message_escaped(char *line, size_t used, size_t size, const char *text);

/* One line at this level, where it is shown; file, line and function stand in the audit format alone. The macros
 * below fill them in. errno stays as it is. */
void message_at(int level, const char *file, int line, const char *function, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* One line and the end, with `status`; `number` is an errno whose text is appended, or 0. */
_Noreturn void stop_at(int status, int number, const char *file, int line, const char *function, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

#define message_error(...) message_at(LEVEL_ERROR, __FILE__, __LINE__, __func__, __VA_ARGS__)
#define message_warning(...) message_at(LEVEL_WARNING, __FILE__, __LINE__, __func__, __VA_ARGS__)
#define message_info(...) message_at(LEVEL_INFO, __FILE__, __LINE__, __func__, __VA_ARGS__)
#define message_verbose(...) message_at(LEVEL_VERBOSE, __FILE__, __LINE__, __func__, __VA_ARGS__)
#define message_debug(...) message_at(LEVEL_DEBUG, __FILE__, __LINE__, __func__, __VA_ARGS__)
#define stop(number, ...) stop_at(EXIT_OWN_FAILURE, (number), __FILE__, __LINE__, __func__, __VA_ARGS__)
/* 255 in place of 126 and 127, from here on (--exit-statuses=family). */
void message_statuses(bool family);

#define stop_with(status, number, ...) stop_at((status), (number), __FILE__, __LINE__, __func__, __VA_ARGS__)

/* What an errno says, in glibc's words whichever C library this is linked with: Python and other programs speak so. */
const char *errno_words(int number);

/* Errors of deciding code are values: the first one set stays. error_set always returns false. */
struct error {
    int number; /* errno, or 0 */
    char text[1024];
};
bool error_set(struct error *error, int number, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
