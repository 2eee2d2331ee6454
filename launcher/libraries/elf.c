/* What one ELF file needs and offers: libraries, symbol versions. Pure, bounded, of bytes that anybody may have made. */
#include "libraries.h"

#include <elf.h>
#include <string.h>

/* more than any library has; a file with more was made to be slow (R-I7) */
enum { SEGMENTS = 128, DYNAMIC_ENTRIES = 4096 };

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#elif defined(__powerpc64__)
enum { MACHINE = EM_PPC64 };
#elif defined(__s390x__)
enum { MACHINE = EM_S390 };
#elif defined(__riscv)
enum { MACHINE = EM_RISCV };
#else
enum { MACHINE = EM_NONE };
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { BYTE_ORDER_HERE = ELFDATA2LSB };
#else
enum { BYTE_ORDER_HERE = ELFDATA2MSB };
#endif

/* Copies a structure out of the file; false when it is not wholly in it. By memcpy(3) into a structure: an offset in
 * a file need not suit the processor's alignment. */
static bool take(const uint8_t *bytes, uint64_t size, uint64_t offset, void *into, size_t length)
{
    if (offset > size || size - offset < length)
        return false;
    memcpy(into, bytes + offset, length);
    return true;
}

/* ---- the parts of the file ---- */

/* Where in the file an address of the loaded object is; false: in no segment that comes from the file. The dynamic
 * section gives addresses as they are in memory; in which place of the file the bytes are only the PT_LOAD segments
 * say (elf(5)). */
static bool place(const struct elf *elf, const Elf64_Ehdr *header, uint64_t address, uint64_t *offset)
{
    Elf64_Phdr segment;

    for (uint64_t i = 0; i < header->e_phnum; i++) {
        if (!take(elf->bytes, elf->size, header->e_phoff + i * sizeof segment, &segment, sizeof segment))
            return false;
        if (segment.p_type != PT_LOAD || address < segment.p_vaddr || address - segment.p_vaddr >= segment.p_filesz ||
            segment.p_offset > elf->size)
            continue;
        *offset = segment.p_offset + (address - segment.p_vaddr);
        return *offset < elf->size;
    }
    return false;
}

static bool find_dynamic(struct elf *elf, const Elf64_Ehdr *header)
{
    Elf64_Phdr segment;

    for (uint64_t i = 0; i < header->e_phnum; i++) {
        if (!take(elf->bytes, elf->size, header->e_phoff + i * sizeof segment, &segment, sizeof segment))
            return false;
        if (segment.p_type != PT_DYNAMIC)
            continue;
        if (segment.p_offset == 0 || segment.p_offset >= elf->size)
            return false;
        uint64_t room = elf->size - segment.p_offset;
        elf->dynamic = segment.p_offset;
        elf->dynamic_count = (segment.p_filesz < room ? segment.p_filesz : room) / sizeof(Elf64_Dyn);
        if (elf->dynamic_count > DYNAMIC_ENTRIES)
            elf->dynamic_count = DYNAMIC_ENTRIES;
        return true;
    }
    return true;
}

/* DT_STRSZ may stand before or after DT_STRTAB: what the file says of its size is cut to what there is only when both
 * are known. */
static void read_dynamic(struct elf *elf, const Elf64_Ehdr *header)
{
    Elf64_Dyn entry;

    for (uint64_t i = 0; i < elf->dynamic_count; i++) {
        if (!take(elf->bytes, elf->size, elf->dynamic + i * sizeof entry, &entry, sizeof entry) || entry.d_tag == DT_NULL) {
            elf->dynamic_count = i;
            break;
        }
        uint64_t *member = entry.d_tag == DT_STRTAB    ? &elf->strings
                           : entry.d_tag == DT_VERNEED ? &elf->needs
                           : entry.d_tag == DT_VERDEF  ? &elf->definitions
                                                       : NULL;
        if (member != NULL && !place(elf, header, entry.d_un.d_ptr, member))
            *member = 0;
        if (entry.d_tag == DT_STRSZ)
            elf->strings_size = entry.d_un.d_val;
    }
    if (elf->strings == 0)
        elf->strings_size = 0;
    else if (elf->strings_size > elf->size - elf->strings)
        elf->strings_size = elf->size - elf->strings;
}

/* By program headers alone, as the loader does: section headers may be stripped or lie (elf(5)). 32 bit objects are
 * none that a 64 bit program could load. */
enum elf_kind elf_read(const uint8_t *bytes, size_t size, struct elf *elf)
{
    Elf64_Ehdr header;

    *elf = (struct elf){.bytes = bytes, .size = size};
    if (!take(bytes, size, 0, &header, EI_NIDENT) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return ELF_NONE;
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != BYTE_ORDER_HERE)
        return ELF_OTHER;
    if (!take(bytes, size, 0, &header, sizeof header))
        return ELF_NONE;
    if (header.e_machine != MACHINE)
        return ELF_OTHER;
    if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > SEGMENTS || header.e_phoff > size ||
        !find_dynamic(elf, &header))
        return ELF_NONE;
    read_dynamic(elf, &header);
    return ELF_THIS;
}

