/* SHA-2, RSA, ECDSA and Ed25519, by nettle: what is here takes keys and signatures apart, and says what is too weak. */
#include "signature.h"

#include <string.h>

#include "../image/bytes.h"

size_t hash_size(enum hash hash)
{
    return hash == HASH_SHA256 ? 32 : hash == HASH_SHA384 ? 48 : 64;
}

#if defined HAVE_nettle && defined HAVE_hogweed && defined HAVE_gmp

#include <nettle/ecc-curve.h>
#include <nettle/ecdsa.h>
#include <nettle/eddsa.h>
#include <nettle/rsa.h>
#include <nettle/sha2.h>

/* As SSH and OpenPGP take it: the number with a zero before it or not. */
enum { RSA_LEAST = 2048, RSA_MOST = 16384, EXPONENT_MOST = 8, CURVE_25519 = 32 };

bool crypto_is_there(void)
{
    return true;
}

#ifndef __GLIBC__ /* for which the libraries were compiled: for the last words of a process that has no memory, and for debugging */
int __fprintf_chk(void *stream, int flag, const char *format, ...);
int __fprintf_chk(void *stream, int flag, const char *format, ...)
{
    (void)stream, (void)flag, (void)format;
    return 0;
}
#endif

void hash_spans(enum hash hash, const struct span *spans, size_t count, uint8_t *digest)
{
    struct sha256_ctx small;
    struct sha512_ctx large;

    if (hash == HASH_SHA256)
        sha256_init(&small);
    else if (hash == HASH_SHA384)
        sha384_init(&large);
    else
        sha512_init(&large);
    for (size_t i = 0; i < count; i++)
        if (hash == HASH_SHA256)
            sha256_update(&small, spans[i].length, spans[i].at);
        else
            sha512_update(&large, spans[i].length, spans[i].at); /* SHA-384 is the same, begun and ended otherwise */
    if (hash == HASH_SHA256)
        sha256_digest(&small, SHA256_DIGEST_SIZE, digest);
    else if (hash == HASH_SHA384)
        sha384_digest(&large, SHA384_DIGEST_SIZE, digest);
    else
        sha512_digest(&large, SHA512_DIGEST_SIZE, digest);
}

void sha256_of(const void *bytes, size_t length, uint8_t digest[SEAL_DIGEST])
{
    struct sha256_ctx context;

    sha256_init(&context);
    sha256_update(&context, length, bytes);
    sha256_digest(&context, SHA256_DIGEST_SIZE, digest);
}

bool sha256_of_file(int fd, uint64_t offset, uint64_t size, uint8_t digest[SEAL_DIGEST])
{
    static uint8_t piece[256 << 10];
    struct sha256_ctx context;

    sha256_init(&context);
    for (uint64_t at = 0, part; at < size; at += part) {
        part = size - at < sizeof piece ? size - at : sizeof piece;
        if (!bytes_read(fd, offset, size, at, piece, (size_t)part))
            return false;
        sha256_update(&context, (size_t)part, piece);
    }
    sha256_digest(&context, SHA256_DIGEST_SIZE, digest);
    return true;
}

static struct span without_zeros(struct span number)
{
    while (number.length > 0 && *number.at == 0)
        number.at++, number.length--;
    return number;
}

static const struct ecc_curve *curve_of(enum key_kind kind)
{
    return kind == KEY_P256 ? nettle_get_secp_256r1() : kind == KEY_P384 ? nettle_get_secp_384r1() : nettle_get_secp_521r1();
}

static size_t curve_size(enum key_kind kind)
{
    return kind == KEY_P256 ? 32 : kind == KEY_P384 ? 48 : 66;
}

static bool is(struct span span, const char *text)
{
    return span.length == strlen(text) && memcmp(span.at, text, span.length) == 0;
}

/* False: the point is not on the curve. `point` is made in any case. */
static bool point_set(const struct public_key *key, struct ecc_point *point)
{
    size_t half = curve_size(key->kind);
    mpz_t x, y;

    mpz_init(x);
    mpz_init(y);
    nettle_mpz_set_str_256_u(x, half, key->point.at + 1);
    nettle_mpz_set_str_256_u(y, half, key->point.at + 1 + half);
    ecc_point_init(point, curve_of(key->kind));
    bool on_it = ecc_point_set(point, x, y) == 1;
    mpz_clear(x);
    mpz_clear(y);
    return on_it;
}

static bool curve_read(struct span *rest, enum key_kind kind, const char *name, struct public_key *key)
{
    struct span curve;
    struct ecc_point point;

    key->kind = kind;
    if (!ssh_string(rest, &curve) || !is(curve, name) || !ssh_string(rest, &key->point) ||
        key->point.length != 1 + 2 * curve_size(kind) || key->point.at[0] != 4)
        return false;
    bool on_it = point_set(key, &point);
    ecc_point_clear(&point);
    return on_it;
}

