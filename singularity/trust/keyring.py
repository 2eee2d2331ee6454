"""Key rings: the files of the family, `pgp-public` and `pgp-secret`, which hold keys as packets of OpenPGP.

They can be taken over from another program of the family as they are. Secret keys are in them as they came, locked by
their passphrase. A ring is replaced as a whole, by one process at a time.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from singularity import files, locks, paths
from singularity.errors import FileError, SignatureError, UsageError
from singularity.trust import openpgp
from singularity.trust.openpgp import Key
from singularity.variables import variable

_LIMIT = 64 << 20  # bytes of a ring
_PUBLIC_KEY, _SECRET_KEY, _TRUST = 6, 5, 12  # tags of packets: RFC 4880, 4.3
GLOBAL = "global-pgp-public"


@dataclass(frozen=True, slots=True)
class Ring:
    """One file of keys, whether it is there or not."""

    path: Path
    private: bool = True  # the user's own: nobody else may read or write it

    def blocks(self) -> list[bytes]:
        """Its keys, each with all that belongs to it. Raises FileError, SignatureError for a damaged ring."""
        return split(self._read(), str(self.path))

    def listed(self) -> list[Key]:
        """What there is to know of its keys, in their order."""
        return [openpgp.keys_in(block)[0] for block in self.blocks()]

    def find(self, words: str) -> tuple[Key, bytes]:
        """The key with this fingerprint, or with an id that ends it. Raises UsageError where there is not just one."""
        wanted = fingerprint(words)
        found = [(openpgp.keys_in(block)[0], block) for block in self.blocks()]
        found = [(key, block) for key, block in found if key.fingerprint.endswith(wanted)]
        if len(found) != 1:
            what = "no key" if not found else f"{len(found)} keys"
            raise UsageError(f"{self.path}: {what} {words}", hint="singularity key list shows fingerprints")
        return found[0]

    def add(self, data: bytes) -> list[tuple[Key, bool]]:
        """Takes the keys of `data`, public ones together with what is known of them; says of each whether it is new."""
        added: list[tuple[Key, bool]] = []
        with self._changing() as known:
            for block in split(data, "the keys"):
                key = openpgp.keys_in(block)[0]
                before = known.get(key.fingerprint)
                added.append((key, before is None))
                if before is not None and not openpgp.is_secret(block):
                    block = openpgp.merged(before, block)
                known[key.fingerprint] = block
        return added

    def remove(self, words: str) -> Key:
        """Forgets a key. Raises UsageError where there is not just one such."""
        key, _ = self.find(words)
        with self._changing() as known:
            known.pop(key.fingerprint, None)
        return key

    @contextmanager
    def _changing(self) -> Iterator[dict[str, bytes]]:
        """The keys by fingerprint, to be changed; written at the end."""
        if self.private:
            paths.private(self.path.parent)
        with locks.locked(self.path.with_name(f".{self.path.name}.lock"), "changes the key ring"):
            known = {openpgp.keys_in(block)[0].fingerprint: block for block in self.blocks()}
            yield known
            mode = 0o600 if self.private else 0o644
            files.write(self.path, b"".join(known.values()), overwrite=True, mode=mode)

    def _read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_mode & 0o022 or status.st_uid not in (0, os.geteuid()):
                    what = f"{self.path}: others may write to this key ring"
                    raise FileError(what, hint=f"chown it to yourself, and chmod go-w {self.path}")
                data = file.read(_LIMIT + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise FileError.because(self.path, error) from error
        if len(data) > _LIMIT:
            raise FileError(f"{self.path}: a key ring of more than {_LIMIT >> 20} MiB")
        return data


def directory(named: str = "") -> Path:
    """Where the user's rings are: the option, KEYSDIR, or `keys` in the user's directory."""
    return Path(named or variable("KEYSDIR") or paths.user_place() / "keys").absolute()


def public(named: str = "") -> Ring:
    """The user's public keys: those whose signatures count."""
    return Ring(directory(named) / "pgp-public")


def secret(named: str = "") -> Ring:
    """The user's secret keys."""
    return Ring(directory(named) / "pgp-secret")


def site() -> Ring:
    """The public keys that root has put there for all."""
    return Ring(paths.site_directory() / GLOBAL, private=False)


def choose(keys: Sequence[Key], number: int | None) -> int:
    """The place, counted from 0, of the key to sign with. Raises UsageError."""
    if not keys:
        raise SignatureError("there is no secret key to sign with", hint="make one: singularity key newpair")
    if number is None and len(keys) > 1:
        raise UsageError(f"there are {len(keys)} secret keys", hint="--keyidx N, as singularity key list -s counts")
    if number is not None and not 0 <= number < len(keys):
        raise UsageError(f"--keyidx {number}: there is no such key", hint="singularity key list -s counts them")
    return number or 0


def fingerprint(words: str) -> str:
    """A fingerprint, or its last 16 or 8 digits, in one spelling. Raises UsageError for anything else."""
    plain = words.replace(" ", "").replace(":", "").removeprefix("0x").removeprefix("0X").upper()
    with suppress(ValueError):
        if len(bytes.fromhex(plain)) in (4, 8, 20, 32):
            return plain
    raise UsageError(f'"{words}" is no fingerprint', hint="40 hexadecimal digits")


def split(data: bytes, name: str) -> list[bytes]:
    """Packets, one block a key, without what only one ring is concerned with. Raises SignatureError."""
    blocks: list[bytearray] = []
    at = 0
    while at < len(data):
        tag, end = _packet(data, at, name)
        if tag in (_PUBLIC_KEY, _SECRET_KEY):
            blocks.append(bytearray())
        elif not blocks:
            raise SignatureError(f"{name}: no key of OpenPGP at the beginning")
        if tag != _TRUST:
            blocks[-1] += data[at:end]
        at = end
    return [bytes(block) for block in blocks]


def _packet(data: bytes, at: int, name: str) -> tuple[int, int]:
    """The tag of the packet at this place, and where it ends."""
    try:
        first = data[at]
        if first & 0xC0 == 0xC0:
            tag, length, start = first & 0x3F, *_new_length(data, at + 1)
        elif first & 0x80 and first & 3 < 3:
            size = 1 << (first & 3)
            tag, start = first >> 2 & 15, at + 1 + size
            length = int.from_bytes(data[at + 1 : start], "big")
        else:
            raise ValueError
        if start + length > len(data):
            raise ValueError
    except (IndexError, ValueError) as error:
        raise SignatureError(f"{name}: damaged at byte {at}") from error
    return tag, start + length


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    if data[at] < 192:
        return data[at], at + 1
    if data[at] < 224:
        return ((data[at] - 192) << 8) + data[at + 1] + 192, at + 2
    if data[at] == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    raise ValueError  # in parts, which keys never are
