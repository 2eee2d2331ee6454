/* The judgement on one file system of a SIF file: which group of objects it belongs to, who has signed that, whether they count here. */
#include "signature.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../config.h"
#include "../descriptor.h"
#include "../image/bytes.h"
#include "../inside.h"
#include "../location.h"

/* The layout is that of image/sif.c; a signature's own descriptor has at 201 its hash and at 205 the fingerprint of its key. */
enum { HEADER = 128, ROW = 585, NAME_AT = 73, NAME = 128, EXTRA_AT = 201, EXTRA = 384, FINGERPRINT = 20 };
enum { TYPE_PARTITION = 0x4004, TYPE_SIGNATURE = 0x4005, TYPE_GENERIC = 0x4007, SHA256_NUMBER = 1 };
#define GROUP_MASK UINT32_C(0xf0000000)

struct table {
    uint32_t count;
    uint8_t header[HEADER];
    uint8_t rows[OBJECTS_MOST][ROW];
};

static bool table_read(int fd, uint64_t size, struct table *table, struct error *error)
{
    if (!bytes_read(fd, 0, size, 0, table->header, HEADER) || memcmp(table->header + 32, "SIF_MAGIC\0" "01", 13) != 0)
        return error_set(error, 0, "only SIF files carry signatures that launches check (singularity build IMAGE.sif makes one)");
    uint64_t count = le64(table->header + 88), length = le64(table->header + 104);
    if (count > OBJECTS_MOST || length != count * ROW ||
        !bytes_read(fd, 0, size, le64(table->header + 96), table->rows[0], (size_t)length))
        return error_set(error, 0, "its table of objects is not as every program reads it");
    table->count = (uint32_t)count;
    return true;
}

static uint32_t group_of(const uint8_t *row)
{
    return le32(row + 9) & ~GROUP_MASK;
}

static bool name_is(const uint8_t *row, const char *name)
{
    uint8_t wanted[NAME] = {0};

    memcpy(wanted, name, strlen(name));
    return memcmp(row + NAME_AT, wanted, NAME) == 0;
}

/* What is signed of a descriptor: ids counted from the least one of the group, and nothing that says where its data lies. */
static void described(const uint8_t *row, uint32_t base, struct described *object)
{
    uint8_t bytes[45 + NAME + EXTRA];
    uint32_t relative = object->id - base;

    memcpy(bytes, row, 5);
    for (int i = 0; i < 4; i++)
        bytes[5 + i] = (uint8_t)(relative >> (8 * i));
    memcpy(bytes + 9, row + 13, 4);   /* link */
    memcpy(bytes + 13, row + 25, 8);  /* size */
    memcpy(bytes + 21, row + 41, 8);  /* time */
    memcpy(bytes + 29, row + 57, 16); /* owner */
    memcpy(bytes + 45, row + NAME_AT, NAME + EXTRA);
    sha256_of(bytes, sizeof bytes, object->digest);
}

/* Which object is asked about, and all that are in its group. */
static bool group_read(const struct table *table, const struct seal_question *question, struct signed_group *group, uint32_t *which,
                       struct error *error)
{
    const uint8_t *part = NULL;
    uint8_t identity[61];

