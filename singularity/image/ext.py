"""ext file systems through e2fsprogs: parts out of a file, without mounting it."""

import os
from collections.abc import Sequence
from pathlib import Path

from singularity.process import run


def unpack(image: Path, offset: int, target: Path, names: Sequence[str], *, purpose: str) -> None:
    """Copies `names`, top-level files and directories of the file system `offset` bytes into `image`, to `target`.

    Names that are not there are no failure. Raises ToolError.
    """
    target.mkdir()
    with image.open("rb") as file:
        wanted = " ".join(f"/{name}" for name in names)
        device = f"/proc/self/fd/{file.fileno()}?offset={offset}"
        run(["debugfs", "-R", f"rdump {wanted} {os.fspath(target)}", device], purpose=purpose, keep=[file.fileno()])
