"""Files are whole or absent, trees are removed without harm, tools end when we do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from singularity import files, process
from singularity.errors import FileError, ToolError
from singularity.namespaces import fakeroot
from singularity.namespaces.fakeroot import IdRange


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "place"
    path.mkdir()
    return path


def write(target: Path, text: str, *, overwrite: bool = False) -> None:
    with files.replacing(target, overwrite=overwrite) as new:
        os.write(new.fd, text.encode())


def test_a_new_file_gets_its_name_at_the_end(place: Path) -> None:
    target = place / "x"
    with files.replacing(target, overwrite=False) as new:
        os.write(new.fd, b"text")
        assert list(place.iterdir()) == []
    assert target.read_text() == "text"


def test_the_old_file_stays_until_the_new_one_is_whole(place: Path) -> None:
    """R-F3."""
    target = place / "x"
    target.write_text("old")
    half = contextlib.ExitStack()
    new = half.enter_context(files.replacing(target, overwrite=True))
    os.write(new.fd, b"half")
    half.__exit__(RuntimeError, RuntimeError(), None)
    assert target.read_text() == "old"
    write(target, "new", overwrite=True)
    assert target.read_text() == "new"
    assert list(place.iterdir()) == [target]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_is_not_replaced(place: Path, *, overwrite: bool) -> None:
    """`build --force /dev/null ...` as root must not make a file of it."""
    target = place / "x"
    os.mkfifo(target)
    with pytest.raises(FileError, match="neither a file nor a directory"):
        write(target, "new", overwrite=overwrite)
    assert target.is_fifo()
    assert list(place.iterdir()) == [target]


def test_what_appears_meanwhile_is_not_replaced(place: Path) -> None:
    """R-B3: of two builds of one target one wins, without --force the first."""
    target = place / "x"
    whole = contextlib.ExitStack()
    whole.enter_context(files.replacing(target, overwrite=False))
    target.write_text("of another")
    with pytest.raises(FileError, match="exists, since a moment ago"):
        whole.close()
    assert target.read_text() == "of another"
    assert list(place.iterdir()) == [target]


@pytest.mark.needs("root")
def test_root_gives_what_it_makes_through_sudo_to_its_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "4321")
    monkeypatch.setenv("SUDO_GID", "4322")
    write(place / "x", "text")
    status = (place / "x").stat()
    assert (status.st_uid, status.st_gid) == (4321, 4322)


def test_trees_go_with_closed_directories_and_never_through_links(place: Path) -> None:
    """R-F6."""
    (place / "kept").mkdir()
    (place / "kept" / "file").write_text("x")
    tree = place / "tree"
    (tree / "closed" / "below").mkdir(parents=True)
    (tree / "link").symlink_to(place / "kept")
    (tree / "closed").chmod(0)
    files.remove_tree(tree)
    assert list(place.iterdir()) == [place / "kept"]
    assert (place / "kept" / "file").exists()
    files.remove_tree(tree)


@pytest.mark.needs("root")
def test_trees_are_not_removed_across_mounts(place: Path) -> None:
    mounted = place / "tree" / "mounted"
    mounted.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    try:
        (mounted / "file").write_text("x")
        with pytest.raises(FileError, match="something is mounted on mounted in it"):
            files.remove_tree(place / "tree")
        assert (mounted / "file").exists()
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_tool_that_is_missing_is_named_with_its_package() -> None:
    with pytest.raises(ToolError) as caught:
        process.run(["mksquashfs-of-old"], purpose="pack")
    assert str(caught.value) == "mksquashfs-of-old not found, needed to pack (install mksquashfs-of-old)"


def test_a_tool_that_fails_says_why_in_one_line() -> None:
    for script, reason in (
        ("echo noise >&2; echo 'E: no mirror' >&2; echo more >&2; exit 2", "E: no mirror"),
        ("echo only >&2; exit 2", "only"),
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("echo 'write: No space left on device' >&2; echo 'error: giving up' >&2; exit 1", "No space left on device"),
    ):
        with pytest.raises(ToolError) as caught:
            process.run(["sh", "-c", script], purpose="try")
        assert str(caught.value) == f"sh could not try: {reason} (--debug shows the command)"


def test_a_tool_gets_an_environment_made_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-T8."""
    monkeypatch.setenv("SECRET", "x")
    output = process.run(["env"], purpose="look", environment={"A": "b"})
    assert {line.partition("=")[0] for line in output.splitlines()} == {"PATH", "LC_ALL", "A"}
    assert process.run(["cat"], purpose="read nothing") == ""


def test_a_tool_ends_with_us_whatever_ends_us(place: Path) -> None:
    """Killed, so that nothing of ours can clean up."""
    pid = place / "pid"
    script = (
        f"from singularity import process; process.run(['sh', '-c', 'echo $$ >{pid}; exec sleep 60'], purpose='wait')"
    )
    ours = subprocess.Popen([sys.executable, "-I", "-c", script])
    deadline = time.monotonic() + 10
    while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    tool = int(pid.read_text())
    ours.send_signal(signal.SIGKILL)
    ours.wait()
    while Path(f"/proc/{tool}").exists() and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(tool, os.WNOHANG)
        time.sleep(0.02)
    assert not Path(f"/proc/{tool}").exists()


def test_subordinate_ids_are_read_by_name_and_by_number() -> None:
    text = "# comment\nother:1:2\nalice:100000:65536\n4321:200000:10\nbob:x:1\nbob:1\n"
    assert fakeroot.subordinate(text, frozenset({"4321"})) == IdRange(start=200000, count=10)
    assert fakeroot.subordinate(text, frozenset({"alice", "7"})) == IdRange(start=100000, count=65536)
    assert fakeroot.subordinate(text, frozenset({"bob"})) is None


WITHOUT_NAMELESS_FILES = """
import errno, os, platform, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import syscalls
syscalls.NUMBERS[platform.machine()]["openat"] = {"x86_64": 257, "aarch64": 56}[platform.machine()]
syscalls.refuse([syscalls.Refusal("openat", errno.EOPNOTSUPP, argument=2, any_bit=0o20000000)])
from singularity import files
target = Path(sys.argv[2])
for text, overwrite in (("first", False), ("second", True)):
    with files.replacing(target, overwrite=overwrite) as new:
        assert new.name, "the filter had no effect"
        os.write(new.fd, text.encode())
        print(len(list(target.parent.iterdir())), end=" ")
try:
    with files.replacing(target, overwrite=True) as new:
        raise RuntimeError
except RuntimeError:
    print(target.read_text(), *[path.name for path in target.parent.iterdir()])
"""


def test_file_systems_without_nameless_files_get_temporary_names(place: Path) -> None:
    """As on NFS: the kernel refuses O_TMPFILE."""
    tests = Path(__file__).resolve().parent.parent
    argv = [sys.executable, "-c", WITHOUT_NAMELESS_FILES, str(tests), str(place / "x")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "1 2 second x\n"
