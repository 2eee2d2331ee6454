"""squashfs through squashfs-tools: whole or in parts out of a file, and into one."""

import re
from collections.abc import Sequence
from pathlib import Path

from singularity.process import run


def unpack(image: Path, offset: int, target: Path, names: Sequence[str] = (), *, purpose: str) -> None:
    """Unpacks the file system `offset` bytes into `image` to `target`, which must not exist and does afterwards.

    `names`, patterns without leading `/`, choose what; names that are not there are no failure. Only root keeps
    owners. Raises ToolError.
    """
    target.mkdir()
    run(
        ["unsquashfs", "-no-progress", "-quiet", "-force", "-offset", str(offset), "-dest", target, image, *names],
        purpose=purpose,
    )


def compressors(*, purpose: str) -> frozenset[str]:
    """What the installed mksquashfs can compress with. Raises ToolError when there is none."""
    text = run(["mksquashfs", "-help"], purpose=purpose, accept=range(256))
    listed = re.search(r"Compressors available:\n((?:\t+\w+.*\n)+)", text)
    return frozenset(line.split()[0] for line in listed[1].splitlines()) if listed else frozenset({"gzip"})
