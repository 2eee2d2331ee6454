/* Which libraries of the host go into a container: versions, ages, and the judgement over all of them. */
#include "libraries/libraries.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "request.h"
#include "shared_object.h"

#define NONE MADE_LIST()

enum { OBJECTS = 16 };

static struct made made;

/* ---- reading ---- */

static const char *read_all(const uint8_t *bytes, size_t size)
{
    static char text[2048];
    uint8_t *exact = malloc(size + (size == 0)); /* so that a sanitizer sees a byte too far */
    size_t used = 0;
    struct elf elf;

    if (exact == NULL)
        abort();
    memcpy(exact, bytes, size);
    text[0] = '\0';
    if (elf_read(exact, size, &elf) == ELF_THIS) {
        uint64_t cursor = 0;
        struct elf_need need = {.file = NULL};
        struct elf_definition definition = {.version = NULL};
        for (const char *name; (name = elf_next_library(&elf, &cursor)) != NULL && used < sizeof text / 2;)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s ", name);
        while (elf_next_need(&elf, &need) && used < sizeof text / 2)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s:%s%s ", need.file, need.version, need.weak ? "?" : "");
        while (elf_next_definition(&elf, &definition) && used < sizeof text / 2)
            used += (size_t)snprintf(text + used, sizeof text - used, "=%s%s ", definition.version, definition.base ? "*" : "");
    }
    free(exact);
    return text;
}

static void test_reading(void)
{
    static const uint8_t small[] = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    struct elf elf;

    made_begin(&made, MADE_LIST("libc.so.6", "libm.so.6"), MADE_LIST("libc.so.6", "GLIBC_2.38", "libm.so.6", "?GLIBC_2.29"),
               MADE_LIST("libx.so.1", "X_1.0", "X_1.1"));
    made_end(&made);
    CHECK(strcmp(read_all(made.bytes, made.size), "libc.so.6 libm.so.6 libc.so.6:GLIBC_2.38 libm.so.6:GLIBC_2.29? =libx.so.1* =X_1.0 "
                                                  "=X_1.1 ") == 0, "libraries, needs and definitions are read");
    for (size_t size = 0; size < made.size; size++)
        read_all(made.bytes, size);
    for (size_t at = 0; at < made.size; at++) {
        uint8_t kept = made.bytes[at];
        made.bytes[at] = 0xff;
        read_all(made.bytes, made.size);
        made.bytes[at] = kept;
    }
    CHECK(true, "cut or damaged anywhere, reading ends and stays inside");
    CHECK(elf_read(small, sizeof small, &elf) == ELF_OTHER, "another word size is another machine");
    CHECK(elf_read((const uint8_t *)"#!/bin/sh\n", 10, &elf) == ELF_NONE, "a script is no ELF file");
    elf_read(made.bytes, made.size, &elf);
    CHECK(elf_defines(&elf, "X_1.1") && !elf_defines(&elf, "X_1.2"), "what is defined is found");
}

static void test_versions(void)
{
    CHECK(version_compare("2.38", "2.4") > 0 && version_compare("2.4", "2.38") < 0, "numbers are compared as numbers");
    CHECK(version_compare("535.104.05", "535.104.5") == 0, "leading zeros do not count");
    CHECK(version_compare("535.104.05", "535.54.03") > 0, "each number by itself");
    CHECK(version_compare("1.14", "1.14.48.0") < 0, "a longer one is newer");
    CHECK(version_compare("99999999999999999999999.1", "99999999999999999999998.2") > 0, "numbers may be of any length");
    CHECK(strcmp(library_number("libcuda.so.535.104.05"), "535.104.05") == 0 && *library_number("libcuda.so") == '\0',
          "the number of a library is that of its file");
}

/* ---- judging ---- */

static struct made stock[OBJECTS];
static struct shared_object objects[OBJECTS];
static size_t used;

static const struct shared_object *object(const char *name, const char *const *libraries, const char *const *needs,
                                          const char *const *definitions)
{
    struct made *new = &stock[used];
    struct shared_object *result = &objects[used++];

    made_begin(new, libraries, needs, definitions);
    made_end(new);
    *result = (struct shared_object){.found = true};
    result->kind = elf_read(new->bytes, new->size, &result->elf);
    snprintf(result->name, sizeof result->name, "%s", name);
    return result;
}

