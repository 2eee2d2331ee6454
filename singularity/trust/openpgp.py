"""Signatures of OpenPGP, by GnuPG, which gets a home directory of its own for each piece of work.

Keys live in the ring files (`keyring.py`) and are handed over for one command at a time; nobody's `~/.gnupg` is read,
and no agent outlives the command. Passphrases go through pipes, never by a command line or the environment.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from singularity import files
from singularity.errors import SignatureError, ToolError
from singularity.process import Finished, call
from singularity.trust.pipes import in_memory, in_pipe

logger = logging.getLogger(__name__)

_PLACE = Path("/tmp")  # noqa: S108 - a private directory in it; the agent's socket needs a short name
_SECRET_TAG = 5  # RFC 4880, 4.3
_STRONG_HASHES = {"8": "SHA256", "9": "SHA384", "10": "SHA512"}  # RFC 4880, 9.4
_RSA, _OTHERS, _RSA_BITS = ("1", "3"), ("19", "22"), 2048  # 19: ECDSA, 22: EdDSA; RFC 4880, 9.1
_PLAIN = [
    "gpg", "--no-options", "--batch", "--no-tty", "--status-fd", "1", "--no-auto-key-locate", "--disable-dirmngr",
    "--lock-never",
]  # fmt: skip
_AGENT = "s2k-count 65011712\n"  # the most that can be said; else the agent measures the machine first, for seconds
_FAILURES = {
    "REVKEYSIG": "was made with a key that is revoked",
    "EXPKEYSIG": "was made with a key that has expired",
    "EXPSIG": "has expired",
    "BADSIG": "does not fit what it is about",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What there is to know of a key, or of one in a ring."""

    fingerprint: str  # of the primary key: 40 hexadecimal digits, upper case
    user: str
    created: int  # seconds since 1970
    bits: int
    algorithm: str  # its number in OpenPGP
    refused: str = ""  # why it makes no valid signatures any more: revoked, expired

    @property
    def created_at(self) -> str:
        """As key lists have it."""
        return f"{datetime.fromtimestamp(self.created, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"

    @property
    def weakness(self) -> str:
        """Why signatures with it prove nothing; empty for a good key."""
        strong = self.algorithm in _OTHERS or (self.algorithm in _RSA and self.bits >= _RSA_BITS)
        return "" if strong else f"was made with a weak key of {self.bits} bits"


@dataclass(frozen=True, slots=True)
class Home:
    """A home directory of GnuPG that is gone after the work."""

    path: Path

    def call(
        self, *words: str | Path, purpose: str, secret: str | None = None, keep: Sequence[int] = (), stdin: int = -1
    ) -> Finished:
        """Runs GnuPG; with a `secret`, that is what it takes for a passphrase, else it asks for none and fails."""
        if secret is None:
            return call(
                [*_PLAIN, "--homedir", self.path, "--pinentry-mode", "error", *words],
                purpose=purpose, keep=keep, stdin=None if stdin < 0 else stdin,
            )  # fmt: skip
        with in_pipe(secret.encode() + b"\n") as fd:
            asked = ["--pinentry-mode", "loopback", "--passphrase-fd", str(fd)]
            return call(
                [*_PLAIN, "--homedir", self.path, *asked, *words],
                purpose=purpose, keep=[fd, *keep], stdin=None if stdin < 0 else stdin,
            )  # fmt: skip


@contextmanager
def home() -> Iterator[Home]:
    """A private home directory; the agent that GnuPG starts in it ends with the block."""
    with files.temporary_directory(_PLACE) as path:
        (path / "gpg-agent.conf").write_text(_AGENT, encoding="ascii")
        try:
            yield Home(path)
        finally:
            if (path / "private-keys-v1.d").exists():
                for words in (["--kill", "gpg-agent"], ["--remove-socketdir"]):
                    with suppress(ToolError):
                        call(["gpgconf", "--homedir", path, *words], purpose="end the agent of GnuPG")


def keys_in(data: bytes) -> list[Key]:
    """The keys in packets of OpenPGP, public or secret, in their order. Raises SignatureError for anything else."""
    with home() as gpg, in_memory(data) as fd:
        words = ("--no-autostart", "--with-colons", "--fixed-list-mode", "--show-keys", f"/proc/self/fd/{fd}")
        shown = gpg.call(*words, purpose="look at keys", keep=[fd])
        found: list[Key] = []
        fields: list[str] = []
        fingerprint = ""
        for line in shown.output.splitlines():
            record = line.split(":")
            if record[0] in ("pub", "sec"):
                fields, fingerprint = record, ""
            elif record[0] == "fpr" and not fingerprint:
                fingerprint = record[9]
            elif record[0] == "uid" and fields:
                found.append(_key(fields, fingerprint, record[9]))
                fields = []
        if not found:
            raise SignatureError("no key of OpenPGP", hint="a file that gpg --export or singularity key export wrote")
        return found