    for (uint32_t i = 0; i < table->count; i++) {
        const uint8_t *row = table->rows[i];
        if (row[4] == 0)
            continue;
        if (row[4] != 1 || (le32(row + 9) & GROUP_MASK) != GROUP_MASK)
            return error_set(error, 0, "its table of objects is not as every program reads it");
        if ((group_of(row) == 0) != (le32(row) == TYPE_SIGNATURE))
            return error_set(error, 0, "object %u is in no group: no signature speaks of it", le32(row + 5));
        if (le32(row) == TYPE_PARTITION && le64(row + 17) == question->offset && le64(row + 25) == question->size)
            part = row;
        for (uint32_t j = 0; j < i; j++)
            if (table->rows[j][4] != 0 && memcmp(row + 5, table->rows[j] + 5, 4) == 0)
                return error_set(error, 0, "two objects have the id %u", le32(row + 5));
    }
    if (part == NULL)
        return error_set(error, 0, "changed while it was opened");
    group->number = group_of(part);
    group->count = 0;
    group->base = UINT32_MAX;
    for (uint32_t i = 0; i < table->count; i++) {
        const uint8_t *row = table->rows[i];
        if (row[4] == 0 || group_of(row) != group->number)
            continue;
        if (row == part)
            *which = group->count;
        group->objects[group->count++] = (struct described){
            .type = le32(row), .id = le32(row + 5), .offset = le64(row + 17), .size = le64(row + 25), .link = le32(row + 13),
            .is_tree = le32(row) == TYPE_GENERIC && name_is(row, "verity")};
        group->base = le32(row + 5) < group->base ? le32(row + 5) : group->base;
    }
    for (uint32_t i = 0, object = 0; i < table->count; i++)
        if (table->rows[i][4] != 0 && group_of(table->rows[i]) == group->number)
            described(table->rows[i], group->base, &group->objects[object++]);
    memcpy(identity, table->header, 45); /* launch line, magic number, version; then the UUID */
    memcpy(identity + 45, table->header + 48, 16);
    sha256_of(identity, sizeof identity, group->header);
    return true;
}

static bool speaks_of(const uint8_t *row, const struct signed_group *group)
{
    uint32_t link = le32(row + 13);

    if (row[4] == 0 || le32(row) != TYPE_SIGNATURE || le32(row + EXTRA_AT) != SHA256_NUMBER)
        return false;
    for (uint32_t i = 0; i < group->count; i++)
        if (group->objects[i].id == link)
            return true;
    return link == (group->number | GROUP_MASK);
}

/* By its descriptor, without a look at the signature: which keys are worth a try. */
static bool may_be_by(const uint8_t *row, const struct signer *signer)
{
    static const uint8_t none[FINGERPRINT];
    char digits[2 * FINGERPRINT + 1];

    if (!signer->openpgp)
        return memcmp(row + EXTRA_AT + 4, none, FINGERPRINT) == 0;
    for (int i = 0; i < FINGERPRINT; i++) {
        digits[2 * i] = "0123456789ABCDEF"[row[EXTRA_AT + 4 + i] >> 4];
        digits[2 * i + 1] = "0123456789ABCDEF"[row[EXTRA_AT + 4 + i] & 15];
    }
    return memcmp(digits, signer->fingerprint, 2 * FINGERPRINT) == 0;
}

/* Several who have signed must have signed the same; a hash tree counts where all of them have its root. */
static bool agree(struct seal *seal, const struct seal *more, bool first, struct error *error)
{
    if (first) {
        *seal = *more;
        return true;
    }
    if (memcmp(seal->digest, more->digest, SEAL_DIGEST) != 0)
        return error_set(error, 0, "its signatures are of different data");
    if (seal->tree != more->tree || memcmp(seal->root, more->root, SEAL_DIGEST) != 0)
        seal->tree = 0;
    return true;
}

struct finding {
    const struct signer *by[SIGNERS];
    uint32_t count;
    const char *why_not; /* of a signature by somebody who is known */
};

/* One signature: whoever is known to have made it is taken down. False: it is his, and not of what is there. */
static bool signature_read(const struct seal_question *question, uint64_t size, const uint8_t *row, const struct signers *signers,
                           time_t now, const struct signed_group *group, uint32_t which, struct finding *finding, struct seal *seal,
                           struct error *error)
{
    static uint8_t text[ENVELOPE_LIMIT];
    static struct envelope envelope;
    uint64_t length = le64(row + 25);
    struct seal found;

