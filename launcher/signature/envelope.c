/* The three envelopes of a signature (singularity/trust/seals.py), each in the one spelling that programs write. What is signed is a
 * line that begins with a brace, so that no rule for blanks and dashes of clear-signed messages touches it. */
#include "signature.h"

#include <string.h>

enum { LINE_LIMIT = 192 << 10 };

/* ---- text ---- */

/* Up to `end`, which is taken as well. */
static bool take_until(struct span *from, const char *end, struct span *found)
{
    const uint8_t *at = memmem(from->at, from->length, end, strlen(end));

    if (at == NULL)
        return false;
    *found = (struct span){from->at, (size_t)(at - from->at)};
    from->length -= found->length;
    from->at = at;
    return span_take(from, end);
}

/* To where the store has room. */
static bool decode(struct envelope *envelope, struct span text, struct span *decoded)
{
    uint8_t *to = envelope->store + envelope->stored;

    if (!base64_decode(text, to, sizeof envelope->store - envelope->stored, &decoded->length))
        return false;
    decoded->at = to;
    envelope->stored += decoded->length;
    return true;
}

/* No character in it could be read in two ways. */
static bool is_statement(struct span line)
{
    if (line.length == 0 || line.length > LINE_LIMIT || line.at[0] != '{' || line.at[line.length - 1] != '}')
        return false;
    for (size_t i = 0; i < line.length; i++)
        if (line.at[i] < ' ' || line.at[i] > '~')
            return false;
    return true;
}

/* ---- OpenPGP: a clear-signed message with one signature packet of version 4 (RFC 4880, 5.2.3 and 7) ---- */

struct octets {
    struct span left;
    bool ended; /* more was wanted than there is */
};

static uint32_t number(struct octets *from, size_t size)
{
    uint32_t value = 0;

    if (from->left.length < size) {
        from->ended = true;
        return 0;
    }
    for (size_t i = 0; i < size; i++)
        value = value << 8 | from->left.at[i];
    from->left = (struct span){from->left.at + size, from->left.length - size};
    return value;
}

static struct span bytes(struct octets *from, size_t size)
{
    struct span found = {from->left.at, size};

    if (from->left.length < size) {
        from->ended = true;
        return (struct span){from->left.at, 0};
    }
    from->left = (struct span){from->left.at + size, from->left.length - size};
    return found;
}

/* Lengths of packets, new and old, and of subpackets (4.2, 5.2.3.1). None has a length in parts. */
static uint32_t new_length(struct octets *from)
{
    uint32_t first = number(from, 1);

    if (first < 192)
        return first;
    if (first < 224)
        return ((first - 192) << 8) + number(from, 1) + 192;
    from->ended |= first != 255;
    return number(from, 4);
}

/* The packet's body, which ends where the data does. */
static struct octets packet_body(struct span data)
{
    enum { SIGNATURE = 2 };
    struct octets all = {data, false};
    uint32_t tag = number(&all, 1);
    uint32_t length = 0;

    if (tag >> 6 == 3 && (tag & 63) == SIGNATURE)
        length = new_length(&all);
    else if (tag >> 6 == 2 && (tag >> 2 & 15) == SIGNATURE && (tag & 3) != 3)
        length = number(&all, (size_t)1 << (tag & 3));
    else
        all.ended = true;
    all.ended |= all.left.length != length;
    return all;
}

/* What the signer has said of his signature: when it ends, and nothing critical that is not understood. */
static bool subpackets_read(struct span data, struct envelope *envelope)
{
    enum { CREATED = 2, EXPIRES = 3, ISSUER = 16, FINGERPRINT = 33 };
    struct octets all = {data, false};
    uint32_t created = 0, lasts = 0;

    while (all.left.length > 0 && !all.ended) {
        struct octets one = {bytes(&all, new_length(&all)), false};
        uint32_t type = number(&one, 1), kind = type & 127;
        if (kind == CREATED)
            created = number(&one, 4);
        else if (kind == EXPIRES)
            lasts = number(&one, 4);
        else if ((type & 128) && kind != ISSUER && kind != FINGERPRINT)
            return false;
        all.ended |= one.ended;
    }
    envelope->expires = lasts == 0 ? 0 : (time_t)created + lasts;
    return !all.ended && created != 0;
}

