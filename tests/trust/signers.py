"""Small images, people with keys, and both at once, for tests of signatures."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from singularity.image.sif import format as sif
from singularity.image.sif import write as sif_write
from singularity.image.sif.format import DataType, Filesystem
from singularity.image.sif.write import NewObject
from singularity.trust import openpgp
from singularity.trust.keyring import Ring
from singularity.trust.pgp import PgpChecker
from singularity.trust.verify import Verified, Wanted, verify

if TYPE_CHECKING:
    from pathlib import Path

OBJECTS = (
    NewObject(type=DataType.DEFINITION, data=b"Bootstrap: scratch\n"),
    NewObject(type=DataType.GENERIC_JSON, data=b'{"a":1}', name=b"inspect-metadata.json"),
)


def image(path: Path, partition: bytes = b"P" * 300) -> Path:
    """A SIF file of three objects, in which nobody looks for a file system."""
    head = sif_write.encode_head(
        OBJECTS,
        partition_size=len(partition),
        filesystem=Filesystem.SQUASHFS,
        architecture="amd64",
        id=UUID(int=5),
        time=1_700_000_000,
    )
    path.write_bytes(head + partition)
    return path


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a home directory of her own."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def types(self, *words: str | Path, stdin: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs the program as she would; fails with another exit status than this."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), **self.environment}
        done = subprocess.run(
            [sys.executable, "-m", "singularity", *map(str, words)],
            input=stdin, env=environment, text=True, capture_output=True, check=False, cwd=self.home, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done

    @property
    def public(self) -> Ring:
        return Ring(self.home / ".singularity/keys/pgp-public")

    @property
    def secret(self) -> Ring:
        return Ring(self.home / ".singularity/keys/pgp-secret")

    @property
    def checker(self) -> PgpChecker:
        return PgpChecker((self.public,))


def gpg_key(algorithm: str, user: str, *more: str, passphrase: str = "") -> tuple[bytes, bytes]:
    """A key that this program would not make: of another algorithm, or one that expires."""
    with openpgp.home() as home:
        words = ["--quiet", *more, "--quick-generate-key", user, algorithm, "sign,cert"]
        done = home.call(*words, "never", purpose="make a key", secret=passphrase)
        assert done.status == 0, done.complaints
        return tuple(openpgp._exported(home, what, passphrase) for what in ("--export", "--export-secret-keys"))  # type: ignore[return-value]


def check(path: Path, *checkers: object, **wanted: object) -> list[Verified]:
    with path.open("rb") as file:
        return verify(file, Wanted(**wanted), checkers)  # type: ignore[arg-type]


def descriptors(path: Path) -> tuple[sif.Descriptor, ...]:
    with path.open("rb") as file:
        return sif.read(file).descriptors