    if (length > sizeof text || !bytes_read(question->image, 0, size, le64(row + 17), text, (size_t)length) ||
        !envelope_open((struct span){text, (size_t)length}, &envelope))
        return true;
    for (uint32_t i = 0; i < signers->count; i++) {
        const struct signer *signer = &signers->each[i];
        if (!may_be_by(row, signer) || !envelope_by(&envelope, signer))
            continue;
        if (!signer_counts(signer, now) || (envelope.expires != 0 && now >= envelope.expires)) {
            finding->why_not = "its signature, or the key that made it, has expired";
            continue;
        }
        if (!statement_fits(envelope.statement, group, which, &found, error))
            return false;
        if (finding->count < SIGNERS && !agree(seal, &found, finding->count == 0, error))
            return false;
        if (finding->count < SIGNERS)
            finding->by[finding->count++] = signer;
    }
    return true;
}

/* Named by what the kernel changes with each change of a file, and by what was signed. False: others than root can write to it. */
static bool place_write(const struct stat *file, struct seal *seal)
{
    int used = snprintf(seal->known, sizeof seal->known, "%llx-%llx-%llx.%lx-%llx-",
                        (unsigned long long)file->st_dev, (unsigned long long)file->st_ino, (unsigned long long)file->st_ctim.tv_sec,
                        (unsigned long)file->st_ctim.tv_nsec, (unsigned long long)seal->offset);

    for (int i = 0; i < SEAL_DIGEST; i++)
        used += snprintf(seal->known + used, sizeof seal->known - (size_t)used, "%02x", seal->digest[i]);
    return file->st_uid == 0 && (file->st_mode & (S_IWGRP | S_IWOTH)) == 0 && (size_t)used < sizeof seal->known;
}

/* The kernel's Documentation/admin-guide/device-mapper/verity.rst; "-" is a tree without salt. */
static void table_write(struct seal *seal)
{
    int used = snprintf(seal->table, sizeof seal->table, "%d %d %llu %llu sha256 ", SEAL_BLOCK, SEAL_BLOCK,
                        (unsigned long long)seal->size / SEAL_BLOCK, (unsigned long long)(seal->tree - seal->offset) / SEAL_BLOCK);

    for (int i = 0; i < SEAL_DIGEST; i++)
        used += snprintf(seal->table + used, 3, "%02x", seal->root[i]);
    memcpy(seal->table + used, " -", sizeof " -");
}

/* How it stays what was signed: block by block where whoever reads it checks that. What is compared as a whole must be a file that users
 * cannot write; of such a one it is enough to do it once. */
static bool keep_whole(const struct seal_question *question, const struct stat *file, struct seal *seal, struct error *error)
{
    bool kernel = question->reader == READER_KERNEL, roots = place_write(file, seal), tree = seal->tree != 0;
    uint8_t digest[SEAL_DIGEST];
    char path[PATH_MAX];

    snprintf(path, sizeof path, SEALS_KNOWN "%s", seal->known);
    table_write(seal);
    if (tree && (kernel ? access("/dev/mapper/control", F_OK) == 0 : question->reader == READER_SERVER))
        return true;
    if (question->enforced && !roots)
        return error_set(error, 0, "%s, and the file is not root's alone: it could be changed while it runs",
                         tree ? "this kernel has no dm-verity to check what it reads"
                              : "signed without a hash tree (singularity sign adds one where nothing is signed yet)");
    seal->tree = 0;
    if (kernel && roots && access(path, F_OK) == 0)
        return true;
    if (!sha256_of_file(question->image, seal->offset, seal->size, digest))
        return error_set(error, 0, "cannot be read to its end");
    seal->remember = kernel && roots;
    return memcmp(digest, seal->digest, SEAL_DIGEST) == 0 || error_set(error, 0, "the data is not what was signed");
}

