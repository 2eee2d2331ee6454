/* Which host libraries an image takes: by the versions of symbols that they need, and that its own programs need. */
#include "libraries.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../inside.h"
#include "../request.h"

struct judgement {
    struct candidate *candidates;
    uint32_t count;
    const struct image_libraries *image;
};

__attribute__((format(printf, 3, 4)))
static void decide(struct candidate *candidate, enum library_verdict verdict, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(candidate->reason, sizeof candidate->reason, format, arguments);
    va_end(arguments);
    candidate->verdict = verdict;
}

/* 0: in no set. */
static uint64_t set_of(const struct candidate *candidate)
{
    return candidate->number >> LIBRARY_SET;
}

/* ---- is it wanted? ---- */

static const char *host_name(const struct candidate *candidate)
{
    return *candidate->host.name != '\0' ? candidate->host.name : path_last(candidate->file);
}

/* By itself, from what the image has under its name. Newer wins, since a newer library of the same name still serves
 * programs that were linked with the older one. Where nothing says which is newer the image's stays: its programs
 * were tested with it. */
static void want(struct candidate *candidate)
{
    const struct shared_object *image = candidate->image;
    bool always = (candidate->number & LIBRARY_ALWAYS) && !(candidate->number & LIBRARY_SUPPORT);

    if (image == NULL) {
        decide(candidate, JUDGE_TAKEN, *candidate->name != '\0' ? "the image has none" : "of the host's driver");
        return;
    }
    enum version_order order = library_version_order(&candidate->host, image);
    if (order == VERSION_SAME && !always)
        decide(candidate, JUDGE_UNNEEDED, "the image has the same: %s", image->name);
    else if (candidate->number & LIBRARY_DRIVER)
        decide(candidate, JUDGE_TAKEN, "%s is the driver's, the image has %s", host_name(candidate), image->name);
    else if (always)
        decide(candidate, JUDGE_TAKEN,
               order == VERSION_OLDER ? "%s as asked, though the image's %s is newer" : "%s as asked, the image has %s",
               host_name(candidate), image->name);
    else if (order == VERSION_NEWER)
        decide(candidate, JUDGE_TAKEN, "%s is newer than the image's %s", host_name(candidate), image->name);
    else if (order == VERSION_OLDER)
        decide(candidate, JUDGE_UNNEEDED, "the image's %s is newer than %s", image->name, host_name(candidate));
    else
        decide(candidate, JUDGE_UNNEEDED, "the image has %s, and nothing says that %s is newer", image->name,
               host_name(candidate));
}

/* An MPI of the host takes the place of one that the programs of the image can have been linked with: the same interface
 * under the same name. */
static void want_mpi(const struct judgement *judgement, struct candidate *candidate)
{
    const char *other = NULL;
    unsigned families = 0, own = 0;

    for (size_t i = 0; i < MPI_NAMES; i++) {
        own = strcmp(mpi_names[i].name, candidate->name) == 0 ? mpi_names[i].families : own;
        if (other == NULL && mpi_names[i].leads && judgement->image->find(judgement->image->context, mpi_names[i].name) != NULL) {
            other = mpi_names[i].name;
            families = mpi_names[i].families;
        }
    }
    if (candidate->image != NULL)
        decide(candidate, JUDGE_TAKEN, "%s in place of the image's %s", host_name(candidate), candidate->image->name);
    else if (other != NULL)
        decide(candidate, JUDGE_BROKEN, "the host's MPI is %s (%s), the image's is %s (%s)", candidate->name, mpi_families_text(own), other,
               mpi_families_text(families));
    else if (candidate->number & LIBRARY_ALWAYS)
        decide(candidate, JUDGE_TAKEN, "%s as asked: the image has no MPI where its loader looks", host_name(candidate));
    else
        decide(candidate, JUDGE_BROKEN, "the image has no MPI where its loader looks");
}

/* The library that decides for a set. Of several names for it, one that the image has as well. */
static struct candidate *lead_of(const struct judgement *judgement, uint64_t set)
{
    struct candidate *lead = NULL;

    for (uint32_t i = 0; i < judgement->count; i++) {
        struct candidate *candidate = &judgement->candidates[i];
        if (set_of(candidate) == set && (candidate->number & LIBRARY_LEAD) &&
            (lead == NULL || (lead->image == NULL && candidate->image != NULL)))
            lead = candidate;
    }
    return lead;
}

