/* Shared objects made in memory: as little of ELF as symbol versions need. */
#ifndef SHARED_OBJECT_H
#define SHARED_OBJECT_H

#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MADE_SIZE = 8192, MADE_TABLES = 1024, MADE_NAMES = 4096 };

struct made {
    uint8_t bytes[MADE_SIZE];
    size_t size;
    size_t names; /* bytes of names so far */
    Elf64_Dyn dynamic[32];
    size_t dynamic_count;
};

static inline uint32_t made_name(struct made *made, const char *name)
{
    size_t at = made->names;

    memcpy(made->bytes + MADE_NAMES + at, name, strlen(name) + 1);
    made->names += strlen(name) + 1;
    return (uint32_t)at;
}

static inline void made_dynamic(struct made *made, int64_t tag, uint64_t value)
{
    made->dynamic[made->dynamic_count++] = (Elf64_Dyn){.d_tag = tag, .d_un.d_val = value};
}

/* `libraries`: NULL-terminated names; `needs`: pairs of file and version; `definitions`: the first one is the base. */
static inline void made_begin(struct made *made, const char *const *libraries, const char *const *needs,
                              const char *const *definitions)
{
    size_t at = MADE_TABLES;

    memset(made, 0, sizeof *made);
    made_name(made, "");
    for (; *libraries != NULL; libraries++)
        made_dynamic(made, DT_NEEDED, made_name(made, *libraries));
    if (*needs != NULL)
        made_dynamic(made, DT_VERNEED, at);
    for (; *needs != NULL; needs += 2) {
        bool last = needs[2] == NULL, weak = needs[1][0] == '?';
        Elf64_Verneed need = {.vn_version = 1, .vn_cnt = 1, .vn_file = made_name(made, needs[0]), .vn_aux = sizeof need,
                              .vn_next = last ? 0 : sizeof need + sizeof(Elf64_Vernaux)};
        Elf64_Vernaux part = {.vna_name = made_name(made, needs[1] + weak), .vna_flags = weak ? VER_FLG_WEAK : 0};
        memcpy(made->bytes + at, &need, sizeof need);
        memcpy(made->bytes + at + sizeof need, &part, sizeof part);
        at += sizeof need + sizeof part;
    }
    if (*definitions != NULL)
        made_dynamic(made, DT_VERDEF, at);
    for (bool base = true; *definitions != NULL; definitions++, base = false) {
        Elf64_Verdef definition = {.vd_version = 1, .vd_flags = base ? VER_FLG_BASE : 0, .vd_cnt = 1, .vd_aux = sizeof definition,
                                   .vd_next = definitions[1] == NULL ? 0 : sizeof definition + sizeof(Elf64_Verdaux)};
        Elf64_Verdaux part = {.vda_name = made_name(made, *definitions)};
        memcpy(made->bytes + at, &definition, sizeof definition);
        memcpy(made->bytes + at + sizeof definition, &part, sizeof part);
        at += sizeof definition + sizeof part;
    }
    made_dynamic(made, DT_STRTAB, MADE_NAMES);
    made_dynamic(made, DT_STRSZ, made->names);
    made_dynamic(made, DT_NULL, 0);
    made->size = MADE_NAMES + made->names;
}

/* Header and segments, of this machine. */
static inline void made_end(struct made *made)
{
    Elf64_Ehdr header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_DYN,
                         .e_version = EV_CURRENT, .e_phoff = sizeof header, .e_ehsize = sizeof header,
                         .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2};
    size_t dynamic = sizeof header + 2 * sizeof(Elf64_Phdr), length = made->dynamic_count * sizeof(Elf64_Dyn);
    Elf64_Phdr segments[] = {{.p_type = PT_LOAD, .p_filesz = made->size, .p_memsz = made->size},
                             {.p_type = PT_DYNAMIC, .p_offset = dynamic, .p_vaddr = dynamic, .p_filesz = length}};

#if defined(__x86_64__)
    header.e_machine = EM_X86_64;
#elif defined(__aarch64__)
    header.e_machine = EM_AARCH64;
#elif defined(__powerpc64__)
    header.e_machine = EM_PPC64;
#endif
    memcpy(made->bytes, &header, sizeof header);
    memcpy(made->bytes + sizeof header, segments, sizeof segments);
    memcpy(made->bytes + dynamic, made->dynamic, length);
}

#define MADE_LIST(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(,) NULL, NULL})

#endif