def _key(fields: Sequence[str], fingerprint: str, user: str) -> Key:
    refused = {"r": "revoked", "e": "expired", "i": "invalid", "d": "disabled"}.get(fields[1], "")
    return Key(
        fingerprint=fingerprint,
        user=_unescaped(user),
        created=int(fields[5] or 0),
        bits=int(fields[2] or 0),
        algorithm=fields[3],
        refused=refused,
    )


def _unescaped(text: str) -> str:
    return text.replace("\\x3a", ":").replace("\\x5c", "\\")


def verify(text: bytes, signature: bytes, rings: Sequence[Path]) -> Key:
    """Whose key in `rings` made the signature of `text`. Raises SignatureError: nobody's, or not any more."""
    with home() as gpg, in_memory(text) as signed, in_memory(signature) as packets:
        words = ["--no-autostart"]
        for ring in rings:  # beside that of the home, which is empty
            words += ["--keyring", str(ring.absolute())]
        check = ["--verify", f"/proc/self/fd/{packets}", f"/proc/self/fd/{signed}"]
        finished = gpg.call(*words, *check, purpose="check a signature", keep=[signed, packets])
        return _maker_of(gpg, finished, words)


def opened_message(message: bytes, keys: Sequence[bytes], limit: int) -> bytes:
    """What is in a signed message, of at most `limit` bytes, that one of `keys` has signed. Raises SignatureError."""
    with home() as gpg, in_memory(message) as packets:
        for each in keys:
            with in_memory(each) as fd:
                gpg.call("--import", f"/proc/self/fd/{fd}", purpose="take a key", keep=[fd])
        target = gpg.path / "message"
        words = ["--no-autostart", "--max-output", str(limit), "--output", str(target)]
        check = ["--decrypt", f"/proc/self/fd/{packets}"]
        finished = gpg.call(*words, *check, purpose="check a signature", keep=[packets])
        _maker_of(gpg, finished, ["--no-autostart"])
        if any(words[0] in ("BEGIN_DECRYPTION", "ENC_TO") for words in _statuses(finished)):
            raise SignatureError("is of another kind than those of documents")
        return target.read_bytes()


def _maker_of(gpg: Home, finished: Finished, words: Sequence[str]) -> Key:
    """Whose the one signature is that GnuPG has checked. Raises SignatureError: nobody's who counts."""
    fingerprint = _judge(finished)
    listing = [*words, "--with-colons", "--fixed-list-mode", "--list-keys"]
    exported = gpg.call(*listing, fingerprint, purpose="look at the key of a signature")
    records = [line.split(":") for line in exported.output.splitlines()]
    public = [record for record in records if record[0] == "pub"]  # one for each ring that has it
    users = [record[9] for record in records if record[0] == "uid" and record[1] not in ("r", "e")]
    made_by = next(record for record in records if record[0] in ("pub", "sub") and record[4] == _maker(finished))
    states = [_key(record, fingerprint, users[0] if users else "") for record in public]
    key = next((state for state in states if state.refused), states[0])
    weakness = _key(made_by, fingerprint, "").weakness or key.weakness
    if weakness or key.refused:
        raise SignatureError(weakness or f"was made with a key that is {key.refused}")
    return key


def _statuses(finished: Finished) -> list[list[str]]:
    lines = finished.output.splitlines()
    return [line.split()[1:] for line in lines if line.startswith("[GNUPG:] ") and len(line.split()) > 1]


def _judge(finished: Finished) -> str:
    """The fingerprint of the primary key of the one valid signature that GnuPG has found. Raises SignatureError."""
    statuses = _statuses(finished)
    for name, failure in _FAILURES.items():
        if any(words[0] == name for words in statuses):
            raise SignatureError(failure)
    missing = [words[1] for words in statuses if words[0] == "NO_PUBKEY"]
    if missing:
        raise UnknownKeyError(missing[0])
    valid = [words for words in statuses if words[0] == "VALIDSIG"]
    good = [words for words in statuses if words[0] == "GOODSIG"]
    made = [words for words in statuses if words[0] == "NEWSIG"]
    if finished.status != 0 or not len(valid) == len(good) == len(made) == 1 or len(valid[0]) < 11:
        raise SignatureError("is none that GnuPG can check")
    if valid[0][8] not in _STRONG_HASHES:
        raise SignatureError("was made with a weak hash, or one that is not known")
    if valid[0][9] not in ("00", "01"):
        raise SignatureError("is of another kind than those of documents")
    return valid[0][10].upper()


def _maker(finished: Finished) -> str:
    """The key id, primary or not, that made the signature."""
    return next(words[1] for words in _statuses(finished) if words[0] == "VALIDSIG")[-16:].upper()


