/* What the kernel opens by itself when a program is executed, by the first bytes of its file: no call names it (execve(2)). */
#include "parts.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "../descriptor.h"

enum { HEAD = 256, HEADERS = 64 }; /* of a script the kernel looks at so many bytes; programs have some dozen headers */

/* The first word behind "#!". */
static bool interpreter(char *line, char path[static PATH_MAX])
{
    char *word = line + strspn(line, " \t");
    size_t length = strcspn(word, " \t\n");

    word[length] = '\0';
    memcpy(path, word, length + 1);
    return length > 0;
}

static bool loader(int file, uint64_t from, uint64_t size, char path[static PATH_MAX])
{
    if (size < 2 || size > PATH_MAX || pread(file, path, size, (off_t)from) != (ssize_t)size)
        return false;
    return path[size - 1] == '\0';
}

/* In both layouts; those of the other byte order are for another machine. */
static bool loader_64(int file, const Elf64_Ehdr *head, char path[static PATH_MAX])
{
    Elf64_Phdr all[HEADERS];
    size_t size = sizeof all[0] * (head->e_phnum < HEADERS ? head->e_phnum : HEADERS);

    if (head->e_phentsize != sizeof all[0] || pread(file, all, size, (off_t)head->e_phoff) != (ssize_t)size)
        return false;
    for (size_t i = 0; i < size / sizeof all[0]; i++)
        if (all[i].p_type == PT_INTERP)
            return loader(file, all[i].p_offset, all[i].p_filesz, path);
    return false;
}

static bool loader_32(int file, const Elf32_Ehdr *head, char path[static PATH_MAX])
{
    Elf32_Phdr all[HEADERS];
    size_t size = sizeof all[0] * (head->e_phnum < HEADERS ? head->e_phnum : HEADERS);

    if (head->e_phentsize != sizeof all[0] || pread(file, all, size, (off_t)head->e_phoff) != (ssize_t)size)
        return false;
    for (size_t i = 0; i < size / sizeof all[0]; i++)
        if (all[i].p_type == PT_INTERP)
            return loader(file, all[i].p_offset, all[i].p_filesz, path);
    return false;
}

bool program_needs(const struct place *program, char path[static PATH_MAX])
{
    char name[32];
    union {
        char text[HEAD + 1];
        Elf64_Ehdr wide;
        Elf32_Ehdr narrow;
    } head = {.text = ""};

    if (!S_ISREG(program->status.st_mode))
        return false;
    snprintf(name, sizeof name, "/proc/self/fd/%d", program->fd);
    OWNED_FD file = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (file < 0 || pread(file, head.text, HEAD, 0) <= 0)
        return false;
    if (strncmp(head.text, "#!", 2) == 0)
        return interpreter(head.text + 2, path);
    if (memcmp(head.text, ELFMAG, SELFMAG) != 0)
        return false;
    return head.text[EI_CLASS] == ELFCLASS64 ? loader_64(file, &head.wide, path) : loader_32(file, &head.narrow, path);
}
