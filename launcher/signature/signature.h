/* Whether somebody who counts here has signed an image. Reads what strangers have written: files of the image in memory, nothing is
 * decompressed, nothing is written. Not in the setuid program.
 *
 * A signature is an object of a SIF file (singularity/trust/seals.py): an envelope around a statement, which is a line of JSON. span.c
 * takes bytes apart; envelope.c finds statement and signature, keys.c who may have made it, crypto.c whether he has, statement.c what it
 * says of the file; list.c whose signatures count for images of this place; judge.c puts it together. tree.c reads what is sealed. */
#ifndef SINGULARITY_SIGNATURE_H
#define SINGULARITY_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "seal.h"

/* Bytes somewhere else. */
struct span {
    const uint8_t *at;
    size_t length;
};

/* ---- span.c: each takes from the front what it expects there, or returns false. */

bool span_take(struct span *from, const char *text);
/* A string of SSH: four bytes of length before it. */
bool ssh_string(struct span *from, struct span *string);
/* All of it, ends of lines left out. False where it is none, or larger than there is room for. */
bool base64_decode(struct span text, uint8_t *to, size_t room, size_t *size);

/* ---- crypto.c: digests and signatures, by nettle. */

enum hash { HASH_SHA256, HASH_SHA384, HASH_SHA512, HASHES };
enum { HASH_MOST = 64 };
size_t hash_size(enum hash hash);
/* The digest of all spans, one after another. */
void hash_spans(enum hash hash, const struct span *spans, size_t count, uint8_t *digest);
void sha256_of(const void *bytes, size_t length, uint8_t digest[SEAL_DIGEST]);
/* All of a part of a file. False: it cannot be read to its end. */
bool sha256_of_file(int fd, uint64_t offset, uint64_t size, uint8_t digest[SEAL_DIGEST]);
/* Without the library nothing can be checked. */
bool crypto_is_there(void);

/* A public key as SSH writes it (RFC 4253, 6.6; RFC 5656, 3.1; RFC 8709, 4). Parts point into what was read. */
enum key_kind { KEY_RSA, KEY_P256, KEY_P384, KEY_P521, KEY_ED25519 };
struct public_key {
    enum key_kind kind;
    struct span exponent, modulus; /* of RSA */
    struct span point;             /* of the others */
};
/* False: of no kind that counts, or too small to prove anything. */
bool public_key_read(struct span blob, struct public_key *key);

/* One number for RSA and Ed25519 (both halves in a row), two for the curves. */
struct raw_signature {
    struct span first, second;
};
/* `message` is what is signed: for Ed25519 itself, else it is hashed first. */
bool public_key_verify(const struct public_key *key, enum hash hash, const struct span *message, size_t count,
                       const struct raw_signature *signature);

/* ---- keys.c: who may sign. A file of root's, in the format of ssh-keygen's allowed signers, of which it takes the options namespaces,
 * valid-after and valid-before. A name of 40 hexadecimal digits stands for a key of OpenPGP with this fingerprint; `singularity key
 * signers` writes such lines. */

enum { SIGNER_NAME = 64, SIGNER_BLOB = 2200, SIGNERS = 256, SIGNERS_FILE = 512 << 10 };
struct signer {
    char name[SIGNER_NAME];        /* to be shown */
    char fingerprint[SIGNER_NAME]; /* 40 digits in upper case, or SHA256:... as SSH has it */
    bool openpgp;
    time_t after, before;          /* 0: no limit */
    uint8_t blob[SIGNER_BLOB];
    struct public_key key;
};
struct signers {
    uint32_t count;
    struct signer each[SIGNERS];
};
/* `name` stands in messages. A line that is not understood makes the whole file useless: a limit in it would be lost. */
bool signers_parse(const char *name, char *text, size_t size, struct signers *signers, struct error *error);
/* Whether the key counts at this time. */
bool signer_counts(const struct signer *signer, time_t now);

/* ---- envelope.c: one signature object. */

enum { ENVELOPE_LIMIT = 256 << 10 };
enum envelope_kind { ENVELOPE_OPENPGP, ENVELOPE_PEM, ENVELOPE_SSH };
struct envelope {
    enum envelope_kind kind;
    struct span statement;       /* the line of JSON, without an end of line */
    enum hash hash;              /* of the curves and RSA; of SSH and OpenPGP also of the statement */
    bool by_curve;               /* PEM: ECDSA signatures are DER */
    time_t expires;              /* 0: never */
    enum key_kind algorithm;     /* OpenPGP: what made it, the curves being one here */
    struct span key;             /* SSH: the key, as a blob */
    struct span signature;       /* where it is one string */
    struct raw_signature numbers;/* OpenPGP's */
    struct span trailer;         /* OpenPGP: signed after the statement */
    uint8_t store[ENVELOPE_LIMIT]; /* what was decoded */
    size_t stored;
};
/* Takes apart what `text` holds, which lives as long as the envelope. False: nothing of a known form. */
bool envelope_open(struct span text, struct envelope *envelope);
/* Whether this signer has made it. */
bool envelope_by(const struct envelope *envelope, const struct signer *signer);

/* ---- statement.c: what is signed. */

enum { OBJECTS_MOST = 1792 };
/* A descriptor of the file's table. */
struct described {
    uint32_t type, id;
    uint64_t offset, size;
    uint32_t link;
    bool is_tree; /* by its type and name */
    uint8_t digest[SEAL_DIGEST]; /* as a signature has it */
};
/* The group of objects that a file system belongs to, and the header. */
struct signed_group {
    uint8_t header[SEAL_DIGEST];
    uint32_t number, base, count;
    struct described objects[OBJECTS_MOST]; /* in the order of the table */
};
/* Whether the statement is of just these objects, and what it says of number `which` of them. The data is not looked at. */
bool statement_fits(struct span statement, const struct signed_group *group, uint32_t which, struct seal *seal, struct error *error);

/* ---- list.c: ecl.toml, the execution control list, as the family has it. */

/* Whether images in `directory`, signed with `count` of these keys, may run. */
bool list_allows(const char *name, char *text, size_t size, const char *directory, const struct signer *const *by, uint32_t count,
                 struct error *error);

/* ---- tree.c: reading what is sealed. */

struct sealed_file;
/* NULL: no memory, or the seal has no tree. `name` stands in the message about a block that is not what was signed; it and the seal
 * are copied. */
struct sealed_file *sealed_open(int fd, const struct seal *seal, const char *name);
/* It is served now, by another descriptor: until here nothing is said of blocks that are not what was signed. */
void sealed_move(struct sealed_file *file, int fd);
/* `length` bytes at `at` of what is sealed, each block checked; as a squashfs_source reads. Any thread may. */
int sealed_read(void *file, uint64_t at, void *bytes, size_t length);

/* ---- judge.c */

/* By these files' contents; parsing changes them. `list`: NULL without one. */
struct signature_policy {
    const char *signers_name, *list_name;
    char *signers, *list;
    size_t signers_size, list_size;
    const char *directory; /* where the image lies */
    time_t now;
};
bool signature_judge(const struct seal_question *question, struct signature_policy *policy, struct seal_verdict *verdict);

#endif