/* An image that has libc.so.6, libstdc++.so.6 and libown.so.1. */
static const struct shared_object *find(void *context, const char *name)
{
    const struct shared_object *const *image = context;

    return strcmp(name, "libc.so.6") == 0        ? image[0]
           : strcmp(name, "libstdc++.so.6") == 0 ? image[1]
           : strcmp(name, "libown.so.1") == 0    ? image[2]
                                                 : NULL;
}

static const struct shared_object *image[3];
static struct candidate candidates[8];
static uint32_t count;

static void begin(void)
{
    used = 0;
    count = 0;
    memset(candidates, 0, sizeof candidates);
    image[0] = object("libc.so.6", NONE, NONE, MADE_LIST("libc.so.6", "GLIBC_2.2.5", "GLIBC_2.4", "GLIBC_2.31", "GLIBC_PRIVATE"));
    image[1] = object("libstdc++.so.6.0.28", NONE, NONE, MADE_LIST("libstdc++.so.6", "GLIBCXX_3.4.28", "CXXABI_1.3.12"));
    image[2] = object("libown.so.1.5.0", MADE_LIST("libc.so.6"), MADE_LIST("libc.so.6", "GLIBC_2.4"), NONE);
}

static struct candidate *offer(const char *name, uint64_t number, const struct shared_object *host)
{
    struct candidate *candidate = &candidates[count++];

    *candidate = (struct candidate){.name = name, .file = "/host/file", .number = number | LIBRARY_OBJECT, .host = *host};
    candidate->image = *name != '\0' ? find(image, name) : NULL;
    return candidate;
}

static void judge(bool foreign)
{
    const struct image_libraries libraries = {find, image, foreign};
    library_judge(candidates, count, &libraries);
}

static bool says(const struct candidate *candidate, enum library_verdict verdict, const char *reason)
{
    if (candidate->verdict == verdict && strcmp(candidate->reason, reason) == 0)
        return true;
    printf("# %d: %s\n", (int)candidate->verdict, candidate->reason);
    return false;
}

static struct candidate *one(const char *name, uint64_t number, const char *file, const char *const *needs,
                             const char *const *definitions)
{
    begin();
    struct candidate *candidate = offer(name, number, object(file, NONE, needs, definitions));
    judge(false);
    return candidate;
}

static void test_loading(void)
{
    CHECK(says(one("libnew.so.1", 0, "libnew.so.1", MADE_LIST("libc.so.6", "GLIBC_2.4"), NONE), JUDGE_TAKEN, "the image has none"),
          "what the image lacks goes in");
    CHECK(says(one("libnew.so.1", 0, "libnew.so.1", MADE_LIST("libc.so.6", "GLIBC_2.34", "libc.so.6", "GLIBC_2.38"), NONE), JUDGE_BROKEN,
               "needs GLIBC_2.38 of libc.so.6, and the image's has at most GLIBC_2.31"), "not with a newer C library");
    CHECK(says(one("libnew.so.1", LIBRARY_DRIVER | LIBRARY_ALWAYS, "libnew.so.1", MADE_LIST("libstdc++.so.6", "GLIBCXX_3.4.30"), NONE),
               JUDGE_BROKEN, "needs GLIBCXX_3.4.30 of libstdc++.so.6, and the image's has at most GLIBCXX_3.4.28"), "nor C++ library");
    CHECK(says(one("libnew.so.1", 0, "libnew.so.1", MADE_LIST("libstdc++.so.6", "CXXABI_1.3.13"), NONE), JUDGE_BROKEN,
               "needs CXXABI_1.3.13 of libstdc++.so.6, and the image's has at most CXXABI_1.3.12"), "each kind of version counts");
    CHECK(says(one("libnew.so.1", 0, "libnew.so.1", MADE_LIST("libc.so.6", "GLIBC_ABI_DT_RELR"), NONE), JUDGE_BROKEN,
               "needs GLIBC_ABI_DT_RELR of libc.so.6, and the image's has none of that kind"), "also one without a number");
    CHECK(one("libnew.so.1", 0, "libnew.so.1", MADE_LIST("libc.so.6", "?GLIBC_2.38"), NONE)->verdict == JUDGE_TAKEN, "a weak need is none");
    CHECK(one("libnew.so.1", 0, "libnew.so.1", MADE_LIST("libown.so.1", "OWN_2"), NONE)->verdict == JUDGE_TAKEN,
          "a library without versions is not asked for one, as by the loader");
    CHECK(one("libnew.so.1", 0, "libnew.so.1", MADE_LIST("libelse.so.1", "ELSE_2"), NONE)->verdict == JUDGE_TAKEN,
          "a library that nobody has may be found by the image's own paths");
    begin();
    struct candidate *candidate = offer("libnew.so.1", 0, object("libnew.so.1", NONE, NONE, NONE));
    judge(true);
    CHECK(says(candidate, JUDGE_BROKEN, "is linked to glibc, and the image has another C library"), "nothing goes to another C library");
}