bool signature_judge(const struct seal_question *question, struct signature_policy *policy, struct seal_verdict *verdict)
{
    static struct signers signers;
    static struct table table;
    static struct signed_group group;
    struct finding finding = {.why_not = "by nobody whose signature counts here"};
    struct error *error = &verdict->error;
    struct stat status;
    uint32_t which = 0;

    if (!crypto_is_there())
        return error_set(error, 0, "this singularity was built without nettle, and can check no signature");
    if (!signers_parse(policy->signers_name, policy->signers, policy->signers_size, &signers, error))
        return false;
    if (fstat(question->image, &status) < 0 || !table_read(question->image, (uint64_t)status.st_size, &table, error) ||
        !group_read(&table, question, &group, &which, error))
        return false;
    for (uint32_t i = 0; i < table.count; i++)
        if (speaks_of(table.rows[i], &group) &&
            !signature_read(question, (uint64_t)status.st_size, table.rows[i], &signers, policy->now, &group, which, &finding,
                            &verdict->seal, error))
            return false;
    if (finding.count == 0)
        return error_set(error, 0, "not signed, or %s (\"require signature = %.200s\" in the configuration; singularity verify)",
                         finding.why_not, policy->signers_name);
    for (size_t i = 0, used = 0; i < finding.count && used < sizeof verdict->by - 1; i++)
        for (const char *letter = i > 0 && finding.by[i] == finding.by[i - 1] ? "" : finding.by[i]->name;
             *letter != '\0' && used < sizeof verdict->by - 1; letter++)
            verdict->by[used++] = *letter;
    if (policy->list != NULL && !list_allows(policy->list_name, policy->list, policy->list_size, policy->directory, finding.by,
                                             finding.count, error))
        return false;
    return keep_whole(question, &status, &verdict->seal, error);
}

/* ---- the policy of this machine ---- */

/* A file that root alone has a say in, where the starter is setuid; with a NUL behind it. */
static bool file_read(const char *path, bool enforced, char *text, size_t *size, struct error *error)
{
    struct error why = {0};
    OWNED_FD file = enforced ? config_open(path, &why) : open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t got = 1;

    if (file < 0 && !enforced)
        error_set(&why, errno, "%.200s", path);
    if (file < 0)
        return error_set(error, 0, "%.300s (it says whose images may run, and nothing does without it)", why.text);
    for (*size = 0; got > 0 && *size < SIGNERS_FILE; *size += got > 0 ? (size_t)got : 0)
        got = read(file, text + *size, SIGNERS_FILE - *size);
    if (got != 0)
        return error_set(error, got < 0 ? errno : EFBIG, "%.200s", path);
    text[*size] = '\0';
    return true;
}

static bool judge(const struct seal_question *question, struct seal_verdict *verdict)
{
    bool enforced = question->enforced;
    static struct config config;
    static char signers[SIGNERS_FILE + 1], list[SIGNERS_FILE + 1], directory[PATH_MAX];
    struct error *error = &verdict->error;
    struct signature_policy policy = {.signers = signers, .directory = directory, .now = time(NULL)};

    if (!config_read(location_config(), enforced, &config, error))
        return false;
    policy.signers_name = config.require_signature;
    if (*policy.signers_name != '/')
        return error_set(error, 0, "\"execution control list\" needs the keys of \"require signature\" (%.200s)", config.path);
    if (!file_read(policy.signers_name, enforced, signers, &policy.signers_size, error))
        return false;
    if (*config.execution_list == '/') {
        policy.list = list;
        policy.list_name = config.execution_list;
        if (!file_read(policy.list_name, enforced, list, &policy.list_size, error))
            return false;
        if (!descriptor_path(question->image, directory, sizeof directory))
            return error_set(error, 0, "has been moved or removed since it was opened");
        char *slash = strrchr(directory, '/');
        slash[slash == directory] = '\0';
    }
    return signature_judge(question, &policy, verdict);
}

_Noreturn void seal_judge_and_tell(const struct seal_question *question, int to)
{
    static struct seal_verdict verdict;

    message_begin(LEVEL_ERROR, false); /* whoever asks has read the same configuration, and said what there is to say of it */
    if (!judge(question, &verdict) && verdict.error.text[0] == '\0')
        error_set(&verdict.error, 0, "its signature could not be checked");
    _exit(fd_write(to, &verdict, sizeof verdict) ? 0 : EXIT_OWN_FAILURE);
}
