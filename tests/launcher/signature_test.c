/* The judgement on signatures. Alone: what the readers of keys and lists take. With IMAGE and SIGNERS (tests/trust/test_judge.py):
 * no byte of the image that counts can change; STRIDE says how many bytes are tried. */
#include "signature/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "image/bytes.h"

enum { HEADER = 128, ROW = 585, OBJECTS = 5 };

static char signers_text[SIGNERS_FILE + 1];
static struct seal_question question = {.reader = READER_SERVER};
static uint8_t *original; /* the file */
static uint64_t file_size;

/* ---- readers ---- */

static const char ed25519[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPOnGq1Y/R3ijDtUxJkb82E4VbC5pQ1opOKar55VizrN";

static void signers_are(const char *text, int count, const char *wrong)
{
    static struct signers signers;
    static char copy[8192];
    struct error error = {0};

    snprintf(copy, sizeof copy, "%s", text);
    bool good = signers_parse("signers", copy, strlen(copy), &signers, &error);
    CHECK(wrong == NULL ? good && (int)signers.count == count : !good && strstr(error.text, wrong) != NULL, "%.60s: %s", text,
          good ? "taken" : error.text);
}

static void test_signers(void)
{
    char line[1024];
    static const char *const bad[][2] = {
        {"alice", "not NAME"}, {"alice ssh-ed25519", "not NAME"}, {"alice ssh-ed25519 AAA", "not NAME"},
        {"alice ssh-dss AAAAB3NzaC1kc3MAAAAA", "a key that does not count"},
        {"alice sk-ssh-ed25519@openssh.com AAAA", "a key that does not count"},
        {"alice cert-authority ssh-ed25519 AAAA", "an option that is not known"},
        {"alice namespaces=\"x ssh-ed25519 AAAA", "an option without an end"},
        {"alice valid-before=\"20250101\" ssh-ed25519 AAAA", "a time that is not"},
        {"alice valid-before=\"20251301Z\" ssh-ed25519 AAAA", "a time that is not"},
    };

    signers_are("", 0, NULL);
    signers_are("# a remark\n\n  # another\r\n", 0, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        signers_are(bad[i][0], 0, bad[i][1]);
    snprintf(line, sizeof line, "a %s\nb namespaces=\"file,singularity-image\" %s words\nc namespaces=\"file\" %s\n", ed25519, ed25519,
             ed25519);
    signers_are(line, 2, NULL);
    snprintf(line, sizeof line, "a valid-after=\"20200101Z\",valid-before=\"203001011200Z\" %s", ed25519);
    signers_are(line, 1, NULL);
    snprintf(line, sizeof line, "good %s\nbad\n", ed25519);
    signers_are(line, 0, "signers:2: ");
}

static void list_says(const char *text, const char *directory, const char *wrong)
{
    static char copy[4096];
    static const struct signer mine = {.fingerprint = "6E0B23AC2796A947269B299936EF72906FF159CC", .openpgp = true};
    const struct signer *by[] = {&mine};
    struct error error = {0};

    snprintf(copy, sizeof copy, "%s", text);
    bool good = list_allows("ecl.toml", copy, strlen(copy), directory, by, 1, &error);
    CHECK(wrong == NULL ? good : !good && strstr(error.text, wrong) != NULL, "%.60s: %s", text, good ? "runs" : error.text);
}

#define GROUP(mode, place, key) "[[execgroup]]\ntagname = 't'\nmode = \"" mode "\"\ndirpath = \"" place "\"\nkeyfp = [" key "]\n"
#define MINE "\"6e0b23ac2796a947269b299936ef72906ff159cc\""
#define HIS "\"1111111111111111111111111111111111111111\""

static void test_lists(void)
{
    list_says("", "/a", NULL); /* it is not activated */
    list_says("activated = false\n" GROUP("whitelist", "", HIS), "/a", NULL);
    list_says("activated = true", "/a", "no group");
    list_says("activated = true\n" GROUP("whitelist", "", MINE), "/a", NULL);
    list_says("activated = true\n" GROUP("whitelist", "", ""), "/a", "not signed as");
    list_says("activated = true\n" GROUP("whitestrict", "", ""), "/a", "not signed as");
    list_says("activated = true\n" GROUP("whitestrict", "", MINE ", # why\n " HIS), "/a", "not signed as");
    list_says("activated = true\n" GROUP("whitelist", "", MINE ", # why\n " HIS ",\n"), "/a", NULL);
    list_says("activated = true\n" GROUP("blacklist", "", MINE), "/a", "forbids");
    list_says("activated = true\n" GROUP("blacklist", "", HIS), "/a", NULL);
    list_says("activated = true\n" GROUP("whitelist", "", MINE) GROUP("blacklist", "/a/", MINE), "/a", "forbids");
    list_says("activated = true\n" GROUP("whitelist", "", MINE) GROUP("blacklist", "/a", MINE), "/a/b", NULL);
    list_says("activated = true\n" GROUP("whitelist", "/a", MINE) GROUP("blacklist", "/a", MINE), "/a", "a second group");
    list_says("activated = true\n" GROUP("whitelist", "", MINE) "more = 1\n", "/a", "not a line");
    list_says("activated = true\n" GROUP("whitelist", "", MINE) "[table]\n", "/a", "not a line");
    list_says("activated = true\n[[execgroup]]\ntagname = 't'\n", "/a", "without a mode");
    list_says("activated = true false\n", "/a", "more on the line");
    list_says("activated = true\n[[execgroup]]\nmode = \"white\\u006cist\"\n", "/a", "with a backslash");
    list_says("activated = true\n[[execgroup]]\nmode = \"whitelist\n\"\n", "/a", "without an end");
    list_says("mode = \"whitelist\"\n", "/a", "not a line");
}

/* ---- one image ---- */

static bool judged(struct seal_verdict *verdict)
{
    static char text[SIGNERS_FILE + 1];
    struct signature_policy policy = {.signers_name = "signers", .signers = text, .signers_size = strlen(signers_text), .now = time(NULL)};

    memcpy(text, signers_text, policy.signers_size + 1);
    memset(verdict, 0, sizeof *verdict);
    return signature_judge(&question, &policy, verdict);
}

/* What a launch would show: all of it, by a new reader; false: an error somewhere. */
static bool reads(const struct seal *seal)
{
    uint8_t *data = malloc((size_t)seal->size);
    struct sealed_file *file = sealed_open(question.image, seal, "image");
    bool good = file != NULL && data != NULL;

    for (uint64_t at = 0, part; good && at < seal->size; at += part) {
        part = seal->size - at < 100000 ? seal->size - at : 100000;
        good = sealed_read(file, at, data + at, (size_t)part) == 0;
    }
    if (good && memcmp(data, original + question.offset, (size_t)seal->size) != 0) {
        CHECK(false, "other bytes were read than were signed");
        exit(1);
    }
    free(file);
    free(data);
    return good;
}

static bool runs(void)
{
    static struct seal_verdict verdict;

    return judged(&verdict) && verdict.seal.tree != 0 && reads(&verdict.seal);
}

static void put(uint64_t at, uint8_t byte)
{
    if (pwrite(question.image, &byte, 1, (off_t)at) != 1)
        exit(2);
}

/* Fields that a launch does not go by: of the header the architecture, times, counts of what is free and where data begins; of
 * descriptors size with padding and time of change, of signatures id, times, owner and name,
 * and which object of the group they are linked to; where definition file and labels are. */
static bool counts(uint64_t at, uint64_t table)
{
    if (at < HEADER)
        return !((at >= 45 && at < 48) || (at >= 64 && at < 88) || at >= 112);
    uint64_t row = (at - table) / ROW, place = (at - table) % ROW;
    const uint8_t *descriptor = original + table + row * ROW;
    if (descriptor[4] == 0)
        return place == 4;
    if ((place >= 33 && place < 41) || (place >= 49 && place < 57))
        return false;
    bool is_signature = le32(descriptor) == 0x4005;
    if (is_signature && ((place >= 5 && place < 9) || place == 13 || (place >= 41 && place < 201) || place >= 201 + 24))
        return false;
    return !(place >= 17 && place < 25 && (le32(descriptor) == 0x4001 || le32(descriptor) == 0x4006));
}

static unsigned try_bytes(uint64_t from, uint64_t to, uint64_t stride, uint64_t table)
{
    unsigned tried = 0;

    for (uint64_t at = from; at < to; at += stride) {
        if (table != 0 && !counts(at, table))
            continue;
        put(at, original[at] ^ (uint8_t)(1 << at % 8));
        if (runs()) {
            CHECK(false, "byte %llu of the file can change", (unsigned long long)at);
            exit(1);
        }
        put(at, original[at]);
        tried++;
    }
    return tried;
}

static atomic_bool ended;

/* A file that answers differently each time. */
static void *change(void *unused)
{
    unsigned seed = 1;

    while (!atomic_load(&ended)) {
        uint64_t at = question.offset + (uint64_t)rand_r(&seed) % question.size;
        put(at, (uint8_t)rand_r(&seed));
        put(at, original[at]);
    }
    return unused;
}

static void test_changing(void)
{
    static struct seal_verdict verdict;
    pthread_t thread;
    unsigned good = 0, bad = 0;

    if (pthread_create(&thread, NULL, change, NULL) != 0 || !judged(&verdict))
        exit(2);
    for (time_t end = time(NULL) + 3; time(NULL) < end;)
        *(reads(&verdict.seal) ? &good : &bad) += 1;
    atomic_store(&ended, true);
    pthread_join(thread, NULL);
    CHECK(bad > 0, "a file that changes all the time: %u times read as it was signed, %u times an error, never anything else", good, bad);
}

static void find_partition(uint64_t table, uint64_t rows)
{
    for (uint64_t i = 0; i < rows; i++)
        if (le32(original + table + i * ROW) == 0x4004) {
            question.offset = le64(original + table + i * ROW + 17);
            question.size = le64(original + table + i * ROW + 25);
        }
}

static void test_image(const char *image, const char *signers)
{
    uint64_t stride = getenv("STRIDE") != NULL ? strtoull(getenv("STRIDE"), NULL, 10) : 1;
    int keys = open(signers, O_RDONLY | O_CLOEXEC);
    struct stat status;

    question.image = open(image, O_RDWR | O_CLOEXEC);
    if (keys < 0 || question.image < 0 || read(keys, signers_text, SIGNERS_FILE) < 0 || fstat(question.image, &status) < 0)
        exit(2);
    close(keys);
    file_size = (uint64_t)status.st_size;
    original = malloc(file_size);
    if (original == NULL || pread(question.image, original, file_size, 0) != (ssize_t)file_size)
        exit(2);
    uint64_t table = le64(original + 96), rows = le64(original + 88);
    find_partition(table, rows);
    CHECK(runs(), "the image as it was signed");
    CHECK(try_bytes(0, HEADER, 1, table) > 0, "no byte of the header");
    CHECK(try_bytes(table, table + (OBJECTS + 1) * ROW, stride, table) > 0, "no byte of the table");
    for (uint64_t i = 0; i < OBJECTS; i++) {
        const uint8_t *row = original + table + i * ROW;
        uint64_t from = le64(row + 17), to = from + le64(row + 25);
        if (le32(row) == 0x4005)
            CHECK(try_bytes(from, to, stride, 0) > 0, "no byte of the signature");
        else if (le32(row) == 0x4007) /* behind the superblock, which launches do not read */
            CHECK(try_bytes(from + SEAL_BLOCK, from + SEAL_BLOCK + (question.size / SEAL_BLOCK + 2) * SEAL_DIGEST, stride, 0) > 0,
                  "no byte of the tree");
        else if (le32(row) == 0x4004)
            CHECK(try_bytes(from, to, 997 * stride, 0) > 0, "no byte of the data");
    }
    CHECK(runs(), "and it is as it was");
    test_changing();
}

int main(int argc, char **argv)
{
    message_begin(LEVEL_FATAL, false);
    if (!crypto_is_there()) {
        CHECK(true, "built without nettle");
        return checks_end();
    }
    if (argc == 3) {
        test_image(argv[1], argv[2]);
    } else {
        test_signers();
        test_lists();
    }
    return checks_end();
}
