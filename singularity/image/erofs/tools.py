"""EROFS file systems, made by mkfs.erofs of erofs-utils 1.5 or newer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

from singularity.process import run

_CLUSTER = 64 << 10  # bytes at most that a compressed piece has: docs/performance.md has the table


def make(
    root: Path, target: Path, *, identity: UUID, environment: Mapping[str, str], purpose: str,
    through: Sequence[str | Path] = (),
) -> None:  # fmt: skip
    """Writes the file system of all that is in `root` to a new file, with owners, modes, attributes and hard links.

    Linux 5.17 or newer reads it. With SOURCE_DATE_EPOCH in `environment` the same root and `identity` make the same
    file. What root emulation remembers of files it sees where the program `through` starts it. Raises ToolError.
    """
    words = ["mkfs.erofs", "--quiet", "-d1", "-zlz4hc", f"-C{_CLUSTER}", "-Eztailpacking", f"-U{identity}"]
    run([*words, target, root], purpose=purpose, environment=environment, through=through)