static void test_age(void)
{
    CHECK(says(one("libown.so.1", 0, "libown.so.1.10.0", NONE, NONE), JUDGE_TAKEN, "libown.so.1.10.0 is newer than the image's libown.so.1.5.0"),
          "a newer one goes in");
    CHECK(says(one("libown.so.1", 0, "libown.so.1.4.0", NONE, NONE), JUDGE_UNNEEDED, "the image's libown.so.1.5.0 is newer than libown.so.1.4.0"),
          "an older one does not");
    CHECK(one("libown.so.1", 0, "libown.so.1", NONE, NONE)->verdict == JUDGE_UNNEEDED, "one that does not say does not");
    CHECK(says(one("libown.so.1", LIBRARY_DRIVER, "libown.so.1.4.0", NONE, NONE), JUDGE_TAKEN,
               "libown.so.1.4.0 is the driver's, the image has libown.so.1.5.0"), "the driver's own goes in although it is older");
    CHECK(says(one("libown.so.1", LIBRARY_ALWAYS, "libown.so.1.4.0", NONE, NONE), JUDGE_TAKEN,
               "libown.so.1.4.0 as asked, though the image's libown.so.1.5.0 is newer"), "so does one that is asked for");
    CHECK(says(one("libstdc++.so.6", LIBRARY_ALWAYS, "libstdc++.so.6.0.99", NONE, MADE_LIST("libstdc++.so.6", "GLIBCXX_3.4.28")), JUDGE_BROKEN,
               "lacks CXXABI_1.3.12, which the image's libstdc++.so.6.0.28 has"), "but not where programs of the image could no longer load");
    CHECK(one("libown.so.1", LIBRARY_ALWAYS | LIBRARY_SUPPORT, "libown.so.1.4.0", NONE, NONE)->verdict == JUDGE_UNNEEDED,
          "what only supports is not meant by that");
    CHECK(one("libstdc++.so.6", 0, "libstdc++.so.6.0.28", NONE, MADE_LIST("libstdc++.so.6", "GLIBCXX_3.4.28", "GLIBCXX_3.4.30", "CXXABI_1.3.12"))
                  ->verdict == JUDGE_TAKEN, "more versions make it newer, whatever its number");
    CHECK(one("libstdc++.so.6", 0, "libstdc++.so.6.0.99", NONE, MADE_LIST("libstdc++.so.6", "GLIBCXX_3.4.28"))->verdict == JUDGE_UNNEEDED,
          "fewer versions make it older");
    begin();
    struct candidate *same = offer("libown.so.1", 0, image[2]);
    judge(false);
    CHECK(says(same, JUDGE_UNNEEDED, "the image has the same: libown.so.1.5.0"), "a copy is not needed");
    begin();
    struct candidate *bare = offer("libown.so", 0, object("libown.so.1.4.0", NONE, NONE, NONE));
    offer("libown.so.1", 0, object("libown.so.1.4.0", NONE, NONE, NONE));
    judge(false);
    CHECK(says(bare, JUDGE_UNNEEDED, "goes with libown.so.1, which is not needed"), "the name without a number follows the other");
}