/* A member of a set follows the first library of it. */
static void want_with_set(struct candidate *candidate, const struct candidate *lead)
{
    if (lead == NULL)
        decide(candidate, JUDGE_UNNEEDED, "the host has no library of its set");
    else if (lead->verdict == JUDGE_UNNEEDED)
        decide(candidate, JUDGE_UNNEEDED, "goes with %s, and %s", lead->name, lead->reason);
    else if (candidate->number & LIBRARY_SUPPORT)
        want(candidate);
    else if (candidate->image != NULL)
        decide(candidate, JUDGE_TAKEN, "goes with %s, the image has %s", lead->name, candidate->image->name);
    else
        decide(candidate, JUDGE_TAKEN, "goes with %s", lead->name);
}

/* "libx.so", which compilers ask for, follows "libx.so.1": together they are one library. */
static void want_with_number(const struct judgement *judgement, struct candidate *candidate)
{
    size_t length = strlen(candidate->name);

    if (length < 3 || strcmp(candidate->name + length - 3, ".so") != 0 || (candidate->number & LIBRARY_DRIVER))
        return;
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct candidate *other = &judgement->candidates[i];
        if (strncmp(other->name, candidate->name, length) == 0 && other->name[length] == '.' &&
            other->verdict == JUDGE_UNNEEDED)
            decide(candidate, JUDGE_UNNEEDED, "goes with %s, which is not needed", other->name);
    }
}

/* In this order: each by itself, then MPI by its interface, then members by the first of their set, and last the
 * names without a number, which follow what has just been decided. */
static void want_all(const struct judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->count; i++)
        want(&judgement->candidates[i]);
    for (uint32_t i = 0; i < judgement->count; i++) {
        struct candidate *candidate = &judgement->candidates[i];
        if ((candidate->number & LIBRARY_LEAD) && (candidate->number & LIBRARY_OPTION) == LIBRARY_MPI)
            want_mpi(judgement, candidate);
    }
    for (uint32_t i = 0; i < judgement->count; i++) {
        struct candidate *candidate = &judgement->candidates[i];
        const struct candidate *lead = lead_of(judgement, set_of(candidate));
        if (set_of(candidate) != 0 && candidate != lead)
            want_with_set(candidate, lead);
    }
    for (uint32_t i = 0; i < judgement->count; i++)
        want_with_number(judgement, &judgement->candidates[i]);
}

/* ---- can it load? ---- */

static struct candidate *candidate_named(const struct judgement *judgement, const char *name)
{
    for (uint32_t i = 0; i < judgement->count; i++)
        if (strcmp(judgement->candidates[i].name, name) == 0)
            return &judgement->candidates[i];
    return NULL;
}

/* What the loader will find: what goes in comes before what the image has. */
static const struct shared_object *provider(const struct judgement *judgement, const char *name)
{
    const struct candidate *candidate = candidate_named(judgement, name);

    if (candidate != NULL && candidate->verdict == JUDGE_TAKEN)
        return &candidate->host;
    return candidate != NULL ? candidate->image : judgement->image->find(judgement->image->context, name);
}

static size_t stem_length(const char *version)
{
    const char *underscore = strrchr(version, '_');
    return underscore != NULL ? (size_t)(underscore - version) + 1 : 0;
}

/* The newest version of the same family of versions, or NULL. "GLIBC_2.38" is asked for and "GLIBC_2.36" is what
 * there is: the message names the latter, which is how people know their distribution. */
static const char *newest_like(const struct elf *elf, const char *version)
{
    struct elf_definition definition = {.version = NULL};
    size_t length = stem_length(version);
    const char *newest = NULL;

    while (elf_next_definition(elf, &definition)) {
        const char *number = definition.version + length;
        if (definition.base || strncmp(definition.version, version, length) != 0 || *number < '0' || *number > '9')
            continue;
        if (newest == NULL || version_compare(number, newest + length) > 0)
            newest = definition.version;
    }
    return newest;
}

static bool has_versions(const struct elf *elf)
{
    struct elf_definition definition = {.version = NULL};
    return elf_next_definition(elf, &definition);
}

/* As glibc's loader: a version is only asked of a library that has some. What fails here would fail at the start of
 * every program in the container: "version `GLIBC_2.38' not found". A weak need is none (VER_FLG_WEAK). */
