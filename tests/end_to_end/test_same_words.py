"""The launcher and the Python side say the same of the same file that is no image, with the same status."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from images import Images
    from launching import Launcher

pytestmark = pytest.mark.modes("userns")


def _sealed(directory: Path, *, inside: bool) -> Path:
    (directory / "sealed").mkdir()
    (directory / "sealed/file").write_text("x")
    return directory / ("sealed/file" if inside else "sealed")


def make(kind: str, directory: Path, images: Images) -> str:
    """The name of something that is no image."""
    path = directory / kind
    if kind in {"empty", "text", "zero", "web page", "short squashfs"}:
        contents = {"text": b"#!/bin/sh\n", "zero": bytes(70000), "web page": b"<html>", "short squashfs": b"hsqs"}
        path.write_bytes(contents.get(kind, b""))
    elif kind in {"half a sif", "head of a sif"}:
        path.write_bytes(images.sif.read_bytes()[: 40000 if kind == "half a sif" else 200])
    elif kind == "half a squashfs":
        path.write_bytes(images.squashfs().read_bytes()[:5000])
    elif kind == "unreadable":
        path.write_bytes(b"hsqs")
        path.chmod(0)
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as it:
            it.bind(str(path))
    elif kind == "loop":
        path.symlink_to("loop")
    elif kind == "dangling link":
        path.symlink_to("nothing")
    elif kind in {"closed directory", "below a closed directory"}:
        path = _sealed(directory, inside=kind != "closed directory")
        (directory / "sealed").chmod(0)
    elif kind == "below a file":
        path.write_bytes(b"")
        return str(path / "x")
    elif kind == "long name":
        return str(directory / ("x" * 300))
    elif kind == "too long a path":
        return "/" + "x/" * 3000
    elif kind == "nothing":
        return ""
    elif kind in {"/dev/null", "/", "/etc", "/etc/shadow", "/root/x"}:
        return kind
    return str(path)


KINDS = (
    "missing", "empty", "text", "zero", "web page", "short squashfs", "half a sif", "head of a sif", "half a squashfs",
    "unreadable", "directory", "fifo", "socket", "loop", "dangling link", "closed directory", "below a closed directory",
    "below a file", "long name", "too long a path", "nothing", "/dev/null", "/", "/etc", "/etc/shadow", "/root/x", "a\nb",
    "docker://", "nothing://x", "docker://UPPER/case", "x.def",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_image_is_told_in_the_same_words(
    launch: Launcher, images: Images, directory: Path, kind: str
) -> None:
    name = kind if re.match(r"\w+://", kind) else make(kind, directory, images)
    if kind == "x.def":
        Path(name).write_text("Bootstrap: busybox\n")
    ours = launch("exec", name, "true")
    assert ours.status in {1, 255}, str(ours)
    for words in (["inspect", name], ["sif", "list", name], ["check", name, "true"]):
        if words[0] == "sif" and not kind.endswith("a sif"):
            continue
        other = launch(*words)
        assert (other.status, other.err) == (ours.status, ours.err), f"{ours}\n{other}"
        assert len(other.err.splitlines()) == 1
