"""Which files are stored uncompressed: what programs start with, whatever the image's links say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from singularity.build import layout, pack, startup_trace
from singularity.definition.model import Script, Stage
from singularity.image.root import Root

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root file system with one dynamic program and what it needs, as merged-usr systems lay it out."""
    libraries = tmp_path / "usr" / "lib" / "x"
    libraries.mkdir(parents=True)
    (tmp_path / "usr" / "bin").mkdir()
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "bin").symlink_to("usr/bin")
    output = subprocess.check_output(["ldd", "/bin/ls"], text=True)
    for word in {word for word in output.split() if word.startswith("/")}:
        target = tmp_path / word.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(word, target)
    shutil.copy("/bin/ls", tmp_path / "usr" / "bin" / "true")
    (tmp_path / "usr" / "bin" / "sh").symlink_to("/bin/true")
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("ldd"), reason="no ldd (package libc-bin)")
def test_the_shell_with_its_loader_and_libraries_always(image: Path) -> None:
    with Root(image) as root:
        found = layout.choose(root, 0).uncompressed
    assert "usr/bin/true" in found
    assert "usr/bin/sh" not in found
    names = {path.rpartition("/")[2].split(".so")[0] for path in found}
    assert {"libc", "libselinux"} <= names or "libc" in names
    assert any(name.startswith("ld-linux") for name in names)
    assert all((image / path).is_file() and not (image / path).is_symlink() for path in found)


def test_further_programs_only_as_far_as_the_size_allows(image: Path) -> None:
    (image / "usr" / "bin" / "cat").write_bytes(b"#!/bin/sh\n" + b"compresses well" * 10_000)
    with Root(image) as root:
        assert "usr/bin/cat" not in layout.choose(root, 1 << 20).uncompressed
        assert "usr/bin/cat" in layout.choose(root, 1 << 30).uncompressed


@pytest.mark.parametrize("watched", [False, True])
def test_what_is_always_stored_so_counts_as_well(image: Path, watched: bool) -> None:
    """All of it together stays below the share: a shell with its libraries leaves the rest of a small image nothing."""
    (image / "usr" / "bin" / "cat").write_bytes(b"compresses well" * 1000)
    with Root(image) as root:
        opened = ["usr/bin/cat"] if watched else []
        assert "usr/bin/cat" not in layout.choose(root, 2 << 20, opened).uncompressed
        assert "usr/bin/cat" in layout.choose(root, 1 << 30, opened).uncompressed


def test_the_interpreter_that_the_runscript_names_comes_before_others(tmp_path: Path) -> None:
    for path in ("opt/python", "usr/bin/tool", "bin/cat"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"compresses well" * 1000)
    (tmp_path / ".singularity.d").mkdir()
    (tmp_path / ".singularity.d/runscript").write_text("#!/opt/python -u\n")
    (tmp_path / ".singularity.d/test").write_text("#!/usr/bin/env tool\n")
    with Root(tmp_path) as root:
        assert layout.choose(root, 1_600_000).uncompressed == ("opt/python",)
        assert layout.choose(root, 1 << 30).uncompressed == ("opt/python", "usr/bin/tool", "bin/cat")


def test_names_that_mksquashfs_would_misread_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh)||name(*").write_bytes(b"x")
    (tmp_path / "bin" / "sh").symlink_to("sh)||name(*")
    with Root(tmp_path) as root:
        assert layout.choose(root, 1 << 30).uncompressed == ()


def test_an_image_without_programs_is_packed_all_the_same(tmp_path: Path) -> None:
    with Root(tmp_path) as root:
        assert layout.choose(root, 0).uncompressed == ()


def test_what_launches_read_stays_out_of_shared_blocks(tmp_path: Path) -> None:
    own = [".singularity.d/env/90-environment.sh", ".singularity.d/runscript"]
    for path in ("etc/passwd", "usr/share/zoneinfo/UTC", *own):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x\n")
    (tmp_path / "etc" / "localtime").symlink_to("/usr/share/zoneinfo/UTC")
    with Root(tmp_path) as root:
        found = layout.read_by_launches(root)
    assert found == ["etc/passwd", "usr/share/zoneinfo/UTC", *own]


def test_what_a_start_opens_comes_first_and_in_that_order(image: Path) -> None:
    for name in ("b", "a", "unread"):
        (image / "usr" / name).write_bytes(b"compresses well" * 100)
    opened: list[str] = []
    with startup_trace.recording(image, opened):
        for name in ("b", "a", "b"):
            (image / "usr" / name).read_bytes()
        (image / "usr" / "written").write_bytes(b"x")
    assert opened == ["usr/b", "usr/a"]
    with Root(image) as root:
        found = layout.choose(root, 1 << 30, opened)
    places = [found.sorted.index(f"usr/{name}") for name in ("b", "a")]
    assert places == sorted(places)
    assert "usr/unread" not in found.sorted


def test_the_interpreters_of_the_scripts_are_started(tmp_path: Path) -> None:
    stage = Stage(
        header={},
        line=1,
        runscript=Script(body='#!/bin/bash\nexec python3.11 /opt/x.py "$@"\n', line=1, lines=(2, 3)),
        test=Script(body="exec /opt/own-program\n", line=5, lines=(6,)),
    )
    started: list[list[str]] = []

    def run(argv: Sequence[str]) -> int:
        started.append(list(argv))
        return 0

    assert startup_trace.opened_by(tmp_path, stage, run) == []
    assert started == [["/bin/bash", "-c", ":"], ["python3.11", "-c", "pass"], ["/bin/sh", "-c", ":"]]


def test_nothing_is_watched_where_nothing_is_to_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watching takes a look at every directory."""
    asked: list[Path] = []
    monkeypatch.setattr(startup_trace, "Watch", asked.append)
    assert startup_trace.opened_by(tmp_path, Stage(header={}, line=1), lambda _: 0) == []
    assert asked == []


@pytest.mark.needs("mksquashfs")
def test_each_directory_is_listed_once(image: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All that is to be known of every file is asked in one walk: large trees make it felt."""
    directory = image / "opt" / "many"
    directory.mkdir(parents=True)
    listed: list[str] = []

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.scandir" and str(arguments[0]) == str(directory):
            listed.append(event)

    sys.addaudithook(listen)
    pack.pack(image, tmp_path_factory.mktemp("packed") / "x.sqfs", arguments=[], overwrite=False)
    assert listed == ["os.scandir"]


@pytest.mark.needs("mksquashfs")
def test_what_comes_first_lies_together_and_as_it_is(image: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The data of the chosen files stand in the file one after another, byte for byte."""
    for name in ("one", "two"):
        (image / "usr" / name).write_bytes(f"{name} compresses well ".encode() * 4000)
    (image / "large").touch()
    os.truncate(image / "large", 256 << 20)  # what makes the cost small
    target = tmp_path_factory.mktemp("packed") / "x.sqfs"
    pack.pack(image, target, arguments=[], overwrite=False, read_first=["usr/two", "usr/one"])
    data = target.read_bytes()
    two, one = ((image / "usr" / name).read_bytes() for name in ("two", "one"))
    assert 0 < data.find(two) < data.find(one) == data.find(two) + len(two)