static bool versions_there(const struct judgement *judgement, struct candidate *candidate)
{
    struct elf_need need = {.file = NULL};
    const char *missing = NULL, *file = NULL, *asked = NULL;
    const struct shared_object *lacking = NULL, *found = NULL;

    while (elf_next_need(&candidate->host.elf, &need)) {
        if (need.file != asked) /* all of one library stand together */
            found = provider(judgement, asked = need.file);
        if (need.weak || found == NULL || found->kind != ELF_THIS || elf_defines(&found->elf, need.version) ||
            !has_versions(&found->elf))
            continue;
        if (missing == NULL || version_compare(need.version, missing) > 0) { /* the newest says most */
            missing = need.version;
            file = need.file;
            lacking = found;
        }
    }
    if (missing == NULL)
        return true;
    const char *newest = newest_like(&lacking->elf, missing);
    const struct candidate *other = candidate_named(judgement, file);
    decide(candidate, JUDGE_BROKEN, "needs %s of %s, and the %s has %s%s", missing, file,
           other != NULL && &other->host == lacking ? "host's" : "image's", newest != NULL ? "at most " : "none of that kind",
           newest != NULL ? newest : "");
    return false;
}

/* A library that nobody has may lie where only the image's own variables lead: the candidate stays out only when it would
 * stand before one that works, or when what it lacks is known to be left out. */
static bool libraries_there(const struct judgement *judgement, struct candidate *candidate)
{
    uint64_t cursor = 0;

    for (const char *name; (name = elf_next_library(&candidate->host.elf, &cursor)) != NULL;) {
        const struct candidate *other = candidate_named(judgement, name);
        bool left = other != NULL && other->verdict != JUDGE_TAKEN;
        if (provider(judgement, name) != NULL || (!left && candidate->image == NULL))
            continue;
        decide(candidate, JUDGE_BROKEN, left ? "needs %s, which stays out" : "needs %s, which the image does not have", name);
        return false;
    }
    return true;
}

/* Programs of the image may need all that its own copy has; a driver's is of no use to them in another version
 * anyway. The loader refuses to start a program when a library lacks a symbol version that it was linked with. */
static bool stands_in(struct candidate *candidate)
{
    const char *version = candidate->image != NULL && !(candidate->number & LIBRARY_DRIVER)
                              ? library_lacks(&candidate->host.elf, &candidate->image->elf)
                              : NULL;

    if (version != NULL)
        decide(candidate, JUDGE_BROKEN, "lacks %s, which the image's %s has", version, candidate->image->name);
    return version == NULL;
}

/* What is linked to glibc's libc.so.6 cannot load under musl's loader. */
static bool can_load(const struct judgement *judgement, struct candidate *candidate)
{
    if (!(candidate->number & LIBRARY_OBJECT) || candidate->host.kind == ELF_NONE)
        return true; /* a file, or a script */
    if (candidate->host.kind == ELF_OTHER) {
        decide(candidate, JUDGE_BROKEN, "is for another machine");
        return false;
    }
    if (judgement->image->foreign && candidate->host.elf.dynamic != 0) {
        decide(candidate, JUDGE_BROKEN, "is linked to glibc, and the image has another C library");
        return false;
    }
    return stands_in(candidate) && versions_there(judgement, candidate) && libraries_there(judgement, candidate);
}

/* What a set is without its first library is nothing. */
static bool leave_set(const struct judgement *judgement, struct candidate *candidate)
{
    const struct candidate *lead = set_of(candidate) != 0 ? lead_of(judgement, set_of(candidate)) : NULL;

    if (lead == NULL || lead == candidate || lead->verdict != JUDGE_BROKEN)
        return false;
    decide(candidate, JUDGE_BROKEN, "goes with %s, which stays out", lead->name);
    return true;
}

/* One that the image has too cannot stay behind alone: the image's would meet the host's others, which it does not
 * fit. So the first library of the set goes, and by leave_set() all of it. */
static void keep_together(const struct judgement *judgement, const struct candidate *candidate)
{
    struct candidate *lead = set_of(candidate) != 0 ? lead_of(judgement, set_of(candidate)) : NULL;

    if (lead == NULL || lead == candidate || candidate->image == NULL || (candidate->number & LIBRARY_SUPPORT) ||
        lead->verdict != JUDGE_TAKEN)
        return;
    decide(lead, JUDGE_BROKEN, "goes with %s, which %.120s", candidate->name, candidate->reason);
}

/* Each one left out may take others with it: until nothing changes, which ends, since none comes back. */
void library_judge(struct candidate *candidates, uint32_t count, const struct image_libraries *image)
{
    const struct judgement judgement = {candidates, count, image};

    want_all(&judgement);
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < count; i++)
            if (candidates[i].verdict == JUDGE_TAKEN &&
                (leave_set(&judgement, &candidates[i]) || !can_load(&judgement, &candidates[i]))) {
                keep_together(&judgement, &candidates[i]);
                changed = true;
            }
    }
}