static void test_together(void)
{
    const uint64_t set = UINT64_C(1) << LIBRARY_SET;

    begin();
    struct candidate *lead = offer("libown.so.1", set | LIBRARY_LEAD, object("libown.so.1.4.0", NONE, NONE, NONE));
    struct candidate *member = offer("", set, object("libplug.so", NONE, NONE, NONE));
    judge(false);
    CHECK(lead->verdict == JUDGE_UNNEEDED && member->verdict == JUDGE_UNNEEDED, "a set stays out as its first library does");
    begin();
    offer("libown.so.1", set | LIBRARY_LEAD, object("libown.so.1.6.0", NONE, NONE, MADE_LIST("libown.so.1", "OWN_1")));
    member = offer("", set, object("libplug.so", MADE_LIST("libown.so.1"), MADE_LIST("libown.so.1", "OWN_1"), NONE));
    struct candidate *newer = offer("", set, object("libplug2.so", NONE, MADE_LIST("libown.so.1", "OWN_2"), NONE));
    judge(false);
    CHECK(says(member, JUDGE_TAKEN, "goes with libown.so.1"), "and goes in as it does, checked against what goes in");
    CHECK(says(newer, JUDGE_BROKEN, "needs OWN_2 of libown.so.1, and the host's has at most OWN_1"), "each member by itself");
    begin();
    lead = offer("libown.so.1", set | LIBRARY_LEAD, object("libown.so.1.6.0", NONE, MADE_LIST("libc.so.6", "GLIBC_2.99"), NONE));
    member = offer("", set, object("libplug.so", NONE, NONE, NONE));
    judge(false);
    CHECK(lead->verdict == JUDGE_BROKEN && says(member, JUDGE_BROKEN, "goes with libown.so.1, which stays out"),
          "without its first library there is no set");
    begin();
    lead = offer("libown.so.1", set | LIBRARY_LEAD, object("libown.so.1.6.0", NONE, NONE, NONE));
    offer("libstdc++.so.6", set, object("libstdc++.so.6.0.99", NONE, NONE, MADE_LIST("libstdc++.so.6", "GLIBCXX_3.4.28")));
    judge(false);
    CHECK(says(lead, JUDGE_BROKEN, "goes with libstdc++.so.6, which lacks CXXABI_1.3.12, which the image's libstdc++.so.6.0.28 has"),
          "nor while the image must keep its own copy of a part");
    begin();
    struct candidate *user = offer("libuser.so.1", 0, object("libuser.so.1", MADE_LIST("libbase.so.1"), NONE, NONE));
    offer("libbase.so.1", 0, object("libbase.so.1", NONE, MADE_LIST("libc.so.6", "GLIBC_2.99"), NONE));
    judge(false);
    CHECK(says(user, JUDGE_BROKEN, "needs libbase.so.1, which stays out"), "one that is left out takes along who needs it");
    begin();
    offer("libown.so.1", set | LIBRARY_LEAD, object("libown.so.1.4.0", NONE, NONE, NONE));
    offer("libpart.so.1", set, object("libpart.so.1", NONE, NONE, NONE));
    user = offer("libuser.so.1", 0, object("libuser.so.1", MADE_LIST("libpart.so.1"), NONE, NONE));
    judge(false);
    CHECK(says(user, JUDGE_BROKEN, "needs libpart.so.1, which stays out"), "also when that is not needed itself");
    begin();
    user = offer("libown.so.1", 0, object("libown.so.1.6.0", MADE_LIST("libnowhere.so.1"), NONE, NONE));
    judge(false);
    CHECK(says(user, JUDGE_BROKEN, "needs libnowhere.so.1, which the image does not have"),
          "one that may not load does not stand before one that works");
    begin();
    user = offer("libuser.so.1", 0, object("libuser.so.1", NONE, MADE_LIST("libstdc++.so.6", "GLIBCXX_3.4.30"), NONE));
    offer("libstdc++.so.6", 0, object("libstdc++.so.6.0.30", NONE, MADE_LIST("libc.so.6", "GLIBC_2.99"),
                                      MADE_LIST("libstdc++.so.6", "GLIBCXX_3.4.28", "GLIBCXX_3.4.30", "CXXABI_1.3.12")));
    judge(false);
    CHECK(says(user, JUDGE_BROKEN, "needs GLIBCXX_3.4.30 of libstdc++.so.6, and the image's has at most GLIBCXX_3.4.28"),
          "it is judged anew against the image's when the host's is left out");
}

int main(void)
{
    test_reading();
    test_versions();
    test_loading();
    test_age();
    test_together();
    return checks_end();
}