static struct span mpi(struct octets *from)
{
    return bytes(from, (number(from, 2) + 7) / 8);
}

static bool packet_read(struct span data, struct envelope *envelope)
{
    enum { PACKET_VERSION = 4, TEXT = 1, RSA = 1, RSA_SIGNS = 3, ECDSA = 19, EDDSA = 22, HEAD = 6 };
    static const enum hash hashes[] = {HASH_SHA256, HASH_SHA384, HASH_SHA512}; /* 8, 9, 10 */
    struct octets body = packet_body(data);
    struct span head = body.left;
    uint32_t version = number(&body, 1), type = number(&body, 1), algorithm = number(&body, 1), hash = number(&body, 1);
    struct span hashed = bytes(&body, number(&body, 2));

    if (algorithm == RSA_SIGNS)
        algorithm = RSA;
    (void)bytes(&body, number(&body, 2)); /* what is not signed */
    (void)number(&body, 2);               /* the first bytes of the digest */
    envelope->numbers.first = mpi(&body);
    if (algorithm != RSA)
        envelope->numbers.second = mpi(&body);
    if (body.ended || body.left.length != 0 || version != PACKET_VERSION || type > TEXT || hash < 8 || hash > 10 ||
        (algorithm != RSA && algorithm != ECDSA && algorithm != EDDSA) || !subpackets_read(hashed, envelope))
        return false;
    envelope->hash = hashes[hash - 8];
    envelope->algorithm = algorithm == RSA ? KEY_RSA : algorithm == ECDSA ? KEY_P256 : KEY_ED25519;
    /* signed after the text: the packet up to the end of what is hashed, and how long that was (5.2.4) */
    size_t length = HEAD + hashed.length;
    uint8_t *trailer = envelope->store + envelope->stored;
    if (envelope->stored + length + 6 > sizeof envelope->store)
        return false;
    memcpy(trailer, head.at, length);
    const uint8_t end[6] = {PACKET_VERSION, 0xff, (uint8_t)(length >> 24), (uint8_t)(length >> 16), (uint8_t)(length >> 8),
                            (uint8_t)length};
    memcpy(trailer + length, end, sizeof end);
    envelope->stored += length + sizeof end;
    envelope->trailer = (struct span){trailer, length + sizeof end};
    return true;
}

/* Lines up to an empty one. */
static bool skip_headers(struct span *from, const char *begin)
{
    struct span line;

    while (take_until(from, "\n", &line))
        if (line.length == 0)
            return true;
        else if (begin != NULL && (line.length < strlen(begin) || memcmp(line.at, begin, strlen(begin)) != 0))
            return false;
    return false;
}

static bool open_openpgp(struct span text, struct envelope *envelope)
{
    struct span armor, data, checksum;

    envelope->kind = ENVELOPE_OPENPGP;
    if (!skip_headers(&text, "Hash: ") || !take_until(&text, "\n-----BEGIN PGP SIGNATURE-----\n", &envelope->statement) ||
        !skip_headers(&text, NULL) || !take_until(&text, "-----END PGP SIGNATURE-----", &armor))
        return false;
    (void)span_take(&text, "\n");
    if (text.length != 0)
        return false;
    if (!take_until(&armor, "\n=", &data)) { /* the checksum may be left out */
        data = armor;
        armor.length = 0;
    }
    return decode(envelope, armor, &checksum) && decode(envelope, data, &data) && packet_read(data, envelope);
}

/* ---- PEM: DSSE, as the family writes it ---- */

static bool open_pem(struct span text, struct envelope *envelope)
{
    struct span payload, key, coded;

    envelope->kind = ENVELOPE_PEM;
    envelope->hash = HASH_SHA256;
    if (!take_until(&text, "\",\"signatures\":[{\"keyid\":\"", &payload) || !take_until(&text, "\",\"sig\":\"", &key) ||
        !take_until(&text, "\"}]}", &coded))
        return false;
    (void)span_take(&text, "\n");
    return text.length == 0 && decode(envelope, payload, &envelope->statement) && decode(envelope, coded, &envelope->signature);
}

