"""R-B6, R-M4: a path in a root file system never leaves it, whatever links are in it; with openat2 and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from singularity.image.root import Root

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_text("of the host")
    return path


@pytest.fixture
def tree(tmp_path: Path, outside: Path) -> Path:
    path = tmp_path / "root"
    (path / "etc").mkdir(parents=True)
    (path / "usr" / "lib").mkdir(parents=True)
    (path / "etc" / "hosts").write_text("of the image")
    links = {
        "lib": "usr/lib",
        "etc/absolute": "/etc/hosts",
        "etc/up": "../../../../../../etc/hosts",
        "out": str(outside),
        "etc/out": f"../../..{outside}",
        "loop": "loop",
        "etc/dangling": "/usr/made",
        "deep": "etc/absolute",
    }
    for name, text in links.items():
        (path / name).symlink_to(text)
    return path


@pytest.fixture
def root(tree: Path) -> Iterator[Root]:
    with Root(tree) as opened:
        yield opened


def test_links_are_resolved_inside(root: Root, tree: Path) -> None:
    for path in ("/etc/hosts", "etc/absolute", "/etc/up", "deep", "/lib/../../etc/./hosts", "//etc//hosts"):
        assert root.read(path) == b"of the image", path
    assert root.real_path("/deep") == "/etc/hosts"
    assert root.real_path("/../..") == "/"
    assert tree.is_dir()


def test_what_lies_outside_cannot_be_named(root: Root, outside: Path) -> None:
    for path in ("out/secret", "etc/out/secret", str(outside / "secret"), "/../outside/secret"):
        assert root.status(path) is None, path
        with pytest.raises(FileNotFoundError):
            root.read(path)


def test_links_without_end_are_an_error(root: Root) -> None:
    with pytest.raises(OSError, match="Too many levels") as caught:
        root.read("/loop/x")
    assert caught.value.filename == "/loop/x"


def test_writing_replaces_links_and_stays_inside(root: Root, tree: Path, outside: Path) -> None:
    root.write("/etc/absolute", b"new")
    assert not (tree / "etc" / "absolute").is_symlink()
    assert (tree / "etc" / "hosts").read_text() == "of the image"
    with pytest.raises(FileNotFoundError):
        root.write("/out/secret", b"stolen")
    assert (outside / "secret").read_text() == "of the host"
    root.make_directory(f"{outside}/new")
    assert (tree / str(outside).lstrip("/") / "new").is_dir()
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_an_empty_file_is_made_through_a_dangling_link_inside(root: Root, tree: Path) -> None:
    root.make_file("/etc/dangling")
    assert (tree / "usr" / "made").read_bytes() == b""


def test_modes_of_new_files_and_directories(root: Root, tree: Path) -> None:
    umask = os.umask(0o077)
    try:
        root.make_directory("/var/tmp", 0o1777)
        root.write("/var/tmp/script", b"", 0o755)
    finally:
        os.umask(umask)
    assert (tree / "var").stat().st_mode & 0o7777 == 0o755
    assert (tree / "var" / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (tree / "var" / "tmp" / "script").stat().st_mode & 0o7777 == 0o755


def test_only_regular_files_within_the_limit_are_read(root: Root, tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        root.read("/pipe")
    with pytest.raises(OSError, match="too large"):
        root.read("/etc/hosts", limit=3)


def test_names_of_a_directory_are_sorted_and_none_where_there_is_none(root: Root) -> None:
    assert root.names("/etc") == ["absolute", "dangling", "hosts", "out", "up"]
    assert root.names("/nowhere") == root.names("/etc/hosts") == []


def test_without_openat2_everything_is_the_same() -> None:
    """The same tests, where the kernel refuses openat2 with ENOSYS, as kernels before 5.6 do."""
    if os.environ.get("WITHOUT_OPENAT2"):
        with pytest.raises(OSError, match="not implemented"):
            _openat2()
        return
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import syscalls, pytest;"
        "syscalls.refuse([syscalls.Refusal('openat2')]);"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', sys.argv[2]]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(TESTS), __file__],
        env={**os.environ, "WITHOUT_OPENAT2": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def _openat2() -> None:
    from singularity import kernel

    os.close(kernel.openat2(-100, "/", os.O_PATH, 0, kernel.RESOLVE_IN_ROOT))
