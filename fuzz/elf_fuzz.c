/* Any bytes as a library of the host, and of an image that has nothing else: every name that is read lies in the bytes and
 * ends there, what is listed as defined is defined, no file is newer than itself, and it goes in just when the loader would
 * find each version that it needs. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "libraries/libraries.h"
#include "request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(const uint8_t *data, size_t size, const char *name)
{
    const uint8_t *at = (const uint8_t *)name;

    assert(at >= data && at < data + size && memchr(at, '\0', (size_t)(data + size - at)) != NULL);
}

static const struct shared_object *find(void *context, const char *name)
{
    (void)name;
    return context;
}

/* Whether a loader that has only this file would be content with it. */
static bool satisfied(const struct elf *elf)
{
    struct elf_need need = {.file = NULL};
    struct elf_definition any = {.version = NULL};

    if (!elf_next_definition(elf, &any))
        return true;
    while (elf_next_need(elf, &need))
        if (!need.weak && !elf_defines(elf, need.version))
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct candidate candidate;
    struct shared_object object = {.found = true, .name = "libx.so.1.2"};
    struct elf_need need = {.file = NULL};
    struct elf_definition definition = {.version = NULL};
    uint64_t cursor = 0;

    object.kind = elf_read(data, size, &object.elf);
    if (object.kind != ELF_THIS)
        return 0;
    for (const char *name; (name = elf_next_library(&object.elf, &cursor)) != NULL;)
        check_name(data, size, name);
    while (elf_next_need(&object.elf, &need)) {
        check_name(data, size, need.file);
        check_name(data, size, need.version);
    }
    while (elf_next_definition(&object.elf, &definition)) {
        check_name(data, size, definition.version);
        assert(elf_defines(&object.elf, definition.version));
    }
    assert(library_version_order(&object, &object) == VERSION_SAME);
    const struct image_libraries image = {.find = find, .context = &object};
    candidate = (struct candidate){.name = "", .file = "/libx.so", .number = LIBRARY_OBJECT, .host = object};
    library_judge(&candidate, 1, &image);
    assert(memchr(candidate.reason, '\0', sizeof candidate.reason) != NULL && candidate.reason[0] != '\0');
    assert((candidate.verdict == JUDGE_TAKEN) == satisfied(&object.elf));
    return 0;
}
