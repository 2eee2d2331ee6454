/* The file of those whose signatures count: lines as ssh-keygen has them (its manual, ALLOWED SIGNERS). */
#include "signature.h"

#include <string.h>

struct reading {
    const char *name;
    unsigned line;
    struct error *error;
};

static bool complain(const struct reading *reading, const char *what)
{
    return error_set(reading->error, 0, "%.200s:%u: %s", reading->name, reading->line, what);
}

/* The next word of a line, cut off; blanks in quotation marks are part of it. */
static char *word_next(char **rest)
{
    char *word = *rest + strspn(*rest, " \t"), *end = word;
    bool quoted = false;

    for (; *end != '\0' && (quoted || (*end != ' ' && *end != '\t')); end++)
        quoted ^= *end == '"';
    *rest = end + (*end != '\0');
    *end = '\0';
    return *word != '\0' ? word : NULL;
}

static void base64_encode(const uint8_t *from, size_t size, char *to)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = (uint32_t)from[i] << 16 | (i + 1 < size ? (uint32_t)from[i + 1] << 8 : 0) | (i + 2 < size ? from[i + 2] : 0);
        size_t count = size - i >= 3 ? 4 : size - i + 1;
        for (size_t j = 0; j < count; j++)
            *to++ = letters[bits >> (18 - 6 * j) & 63];
    }
    *to = '\0';
}

/* YYYYMMDD, with HHMM or HHMMSS, and a Z: in UTC. Without the Z it would be the time zone of whoever reads; not taken. */
static bool time_read(const char *text, size_t length, time_t *found)
{
    struct tm when = {0};
    int fields[6] = {0};

    if (length < 9 || text[length - 1] != 'Z' || (length != 9 && length != 13 && length != 15))
        return false;
    for (size_t i = 0; i + 1 < length; i++) {
        size_t field = i < 4 ? 0 : i / 2 - 1;
        if (text[i] < '0' || text[i] > '9')
            return false;
        fields[field] = fields[field] * 10 + (text[i] - '0');
    }
    when.tm_year = fields[0] - 1900, when.tm_mon = fields[1] - 1, when.tm_mday = fields[2];
    when.tm_hour = fields[3], when.tm_min = fields[4], when.tm_sec = fields[5];
    if (fields[0] < 1970 || fields[1] < 1 || fields[1] > 12 || fields[2] < 1 || fields[2] > 31 || fields[3] > 23 || fields[4] > 59 ||
        fields[5] > 60)
        return false;
    *found = timegm(&when);
    return *found > 0;
}

/* Whether a list with commas has our namespace. */
static bool namespace_listed(const char *list, size_t length)
{
    static const char ours[] = "singularity-image";

    for (size_t at = 0; at < length;) {
        size_t end = at;
        while (end < length && list[end] != ',')
            end++;
        if (end - at == sizeof ours - 1 && memcmp(list + at, ours, sizeof ours - 1) == 0)
            return true;
        at = end + 1;
    }
    return false;
}

/* `counts` becomes false for a key of another namespace. */
static bool options_read(const struct reading *reading, const char *options, struct signer *signer, bool *counts)
{
    static const char *const names[] = {"namespaces=\"", "valid-after=\"", "valid-before=\""};

    for (const char *at = options; *at != '\0';) {
        size_t which = 0;
        while (which < 3 && strncmp(at, names[which], strlen(names[which])) != 0)
            which++;
        if (which == 3)
            return complain(reading, "an option that is not known here (known: namespaces, valid-after, valid-before)");
        const char *value = at + strlen(names[which]), *end = strchr(value, '"');
        if (end == NULL || (end[1] != '\0' && end[1] != ','))
            return complain(reading, "an option without an end");
        size_t length = (size_t)(end - value);
        if (which == 0)
            *counts &= namespace_listed(value, length);
        else if (!time_read(value, length, which == 1 ? &signer->after : &signer->before))
            return complain(reading, "a time that is not YYYYMMDDZ or YYYYMMDDHHMMSSZ");
        at = end + (end[1] == ',' ? 2 : 1);
    }
    return true;
}

static bool is_fingerprint(const char *name)
{
    return strlen(name) == 40 && strspn(name, "0123456789ABCDEFabcdef") == 40;
}

static bool is_key_kind(const char *word)
{
    return strncmp(word, "ssh-", 4) == 0 || strncmp(word, "ecdsa-", 6) == 0 || strncmp(word, "sk-", 3) == 0;
}

static bool line_read(const struct reading *reading, char *line, struct signers *signers)
{
    struct signer *signer = &signers->each[signers->count];
    char *rest = line, *name = word_next(&rest), *word = word_next(&rest), *coded;
    uint8_t digest[SEAL_DIGEST];
    bool counts = true;
    size_t size;

    if (name == NULL || *name == '#')
        return true;
    if (signers->count == SIGNERS)
        return complain(reading, "too many keys");
    *signer = (struct signer){0};
    if (word != NULL && !is_key_kind(word)) {
        if (!options_read(reading, word, signer, &counts))
            return false;
        word = word_next(&rest);
    }
    if (word == NULL || (coded = word_next(&rest)) == NULL ||
        !base64_decode((struct span){(const uint8_t *)coded, strlen(coded)}, signer->blob, sizeof signer->blob, &size))
        return complain(reading, "not NAME [OPTIONS] KEYTYPE KEY, as ssh-keygen has it");
    if (!public_key_read((struct span){signer->blob, size}, &signer->key))
        return complain(reading, "a key that does not count (RSA of 2048 bits, ECDSA and Ed25519 do)");
    signer->openpgp = is_fingerprint(name);
    strncpy(signer->name, name, sizeof signer->name - 1);
    if (signer->openpgp) {
        for (size_t i = 0; i < 40; i++)
            signer->fingerprint[i] = (char)(name[i] >= 'a' ? name[i] - 'a' + 'A' : name[i]);
    } else {
        sha256_of(signer->blob, size, digest);
        memcpy(signer->fingerprint, "SHA256:", 7);
        base64_encode(digest, sizeof digest, signer->fingerprint + 7);
    }
    signers->count += counts;
    return true;
}

bool signers_parse(const char *name, char *text, size_t size, struct signers *signers, struct error *error)
{
    struct reading reading = {.name = name, .error = error};

    signers->count = 0;
    if (memchr(text, '\0', size) != NULL)
        return complain(&reading, "a NUL byte (not a text file?)");
    for (char *line = text, *next; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        size_t length = strlen(line);
        if (length > 0 && line[length - 1] == '\r')
            line[length - 1] = '\0';
        reading.line++;
        if (!line_read(&reading, line, signers))
            return false;
    }
    return true;
}

bool signer_counts(const struct signer *signer, time_t now)
{
    return (signer->after == 0 || now >= signer->after) && (signer->before == 0 || now < signer->before);
}