class UnknownKeyError(SignatureError):
    """A signature by a key that is in no ring."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        hint = f"is it to count? singularity key pull {key_id}, or key import FILE"
        super().__init__(f"was made with a key that is in no ring here: {key_id}", hint=hint)


def clear_sign(text: bytes, secret_key: bytes, fingerprint: str, passphrase: str | None) -> bytes:
    """A clear-signed message of `text`. Raises LockedError where the key wants a passphrase, or another one."""
    with home() as gpg, in_memory(secret_key) as key, in_memory(text) as document:
        imported = gpg.call("--import", f"/proc/self/fd/{key}", purpose="take a secret key", keep=[key])
        if imported.status != 0:
            raise imported.failure("take a secret key")
        target = gpg.path / "signed"
        words = ["--digest-algo", "SHA256", "--no-emit-version", "--local-user", fingerprint, "--output", str(target)]
        finished = gpg.call(
            *words, "--clearsign", f"/proc/self/fd/{document}", purpose="sign", secret=passphrase, keep=[document]
        )
        if finished.status != 0:
            raise _locked(finished, "sign", passphrase)
        return target.read_bytes()


def generate(user: str, bits: int, passphrase: str) -> tuple[bytes, bytes]:
    """A new RSA key for `user`, as public and as secret packets, the latter locked by the passphrase."""
    with home() as gpg:
        words = ["--quick-generate-key", user, f"rsa{bits}", "sign,cert", "never"]
        finished = gpg.call("--quiet", *words, purpose="make a key", secret=passphrase)
        if finished.status != 0:
            raise finished.failure("make a key")
        return _exported(gpg, "--export", None), _exported(gpg, "--export-secret-keys", passphrase)


def relock(secret_key: bytes, fingerprint: str, old: str, new: str) -> bytes:
    """A secret key under another passphrase. Raises LockedError."""
    with home() as gpg, in_memory(secret_key) as fd:
        gpg.call("--import", f"/proc/self/fd/{fd}", purpose="take a secret key", keep=[fd])
        with in_memory(f"{old}\n{new}\n{new}\n".encode()) as answers:
            words = ["--pinentry-mode", "loopback", "--command-fd", str(answers), "--passwd", fingerprint]
            finished = gpg.call(*words, purpose="change a passphrase", keep=[answers])
        if finished.status != 0:
            raise _locked(finished, "change a passphrase", old)
        return _exported(gpg, "--export-secret-keys", new)


def armored(data: bytes, *, secret: bool) -> bytes:
    """Packets as text."""
    with home() as gpg, in_memory(data) as fd:
        finished = gpg.call("--output", gpg.path / "text", "--enarmor", f"/proc/self/fd/{fd}", purpose="write a key",
                            keep=[fd])  # fmt: skip
        if finished.status != 0:
            raise finished.failure("write a key")
        kind = b"PRIVATE KEY" if secret else b"PUBLIC KEY"
        lines = (gpg.path / "text").read_bytes().replace(b"PGP ARMORED FILE", b"PGP %b BLOCK" % kind).splitlines()
        return b"\n".join(line for line in lines if not line.startswith(b"Comment: ")) + b"\n"


def dearmored(data: bytes) -> bytes:
    """The packets of keys, whether they come as text or as they are. Raises SignatureError."""
    if b"-----BEGIN PGP" not in data:
        return data
    with home() as gpg, in_memory(data) as fd:
        finished = gpg.call("--output", gpg.path / "packets", "--dearmor", f"/proc/self/fd/{fd}", purpose="read a key",
                            keep=[fd])  # fmt: skip
        if finished.status != 0:
            raise SignatureError("no key of OpenPGP: damaged armor")
        return (gpg.path / "packets").read_bytes()


def is_secret(block: bytes) -> bool:
    """Whether a key is a secret one: by the tag of its first packet."""
    first = block[0]
    return (first & 0x3F if first & 0x40 else first >> 2 & 15) == _SECRET_TAG


def public_half(secret_key: bytes) -> bytes:
    """The public key of a secret one, for which no passphrase is wanted."""
    with home() as gpg, in_memory(secret_key) as fd:
        gpg.call("--import", f"/proc/self/fd/{fd}", purpose="take a secret key", keep=[fd])
        return _exported(gpg, "--export", None)


def merged(old: bytes, new: bytes) -> bytes:
    """All that two states of one public key say: who revoked it cannot be undone by an older copy."""
    with home() as gpg, in_memory(old + new) as fd:
        gpg.call("--import", f"/proc/self/fd/{fd}", purpose="take a key", keep=[fd])
        return _exported(gpg, "--export", None)


class LockedError(SignatureError):
    """A secret key that opens with a passphrase, and not with the one that was given."""


def _locked(finished: Finished, purpose: str, passphrase: str | None) -> SignatureError | ToolError:
    """GnuPG names codes of libgpg-error at the end of its status lines: the low 16 bits say what it was."""
    codes = {int(word) & 0xFFFF for words in _statuses(finished) for word in words[1:] if word.isdecimal()}
    if codes & {11, 17, 85, 86, 87, 99, 177} or "passphrase" in finished.complaints.lower():
        return LockedError("the passphrase is wrong" if passphrase else "the key wants a passphrase")
    return finished.failure(purpose)


def _exported(gpg: Home, what: str, passphrase: str | None) -> bytes:
    target = gpg.path / "exported"
    with suppress(FileNotFoundError):
        os.unlink(target)
    finished = gpg.call("--output", target, what, purpose="take out a key", secret=passphrase)
    if finished.status != 0 or not target.exists():
        raise _locked(finished, "take out a key", passphrase)
    return target.read_bytes()
