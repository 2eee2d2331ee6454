"""Who has an image: said across processes, by number."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from singularity import locks

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import os, sys
from singularity.locks import lock_image
fd = os.open(sys.argv[1], os.O_RDWR)
lock_image(fd, writable=sys.argv[2] == "w")
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("held", "wanted"), [("w", False), ("w", True), ("r", True)])
def test_the_process_that_holds_an_image_is_named(tmp_path: Path, held: str, *, wanted: bool) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    argv = [sys.executable, "-c", HOLD, str(image), held]
    with (
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
        image.open("r+b") as file,
    ):
        assert other.stdout is not None
        number = int(other.stdout.readline())
        with pytest.raises(BlockingIOError):
            locks.lock_image(file.fileno(), writable=wanted)
        assert locks.holder_of_image(file.fileno()) == f" by process {number}"
        other.communicate("")
        locks.lock_image(file.fileno(), writable=wanted)
        assert locks.holder_of_image(file.fileno()) == ""


def test_a_process_of_another_machine_has_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    here = os.uname()
    with image.open("r+b") as one, image.open("r+b") as other:
        with monkeypatch.context() as patched:
            patched.setattr(os, "uname", lambda: os.uname_result((*here[:1], "elsewhere", *here[2:])))
            locks.lock_image(one.fileno(), writable=True)
        assert "another machine" in locks.holder_of_image(other.fileno())