static bool rsa_read(struct span *rest, struct public_key *key)
{
    key->kind = KEY_RSA;
    if (!ssh_string(rest, &key->exponent) || !ssh_string(rest, &key->modulus))
        return false;
    key->exponent = without_zeros(key->exponent);
    key->modulus = without_zeros(key->modulus);
    size_t length = key->modulus.length;
    if (length < RSA_LEAST / 8 || length > RSA_MOST / 8 || (length == RSA_LEAST / 8 && !(*key->modulus.at & 0x80)) ||
        !(key->modulus.at[length - 1] & 1))
        return false;
    return key->exponent.length > 0 && key->exponent.length <= EXPONENT_MOST && (key->exponent.at[key->exponent.length - 1] & 1) &&
           (key->exponent.length > 1 || *key->exponent.at >= 3);
}

bool public_key_read(struct span blob, struct public_key *key)
{
    struct span kind, rest = blob;
    bool good = false;

    *key = (struct public_key){0};
    if (!ssh_string(&rest, &kind))
        return false;
    if (is(kind, "ssh-rsa"))
        good = rsa_read(&rest, key);
    else if (is(kind, "ecdsa-sha2-nistp256"))
        good = curve_read(&rest, KEY_P256, "nistp256", key);
    else if (is(kind, "ecdsa-sha2-nistp384"))
        good = curve_read(&rest, KEY_P384, "nistp384", key);
    else if (is(kind, "ecdsa-sha2-nistp521"))
        good = curve_read(&rest, KEY_P521, "nistp521", key);
    else if (is(kind, "ssh-ed25519")) {
        key->kind = KEY_ED25519;
        good = ssh_string(&rest, &key->point) && key->point.length == CURVE_25519;
    }
    return good && rest.length == 0;
}

/* PKCS #1 v1.5: what stands before the digest (RFC 8017, 9.2), which differs in three bytes. */
static bool rsa_verify(const struct public_key *key, enum hash hash, const uint8_t *digest, struct span number)
{
    size_t size = hash_size(hash);
    uint8_t info[19 + HASH_MOST] = {0x30, (uint8_t)(17 + size), 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, (uint8_t)(1 + hash),
                                    5, 0, 4, (uint8_t)size};
    struct rsa_public_key rsa;
    mpz_t value;

    if (number.length > key->modulus.length)
        return false;
    memcpy(info + 19, digest, size);
    rsa_public_key_init(&rsa);
    nettle_mpz_set_str_256_u(rsa.n, key->modulus.length, key->modulus.at);
    nettle_mpz_set_str_256_u(rsa.e, key->exponent.length, key->exponent.at);
    nettle_mpz_init_set_str_256_u(value, number.length, number.at);
    bool good = rsa_public_key_prepare(&rsa) == 1 && rsa_pkcs1_verify(&rsa, 19 + size, info, value) == 1;
    mpz_clear(value);
    rsa_public_key_clear(&rsa);
    return good;
}

static bool curve_verify(const struct public_key *key, size_t size, const uint8_t *digest, const struct raw_signature *signature)
{
    struct ecc_point point;
    struct dsa_signature numbers;
    struct span r = without_zeros(signature->first), s = without_zeros(signature->second);

    if (r.length > curve_size(key->kind) || s.length > curve_size(key->kind))
        return false;
    bool good = point_set(key, &point);
    dsa_signature_init(&numbers);
    nettle_mpz_set_str_256_u(numbers.r, r.length, r.at);
    nettle_mpz_set_str_256_u(numbers.s, s.length, s.at);
    good = good && ecdsa_verify(&point, size, digest, &numbers) == 1;
    dsa_signature_clear(&numbers);
    ecc_point_clear(&point);
    return good;
}

bool public_key_verify(const struct public_key *key, enum hash hash, const struct span *message, size_t count,
                       const struct raw_signature *signature)
{
    uint8_t digest[HASH_MOST];

    if (key->kind == KEY_ED25519)
        return count == 1 && signature->first.length == 2 * CURVE_25519 &&
               ed25519_sha512_verify(key->point.at, message->length, message->at, signature->first.at) == 1;
    hash_spans(hash, message, count, digest);
    return key->kind == KEY_RSA ? rsa_verify(key, hash, digest, signature->first)
                                : curve_verify(key, hash_size(hash), digest, signature);
}

#else

bool crypto_is_there(void)
{
    return false;
}

void hash_spans(enum hash hash, const struct span *spans, size_t count, uint8_t *digest)
{
    (void)spans, (void)count;
    memset(digest, 0, hash_size(hash));
}

void sha256_of(const void *bytes, size_t length, uint8_t digest[SEAL_DIGEST])
{
    (void)bytes, (void)length;
    memset(digest, 0, SEAL_DIGEST);
}

bool sha256_of_file(int fd, uint64_t offset, uint64_t size, uint8_t digest[SEAL_DIGEST])
{
    (void)fd, (void)offset, (void)size, (void)digest;
    return false;
}

bool public_key_read(struct span blob, struct public_key *key)
{
    (void)blob, (void)key;
    return false;
}

bool public_key_verify(const struct public_key *key, enum hash hash, const struct span *message, size_t count,
                       const struct raw_signature *signature)
{
    (void)key, (void)hash, (void)message, (void)count, (void)signature;
    return false;
}

#endif
