"""Lines of the file whose keys count for launches (`require signature`): keys of every kind, each as SSH writes it.

A launch reads no key of OpenPGP and no PEM: they are translated here, once, when the administrator takes them. What
has expired ends with `valid-before`; what is revoked is left out. Format: ssh-keygen(1), ALLOWED SIGNERS.
"""

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from singularity.errors import FileError, SignatureError
from singularity.trust import keyring, openpgp, pem, ssh
from singularity.trust.pipes import in_memory

logger = logging.getLogger(__name__)

_LIMIT = 64 << 20  # bytes of a file of keys
_GONE = frozenset("reidn")  # of records of GnuPG: revoked, expired, invalid, disabled, of no use
_SSH_KINDS = ("ssh-", "ecdsa-")
_BLANKS = re.compile(r"\s+")


def lines(path: Path) -> list[str]:
    """Those of all keys in a file: of OpenPGP, a public key in PEM, a public key of SSH, or allowed signers.

    Raises FileError, and SignatureError where there is no key that counts.
    """
    with FileError.about(path), path.open("rb") as file:
        data = file.read(_LIMIT)
    if b"-----BEGIN PUBLIC KEY" in data:
        found = [_line(path.stem, pem.public_key(data).ssh)]
    elif b"-----BEGIN PGP" in data or (data and data[0] & 0x80):
        found = list(of_ring(openpgp.dearmored(data), str(path)))
    else:
        found = list(_of_ssh(data, path))
    if not found:
        raise SignatureError(f"{path}: no key whose signatures could count")
    return found


def of_ring(data: bytes, name: str) -> Iterator[str]:
    """Those of keys of OpenPGP, and of their parts that sign."""
    for block in keyring.split(data, name):
        key = openpgp.keys_in(block)[0]
        if key.refused or key.weakness:
            logger.warning("%s (%s) is left out: it is %s", key.fingerprint, key.user, key.refused or "too weak")
            continue
        with openpgp.home() as gpg, in_memory(block) as fd:
            gpg.call("--import", f"/proc/self/fd/{fd}", purpose="take a key", keep=[fd])
            listed = gpg.call("--with-colons", "--fixed-list-mode", "--list-keys", purpose="look at a key")
            for fingerprint, expires in _signing(listed.output):
                coded = gpg.call("--export-ssh-key", f"{fingerprint}!", purpose="write a key as SSH has it")
                written = [line.split()[:2] for line in coded.output.splitlines() if line.startswith(_SSH_KINDS)]
                if coded.status != 0 or not written:
                    logger.warning("%s is left out: a kind of key that launches do not know", fingerprint)
                    continue
                yield _line(key.fingerprint, " ".join(written[0]), expires, key.user)


def _signing(output: str) -> Iterator[tuple[str, int]]:
    """The fingerprints of parts of a key that may sign, and when they end: in seconds since 1970, 0 for never."""
    records = [line.split(":") for line in output.splitlines()]
    limits = [int(record[6] or 0) for record in records if record[0] == "pub"]
    for number, record in enumerate(records):
        if record[0] in ("pub", "sub") and "s" in record[11] and not _GONE & set(record[1]):
            fingerprint = next(after[9] for after in records[number:] if after[0] == "fpr")
            yield fingerprint, min((limit for limit in (*limits, int(record[6] or 0)) if limit), default=0)


def _line(name: str, key: str, expires: int = 0, remark: str = "") -> str:
    options = [f'namespaces="{ssh.NAMESPACE}"']
    if expires:
        options.append(f'valid-before="{datetime.fromtimestamp(expires, UTC):%Y%m%d%H%M%S}Z"')
    remark = "".join(letter for letter in remark if letter.isprintable())
    return f"{_BLANKS.sub('_', name)} {','.join(options)} {key} {remark}".rstrip()


def _of_ssh(data: bytes, path: Path) -> Iterator[str]:
    for line in data.decode("utf-8", "replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].startswith(_SSH_KINDS) and len(words) > 1:
            yield _line(words[2] if len(words) > 2 else path.stem, " ".join(words[:2]))
        elif any(word.startswith(_SSH_KINDS) for word in words[1:3]):
            yield line
        else:
            raise SignatureError(f"{path}: no keys of OpenPGP, in PEM or of SSH")
