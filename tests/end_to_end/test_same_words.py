"""The launcher and the Python side say the same of the same thing that is no image, with the same status."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from images import Images
    from launching import Launcher

pytestmark = pytest.mark.modes("userns")

FILES = {
    "empty": b"",
    "text": b"#!/bin/sh\n",
    "zero": bytes(70000),
    "web page": b"<html>",
    "short squashfs": b"hsqs",
    "unreadable": b"hsqs",
    "x.def": b"Bootstrap: busybox\n",
    "a\nb": b"hsqs",
}
CUT = {"half a sif": ("sif", 40000), "head of a sif": ("sif", 200), "half a squashfs": ("squashfs", 5000)}
OTHERS = ("directory", "fifo", "socket", "loop", "dangling", "closed", "closed/file", "empty/x", "x" * 300, "missing")
NAMES = ("", "/dev/null", "/etc", "/etc/shadow", "/root/x", "docker://", "docker:", "nothing://x")


def fill(directory: Path, images: Images) -> None:
    """Everything of the tables above."""
    sources = {"sif": images.sif, "squashfs": images.squashfs()}
    contents = FILES | {name: sources[kind].read_bytes()[:size] for name, (kind, size) in CUT.items()}
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    (directory / "unreadable").chmod(0)
    (directory / "directory").mkdir()
    os.mkfifo(directory / "fifo")
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(str(directory / "socket"))
    (directory / "loop").symlink_to("loop")
    (directory / "dangling").symlink_to("nothing")
    (directory / "closed").mkdir()
    (directory / "closed/file").write_bytes(b"")
    (directory / "closed").chmod(0)


def test_what_is_no_image_is_told_in_the_same_words(launch: Launcher, images: Images, directory: Path) -> None:
    fill(directory, images)
    different = []
    for name in (*NAMES, *(str(directory / each) for each in (*FILES, *CUT, *OTHERS))):
        first = launch("exec", name, "true")
        assert first.status in {1, 255}, str(first)
        assert len(first.err.splitlines()) == 1, str(first)
        second = launch("inspect", name)
        if (first.status, first.err) != (second.status, second.err):
            different.append(f"{first}\n{second}")
    assert different == [], "\n".join(different)