/* ---- SSH: the statement as a line, below it an armored signature (OpenSSH's PROTOCOL.sshsig) ---- */

static bool hash_named(struct span name, const char *const names[HASHES], enum hash *hash)
{
    for (*hash = HASH_SHA256; *hash < HASHES; ++*hash)
        if (names[*hash] != NULL && name.length == strlen(names[*hash]) && memcmp(name.at, names[*hash], name.length) == 0)
            return true;
    return false;
}

static bool open_ssh(struct span text, struct envelope *envelope)
{
    struct span armor, blob;

    envelope->kind = ENVELOPE_SSH;
    if (!take_until(&text, "\n-----BEGIN SSH SIGNATURE-----\n", &envelope->statement) ||
        !take_until(&text, "\n-----END SSH SIGNATURE-----\n", &armor) || text.length != 0 || !decode(envelope, armor, &blob) ||
        !span_take(&blob, "SSHSIG") || blob.length < 4 || memcmp(blob.at, "\0\0\0\1", 4) != 0)
        return false;
    blob = (struct span){blob.at + 4, blob.length - 4};
    struct span space, reserved, hash;
    static const char *const names[HASHES] = {[HASH_SHA256] = "sha256", [HASH_SHA512] = "sha512"};
    return ssh_string(&blob, &envelope->key) && ssh_string(&blob, &space) && ssh_string(&blob, &reserved) &&
           ssh_string(&blob, &hash) && ssh_string(&blob, &envelope->signature) && blob.length == 0 && reserved.length == 0 &&
           span_take(&space, "singularity-image") && space.length == 0 && hash_named(hash, names, &envelope->hash);
}

bool envelope_open(struct span text, struct envelope *envelope)
{
    bool good;

    memset(envelope, 0, offsetof(struct envelope, store));
    envelope->stored = 0;
    if (text.length > ENVELOPE_LIMIT)
        return false;
    if (span_take(&text, "-----BEGIN PGP SIGNED MESSAGE-----\n"))
        good = open_openpgp(text, envelope);
    else if (span_take(&text, "{\"payloadType\":\"application/vnd.sylabs.sif-metadata+json\",\"payload\":\""))
        good = open_pem(text, envelope);
    else
        good = open_ssh(text, envelope);
    return good && is_statement(envelope->statement);
}

/* ---- who has made it ---- */

static bool openpgp_by(const struct envelope *envelope, const struct signer *signer)
{
    const struct span parts[] = {envelope->statement, envelope->trailer};
    enum key_kind kind = signer->key.kind;
    uint8_t digest[HASH_MOST], both[64] = {0};

    if (envelope->algorithm != (kind == KEY_P384 || kind == KEY_P521 ? KEY_P256 : kind))
        return false;
    if (kind != KEY_ED25519)
        return public_key_verify(&signer->key, envelope->hash, parts, 2, &envelope->numbers);
    struct span r = envelope->numbers.first, s = envelope->numbers.second; /* without their first zeros */
    if (r.length > 32 || s.length > 32)
        return false;
    memcpy(both + 32 - r.length, r.at, r.length);
    memcpy(both + 64 - s.length, s.at, s.length);
    hash_spans(envelope->hash, parts, 2, digest);
    const struct span message = {digest, hash_size(envelope->hash)};
    return public_key_verify(&signer->key, envelope->hash, &message, 1, &(struct raw_signature){.first = {both, sizeof both}});
}

/* SEQUENCE of two INTEGERs, in DER with lengths of one byte, or of two after 0x81. */
static bool der_numbers(struct span data, struct raw_signature *numbers)
{
    struct octets all = {data, false};
    uint32_t tag = number(&all, 1), length = number(&all, 1);

    if (length == 0x81)
        length = number(&all, 1);
    if (tag != 0x30 || all.ended || length != all.left.length)
        return false;
    tag = number(&all, 1);
    numbers->first = bytes(&all, number(&all, 1));
    uint32_t second = number(&all, 1);
    numbers->second = bytes(&all, number(&all, 1));
    return tag == 2 && second == 2 && !all.ended && all.left.length == 0;
}