/* ---- names ---- */

/* A name that ends inside the names, and soon; or NULL. */
static const char *name_at(const struct elf *elf, uint64_t offset)
{
    if (offset >= elf->strings_size)
        return NULL;
    uint64_t room = elf->strings_size - offset;
    const uint8_t *name = elf->bytes + elf->strings + offset;
    return memchr(name, '\0', (size_t)(room < ELF_NAME ? room : ELF_NAME)) != NULL ? (const char *)name : NULL;
}

const char *elf_next_library(const struct elf *elf, uint64_t *cursor)
{
    Elf64_Dyn entry;

    while (*cursor < elf->dynamic_count) {
        if (!take(elf->bytes, elf->size, elf->dynamic + (*cursor)++ * sizeof entry, &entry, sizeof entry))
            return NULL;
        const char *name = entry.d_tag == DT_NEEDED ? name_at(elf, entry.d_un.d_val) : NULL;
        if (name != NULL)
            return name;
    }
    return NULL;
}

/* A RUNPATH makes the loader ignore an RPATH of the same file (ld.so(8)). */
const char *elf_run_path(const struct elf *elf)
{
    const char *path = NULL;
    bool later = false; /* a RUNPATH makes an RPATH count for nothing */
    Elf64_Dyn entry;

    for (uint64_t i = 0; i < elf->dynamic_count && !later; i++) {
        if (!take(elf->bytes, elf->size, elf->dynamic + i * sizeof entry, &entry, sizeof entry))
            break;
        if ((entry.d_tag != DT_RUNPATH && entry.d_tag != DT_RPATH) || entry.d_un.d_val >= elf->strings_size)
            continue;
        const uint8_t *text = elf->bytes + elf->strings + entry.d_un.d_val;
        if (memchr(text, '\0', (size_t)(elf->strings_size - entry.d_un.d_val)) == NULL)
            continue;
        path = (const char *)text;
        later = entry.d_tag == DT_RUNPATH;
    }
    return path;
}

/* ---- versions: chains of entries, each a distance further on ---- */

/* Verneed entries name a library, their Vernaux parts the versions wanted of it; each says how far the next one is
 * (LSB, symbol versioning). `seen` counts all steps, since a chain may be made to lead back into itself (R-I7). */
bool elf_next_need(const struct elf *elf, struct elf_need *need)
{
    Elf64_Verneed entry;
    Elf64_Vernaux part;

    if (need->seen == 0)
        need->entry = elf->needs;
    while (need->entry != 0 && need->seen++ < ELF_ENTRIES) {
        if (!take(elf->bytes, elf->size, need->entry, &entry, sizeof entry))
            return false;
        if (need->part == 0)
            need->part = entry.vn_cnt > 0 && entry.vn_aux > 0 ? need->entry + entry.vn_aux : 0;
        bool whole = need->part != 0 && take(elf->bytes, elf->size, need->part, &part, sizeof part);
        need->part = whole && part.vna_next != 0 ? need->part + part.vna_next : 0;
        if (need->part == 0)
            need->entry = entry.vn_next != 0 ? need->entry + entry.vn_next : 0;
        if (!whole)
            continue;
        need->file = name_at(elf, entry.vn_file);
        need->version = name_at(elf, part.vna_name);
        need->weak = (part.vna_flags & VER_FLG_WEAK) != 0;
        if (need->file != NULL && need->version != NULL)
            return true;
    }
    return false;
}

/* The first Verdaux of a Verdef is the version's name; those behind it are the versions that it grew from, which say
 * nothing more. */
bool elf_next_definition(const struct elf *elf, struct elf_definition *definition)
{
    Elf64_Verdef entry;
    Elf64_Verdaux part;

    if (definition->seen == 0)
        definition->entry = elf->definitions;
    while (definition->entry != 0 && definition->seen++ < ELF_ENTRIES) {
        uint64_t here = definition->entry;
        if (!take(elf->bytes, elf->size, here, &entry, sizeof entry))
            return false;
        definition->entry = entry.vd_next != 0 ? here + entry.vd_next : 0;
        if (entry.vd_cnt == 0 || !take(elf->bytes, elf->size, here + entry.vd_aux, &part, sizeof part))
            continue;
        definition->version = name_at(elf, part.vda_name);
        definition->base = (entry.vd_flags & VER_FLG_BASE) != 0;
        if (definition->version != NULL)
            return true;
    }
    return false;
}

/* Linear, as a library has some dozens of versions and is asked for few. */
bool elf_defines(const struct elf *elf, const char *version)
{
    struct elf_definition definition = {.version = NULL};

    while (elf_next_definition(elf, &definition))
        if (strcmp(definition.version, version) == 0)
            return true;
    return false;
}
