/* The program of a launch: found by PATH, explained where it cannot start, executed. */
#include "program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "descriptor.h"
#include "message.h"

enum { HEAD_SIZE = 4096, ONE_WORD = 128 << 10 };

/* access(2) goes by the real ids, which here are the only ones; of a directory X_OK only says that it may be entered. */
bool program_usable(const char *path)
{
    struct stat status;
    return access(path, X_OK) == 0 && stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

/* A name that nobody has asked for yet is asked of the server; what else fails may fail with any error. */
void program_check_image(void)
{
    if (access("/.singularity.d/served", F_OK) < 0 && (errno == ENOTCONN || errno == ECONNABORTED))
        stop(0, "the image can be read no more: its file system server ended before the program was started: killed, or out of memory? "
             "(try again; --debug shows what it said)");
}

/* ---- why a program did not start ---- */

struct head {
    char bytes[HEAD_SIZE + 1];
    size_t size;
};

/* O_NONBLOCK and O_NOCTTY: this runs after execve(2) has failed, on whatever the name leads to. */
static void head_read(const char *path, struct head *head)
{
    OWNED_FD file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t got = file < 0 ? -1 : pread(file, head->bytes, HEAD_SIZE, 0);

    head->size = got < 0 ? 0 : (size_t)got;
    head->bytes[head->size] = '\0';
}

/* #!, or the four bytes of ELF (elf(5)). */
static bool head_begins(const struct head *head, const char *magic)
{
    return head->size >= strlen(magic) && memcmp(head->bytes, magic, strlen(magic)) == 0;
}

/* The text at `offset` of the file; NULL: it does not end in the head. */
static const char *head_text(const struct head *head, uint64_t offset, uint64_t size)
{
    bool inside = size > 0 && offset < head->size && size <= head->size - offset;
    return inside && head->bytes[offset + size - 1] == '\0' ? head->bytes + offset : NULL;
}

/* One function for each word size, as the structures differ in nothing else. PT_INTERP names the loader that the
 * kernel starts for the program (elf(5)). Counted and bounded by what has been read: the file is the image's. */
#define ELF_LOADER(bits)                                                                                               \
    static const char *loader_##bits(const struct head *head)                                                          \
    {                                                                                                                  \
        Elf##bits##_Ehdr header;                                                                                       \
        Elf##bits##_Phdr segment;                                                                                      \
        if (head->size < sizeof header)                                                                                \
            return NULL;                                                                                               \
        memcpy(&header, head->bytes, sizeof header);                                                                   \
        for (uint64_t at = header.e_phoff; header.e_phnum-- > 0; at += sizeof segment) {                               \
            if (at > head->size || head->size - at < sizeof segment)                                                   \
                return NULL;                                                                                           \
            memcpy(&segment, head->bytes + at, sizeof segment);                                                        \
            if (segment.p_type == PT_INTERP)                                                                           \
                return head_text(head, segment.p_offset, segment.p_filesz);                                            \
        }                                                                                                              \
        return NULL;                                                                                                   \
    }
ELF_LOADER(32)
ELF_LOADER(64)

/* What the kernel starts for this file: of a script the first word behind #!, of a program its loader. NULL: unknown.
 * ENOENT from execve(2) for a file that is there means that this one is not (execve(2)); it is the message that
 * nobody understands, so it is said by name. */
static const char *interpreter(struct head *head)
{
    if (head_begins(head, "#!")) {
        char *start = head->bytes + 2 + strspn(head->bytes + 2, " \t");
        start[strcspn(start, " \t\n")] = '\0';
        return *start == '\0' ? NULL : start;
    }
    if (!head_begins(head, ELFMAG) || head->size <= EI_CLASS)
        return NULL;
    return head->bytes[EI_CLASS] == ELFCLASS64 ? loader_64(head) : loader_32(head);
}

/* As `uname -m` calls them. The words of uname(2), which is what the host is compared by. ppc64 is one number for
 * both byte orders. */
static const char *machine_name(const struct head *head)
{
    static const struct { unsigned number; const char *name; } machines[] = {
        {EM_X86_64, "x86_64"}, {EM_AARCH64, "aarch64"}, {EM_386, "i386"},     {EM_ARM, "arm"},   {EM_PPC64, "ppc64"},
        {EM_S390, "s390x"},    {EM_RISCV, "riscv64"},   {EM_MIPS, "mips"},    {EM_PPC, "ppc"},   {EM_SPARCV9, "sparc64"},
        {EM_IA_64, "ia64"},    {EM_ALPHA, "alpha"},
    };
    bool big = head->size > EI_DATA && head->bytes[EI_DATA] == ELFDATA2MSB;
    unsigned low, high, number;

    if (head->size < offsetof(Elf64_Ehdr, e_version))
        return "another kind of machine";
    low = (unsigned char)head->bytes[offsetof(Elf64_Ehdr, e_machine) + (big ? 1 : 0)];
    high = (unsigned char)head->bytes[offsetof(Elf64_Ehdr, e_machine) + (big ? 0 : 1)];
    number = high << 8 | low;
    if (number == EM_PPC64 && !big)
        return "ppc64le";
    for (size_t at = 0; at < sizeof machines / sizeof *machines; at++)
        if (machines[at].number == number)
            return machines[at].name;
    return "another kind of machine";
}

/* An interpreter may be a script or program that needs another one; the chain is not followed further. */
static _Noreturn void stop_no_interpreter(const char *path, struct head *head)
{
    const char *name = interpreter(head);

    if (name == NULL)
        stop_with(EXIT_NOT_FOUND, 0, "\"%s\" needs an interpreter or loader that the image lacks", path);
    if (access(name, F_OK) == 0)
        stop_with(EXIT_NOT_FOUND, 0, "\"%s\" needs the interpreter %s, which itself needs something that the image lacks",
                  path, name);
    stop_with(EXIT_NOT_FOUND, 0, "\"%s\" needs the interpreter %s, which the image lacks", path, name);
}

/* The usual reason is an image that was pulled on another kind of machine. */
static _Noreturn void stop_wrong_format(const char *path, const struct head *head)
{
    struct utsname machine;
    const char *target = machine_name(head);

    if (!head_begins(head, ELFMAG))
        stop_with(EXIT_NOT_EXECUTABLE, 0, "\"%s\" is neither a program nor a script", path);
    if (uname(&machine) == 0 && strcmp(machine.machine, target) != 0)
        stop_with(EXIT_NOT_EXECUTABLE, 0, "\"%s\" is built for %s, and this machine is %s (use an image for %s)", path,
                  target, machine.machine, machine.machine);
    stop_with(EXIT_NOT_EXECUTABLE, 0, "\"%s\" is a damaged program", path);
}

/* The kernel counts each text with its NUL, arguments and environment together (execve(2)). */
static void measure(char *const *texts, size_t *total, size_t *count, const char **longest)
{
    for (; *texts != NULL; texts++, ++*count) {
        size_t size = strlen(*texts) + 1;
        *total += size;
        if (size > ONE_WORD && *longest == NULL)
            *longest = *texts;
    }
}

/* Two limits: 128 KiB a text (MAX_ARG_STRLEN), and a quarter of the stack limit for all (execve(2), Linux 2.6.23).
 * Which of them was met the errno does not say. */
static _Noreturn void stop_too_long(const char *path, char *const *words, char *const *environment)
{
    size_t total = 0, arguments = 0, variables = 0;
    const char *argument = NULL, *variable = NULL;

    measure(words, &total, &arguments, &argument);
    measure(environment, &total, &variables, &variable);
    if (variable != NULL)
        stop_with(EXIT_NOT_EXECUTABLE, 0, "\"%s\": variable %.*s is longer than the 128 KiB that the kernel passes on", path,
                  (int)strcspn(variable, "="), variable);
    if (argument != NULL)
        stop_with(EXIT_NOT_EXECUTABLE, 0, "\"%s\": an argument is longer than the 128 KiB that the kernel passes on", path);
    stop_with(EXIT_NOT_EXECUTABLE, 0,
              "\"%s\": %zu arguments and %zu variables of %zu KiB together are more than the kernel passes on "
              "(limit: a quarter of `ulimit -s`)", path, arguments, variables, total >> 10);
}

/* EACCES is one number for a directory, a missing mode bit, an interpreter without one and a mount with noexec
 * (execve(2)): asked one by one. */
static _Noreturn void stop_not_permitted(const char *path)
{
    struct stat status;
    struct head head;
    const char *name;

    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        stop_with(EXIT_NOT_EXECUTABLE, 0, "\"%s\": is a directory", path);
    head_read(path, &head);
    name = interpreter(&head);
    if (access(path, X_OK) == 0 && name != NULL && access(name, X_OK) < 0)
        stop_with(EXIT_NOT_EXECUTABLE, 0, "\"%s\": permission denied for its interpreter %s", path, name);
    if (access(path, X_OK) == 0)
        stop_with(EXIT_NOT_EXECUTABLE, 0, "\"%s\": permission denied (is it on a file system mounted noexec?)", path);
    stop_with(EXIT_NOT_EXECUTABLE, 0, "\"%s\": permission denied", path);
}

/* 126: found but not started, 127: not found, as shells have it (POSIX, 2.8.2 Exit Status for Commands). */
static _Noreturn void stop_not_started(const char *path, int number, char *const *words, char *const *environment)
{
    struct head head;

    program_check_image();
    if (number == EACCES)
        stop_not_permitted(path);
    if (number == E2BIG)
        stop_too_long(path, words, environment);
    if (number == ENOENT && access(path, F_OK) < 0)
        stop_with(EXIT_NOT_FOUND, 0, "\"%s\": executable file not found in the container", path);
    if (number == ENOTDIR)
        stop_with(EXIT_NOT_FOUND, 0, "\"%s\": executable file not found in the container: a part of its path is no directory",
                  path);
    head_read(path, &head);
    if (number == ENOENT)
        stop_no_interpreter(path, &head);
    if (number == ENOEXEC)
        stop_wrong_format(path, &head);
    stop_with(EXIT_NOT_EXECUTABLE, number, "\"%s\"", path);
}

/* ---- finding it ---- */

static const char *joined(const char *directory, size_t length, const char *name, struct arena *arena)
{
    size_t rest = strlen(name) + 1;
    char *path = arena_take(arena, length + rest + 1);

    if (path == NULL)
        stop(ENOMEM, "\"%s\"", name);
    memcpy(path, directory, length);
    path[length] = '/';
    memcpy(path + length + 1, name, rest);
    return path;
}

/* The first usable one of PATH; an unusable one is remembered for the message and looked past, as shells do. An empty
 * part of PATH is the current directory (POSIX). */
const char *program_find(const char *name, const char *search, struct arena *arena)
{
    const char *unusable = NULL;

    if (strchr(name, '/') != NULL)
        return name;
    for (bool more = *name != '\0'; more; search++) {
        size_t length = strcspn(search, ":");
        const struct arena mark = *arena;
        const char *path = length == 0 ? joined(".", 1, name, arena) : joined(search, length, name, arena);
        errno = 0;
        if (program_usable(path))
            return path;
        if (unusable == NULL && errno != ENOENT && access(path, F_OK) == 0)
            unusable = path;
        else
            arena_return(arena, &mark);
        search += length;
        more = *search != '\0';
    }
    program_check_image();
    if (unusable != NULL)
        stop_not_permitted(unusable);
    stop_with(EXIT_NOT_FOUND, 0, "\"%s\": executable file not found in $PATH", name);
}

/* ---- becoming it ---- */

/* Text that no program's file would have in its first line. */
static bool is_text(const struct head *head)
{
    const char *end = memchr(head->bytes, '\n', head->size);
    return memchr(head->bytes, '\0', end == NULL ? head->size : (size_t)(end - head->bytes)) == NULL;
}

/* As every shell does with a script that has no interpreter line. execve(2) gives ENOEXEC for a text without "#!";
 * that /bin/sh runs it is the shell's habit and that of execvp(3), not the kernel's. */
static void become_shell(const char *path, char *const *words, char *const *environment, struct arena *arena)
{
    static char shell[] = "/bin/sh";
    size_t count = 0;
    char **all;

    while (words[count] != NULL)
        count++;
    all = arena_take(arena, (count + 2) * sizeof *all);
    if (all == NULL || count == 0)
        stop(ENOMEM, "\"%s\"", path);
    all[0] = shell;
    all[1] = (char *)(uintptr_t)path;
    memcpy(all + 2, words + 1, count * sizeof *all);
    message_verbose("%s has no interpreter line: %s runs it", path, shell);
    execve(shell, all, environment);
    if (errno == ENOENT)
        stop_with(EXIT_NOT_FOUND, 0, "\"%s\" has no interpreter line, and the image has no /bin/sh to run it", path);
    stop_not_started(shell, errno, all, environment);
}

_Noreturn void program_become(const char *path, char *const *words, char *const *environment, struct arena *arena)
{
    struct head head;
    int number;

    message_debug("execute %s", path);
    execve(path, words, environment);
    number = errno;
    if (number == ENOEXEC) {
        head_read(path, &head);
        if (!head_begins(&head, ELFMAG) && is_text(&head))
            become_shell(path, words, environment, arena);
    }
    stop_not_started(path, number, words, environment);
}
