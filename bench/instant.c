/* A program with no library, a few pages long: writes to standard output when it began (CLOCK_MONOTONIC, nanoseconds, 8
   bytes) and ends; with an argument, once its standard input has. What it costs is what starting it costs. */
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, EXIT = 60, CLOCK_GETTIME = 228 };
__asm__(".globl _start\n_start: mov %rsp, %rdi\n call begin\n");

static long call(long number, long a, long b, long c)
{
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, EXIT = 93, CLOCK_GETTIME = 113 };
__asm__(".globl _start\n_start: mov x0, sp\n bl begin\n");

static long call(long number, long a, long b, long c)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
#else
#error "instant.c knows x86_64 and aarch64"
#endif

_Noreturn void begin(const long *stack);

_Noreturn void begin(const long *stack)
{
    struct timespec time;
    char byte;

    call(CLOCK_GETTIME, CLOCK_MONOTONIC, (long)&time, 0);
    int64_t nanoseconds = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
    call(WRITE, 1, (long)&nanoseconds, sizeof nanoseconds);
    if (*stack > 1)
        while (call(READ, 0, (long)&byte, 1) > 0)
            continue;
    for (;;)
        call(EXIT, 0, 0, 0);
}