static size_t decimal(char text[20], size_t value)
{
    char reversed[20];
    size_t length = 0;

    do
        reversed[length++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    for (size_t i = 0; i < length; i++)
        text[i] = reversed[length - 1 - i];
    return length;
}

/* DSSE signs a line of its own making; in one piece, for Ed25519 hashes it twice. */
static bool pem_by(const struct envelope *envelope, const struct signer *signer)
{
    static const char head[] = "DSSEv1 40 application/vnd.sylabs.sif-metadata+json ";
    static uint8_t message[sizeof head + 24 + LINE_LIMIT];
    struct raw_signature signature = {.first = envelope->signature};
    char length[20];
    size_t used = sizeof head - 1, digits = decimal(length, envelope->statement.length);

    memcpy(message, head, used);
    memcpy(message + used, length, digits);
    used += digits;
    message[used++] = ' ';
    memcpy(message + used, envelope->statement.at, envelope->statement.length);
    const struct span whole = {message, used + envelope->statement.length};
    bool curve = signer->key.kind != KEY_RSA && signer->key.kind != KEY_ED25519;
    return (!curve || der_numbers(envelope->signature, &signature)) &&
           public_key_verify(&signer->key, envelope->hash, &whole, 1, &signature);
}

static uint8_t *ssh_put(uint8_t *to, const void *at, size_t size)
{
    const uint8_t length[4] = {0, 0, (uint8_t)(size >> 8), (uint8_t)size};

    memcpy(to, length, sizeof length);
    memcpy(to + 4, at, size);
    return to + 4 + size;
}

static bool ssh_by(const struct envelope *envelope, const struct signer *signer)
{
    static const char *const rsa[HASHES] = {[HASH_SHA256] = "rsa-sha2-256", [HASH_SHA512] = "rsa-sha2-512"};
    static const char *const others[] = {[KEY_P256] = "ecdsa-sha2-nistp256", [KEY_P384] = "ecdsa-sha2-nistp384",
                                         [KEY_P521] = "ecdsa-sha2-nistp521", [KEY_ED25519] = "ssh-ed25519"};
    const struct span line[] = {envelope->statement, {(const uint8_t *)"\n", 1}};
    const struct public_key *key = &signer->key;
    struct span rest = envelope->signature, kind, value, blob;
    struct raw_signature signature;
    enum hash hash = key->kind == KEY_P256 ? HASH_SHA256 : key->kind == KEY_P384 ? HASH_SHA384 : HASH_SHA512;
    uint8_t digest[HASH_MOST], message[160], *end = message;

    blob = envelope->key;
    if (memcmp(signer->blob, blob.at, blob.length < SIGNER_BLOB ? blob.length : SIGNER_BLOB) != 0 || !ssh_string(&rest, &kind) ||
        !ssh_string(&rest, &value) || rest.length != 0)
        return false;
    if (key->kind == KEY_RSA ? !hash_named(kind, rsa, &hash) : !(span_take(&kind, others[key->kind]) && kind.length == 0))
        return false;
    signature.first = value;
    if (key->kind != KEY_RSA && key->kind != KEY_ED25519 &&
        (!ssh_string(&value, &signature.first) || !ssh_string(&value, &signature.second) || value.length != 0))
        return false;
    hash_spans(envelope->hash, line, 2, digest);
    memcpy(end, "SSHSIG", 6);
    end = ssh_put(end + 6, "singularity-image", strlen("singularity-image"));
    end = ssh_put(end, "", 0);
    end = ssh_put(end, envelope->hash == HASH_SHA256 ? "sha256" : "sha512", 6);
    end = ssh_put(end, digest, hash_size(envelope->hash));
    const struct span whole = {message, (size_t)(end - message)};
    return public_key_verify(key, hash, &whole, 1, &signature);
}

bool envelope_by(const struct envelope *envelope, const struct signer *signer)
{
    if ((envelope->kind == ENVELOPE_OPENPGP) != signer->openpgp)
        return false;
    return envelope->kind == ENVELOPE_OPENPGP ? openpgp_by(envelope, signer)
           : envelope->kind == ENVELOPE_PEM   ? pem_by(envelope, signer)
                                              : ssh_by(envelope, signer);
}
