/* TAP for the C unit tests: one CHECK a fact, checks_end() as the result of main. */
#ifndef CHECK_H
#define CHECK_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int checks_done;
static int checks_failed;

__attribute__((format(printf, 2, 3))) static inline void check_that(bool holds, const char *format, ...)
{
    va_list arguments;
    checks_done++;
    checks_failed += holds ? 0 : 1;
    printf("%s %d - ", holds ? "ok" : "not ok", checks_done);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
}

#define CHECK(holds, ...) check_that((holds), __VA_ARGS__)

static inline int checks_end(void)
{
    printf("1..%d\n", checks_done);
    return checks_failed == 0 && checks_done > 0 ? 0 : 1;
}

#endif
