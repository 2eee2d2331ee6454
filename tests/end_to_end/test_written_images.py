"""Image files that were written through FUSE: whole and free when the command returns, and cut where they should be."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import fuse2fs
import pytest
from images import Images, extfs, squashfs, tool

if TYPE_CHECKING:
    from launching import Launcher

pytestmark = pytest.mark.needs("root", "mke2fs", "fuse", "fuse2fs", "fuse-overlayfs", "userns")
KINDS = ("image", "overlay")


class Written:
    """An image that the user writes: itself, or as the overlay of another. Its files are the user's, or root's."""

    def __init__(self, launch: Launcher, images: Images, directory: Path, kind: str, *, roots: bool = False) -> None:
        tree = directory / "tree"
        if kind == "image":
            images.old_tree(tree)
        else:
            (tree / "upper").mkdir(parents=True)
            (tree / "work").mkdir()
        owner = (0, 0) if roots else (launch.account.uid, launch.account.gid)
        for place in (tree, *tree.rglob("*")):
            os.chown(place, *owner, follow_symlinks=False)
        self.path = extfs(tree, directory / "own.img", mebibytes=24, line=kind == "image")
        os.chown(self.path, launch.account.uid, launch.account.gid)
        self.offset = 31 if kind == "image" else 0
        self.prefix = "/" if kind == "image" else "/upper/"
        self.words = ["-w", self.path] if kind == "image" else ["--overlay", self.path, images.sandbox]

    def check_free(self) -> None:
        """Nobody has it open for writing: the kernel grants a lease for reading only then."""
        with self.path.open("rb") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def wait_until_free(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.check_free()
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def content(self, name: str) -> bytes:
        """Of a file, out of a copy of the image as it is now, whose file system must be whole."""
        copy = self.path.with_suffix(".copy")
        copy.write_bytes(self.path.read_bytes()[self.offset :])
        tool("e2fsck", "-fn", copy)
        return subprocess.run(
            ["debugfs", "-R", f"cat {self.prefix}{name}", copy], capture_output=True, check=True
        ).stdout


@pytest.fixture(params=KINDS)
def written(request: pytest.FixtureRequest, launch: Launcher, images: Images, directory: Path) -> Written:
    return Written(launch, images, directory, request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_whole_and_free_when_the_command_returns(
    launch: Launcher, images: Images, directory: Path, kind: str
) -> None:
    options = [[], ["--pid"], [], ["--ipc", "--net"], [], []]
    written = Written(launch, images, directory, kind)
    for number, words in enumerate(options):
        script = f"echo {number} >> /lines; dd if=/dev/zero of=/big bs=64k count=32 2>/dev/null"
        launch("exec", *words, *written.words, "sh", "-c", script).ok()
        written.check_free()
    assert written.content("lines") == b"0\n1\n2\n3\n4\n5\n"
    assert written.content("big") == bytes(32 << 16)


@pytest.mark.modes("userns")
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_root_of_the_container(launch: Launcher, images: Images, directory: Path, kind: str) -> None:
    written = Written(launch, images, directory, kind, roots=True)
    for options in ([], ["--pid"]):
        launch("exec", "--fakeroot", *options, *written.words, "sh", "-c", "echo x >> /lines").ok()
        written.check_free()
    assert written.content("lines") == b"x\nx\n"


def test_an_image_is_executable_right_after_it_was_written(launch: Launcher, images: Images, directory: Path) -> None:
    box = Written(launch, images, directory, "image")
    for _ in range(5):
        launch("exec", "--writable", box.path, "true").ok()
        assert "Text file busy" not in launch.command(box.path).ok().err


@pytest.mark.parametrize("options", [[], ["--pid"]], ids=" ".join)
@pytest.mark.parametrize(("script", "status"), [("kill -9 $$", 137), ("exit 3", 3), ("nosuchprogram", 127)])
@pytest.mark.modes("userns")
def test_it_is_free_however_the_program_ended(
    launch: Launcher, written: Written, script: str, status: int, options: list[str]
) -> None:
    result = launch("exec", *options, *written.words, "sh", "-c", f"echo x > /made; {script}")
    written.check_free()
    assert result.status in {status, 128 - status}
    assert written.content("made") == b"x\n"


@pytest.mark.modes("userns")
def test_the_signal_that_ends_a_program_does_not_end_the_wait(launch: Launcher, written: Written) -> None:
    """As of a terminal, to all of the group at once."""
    script = "dd if=/dev/zero of=/big bs=64k count=64 2>/dev/null; echo ready; sleep 60"
    for _ in range(2):
        with launch.start(*launch.argv("exec", *written.words, "sh", "-c", script)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=10) == -signal.SIGINT
        written.check_free()


@pytest.mark.modes("userns")
def test_processes_that_the_program_leaves_are_not_waited_for(
    launch: Launcher, written: Written, directory: Path
) -> None:
    """R-B1, and as natively: the image is theirs until they end."""
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    script = f"(read line < {fifo}; echo $line > /late) >/dev/null 2>&1 &"
    launch("exec", "-B", str(directory), *written.words, "sh", "-c", script).ok()
    with pytest.raises(BlockingIOError):
        written.check_free()
    fifo.write_text("late\n")
    written.wait_until_free()
    assert written.content("late") == b"late\n"


@pytest.mark.modes("userns")
def test_a_launcher_that_is_killed_takes_the_program_with_it(launch: Launcher, written: Written) -> None:
    """R-B1: what the program has started itself goes on, as natively; here it has nothing."""
    with launch.start(*launch.argv("exec", *written.words, "sh", "-c", "echo ready; exec sleep 60")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.wait(timeout=10) == -signal.SIGKILL
    written.wait_until_free()
    written.content("nothing")


def overwritten(launch: Launcher, written: Written) -> None:
    over = "echo a-long-line > /over; cat /over; echo b > /over"
    moved = "echo another-long-line > /moved; cp /over /new; mv /new /moved"
    hole = "echo c > /hole; dd if=/over of=/hole bs=1 seek=70000 2>/dev/null"
    launch("exec", *written.words, "sh", "-c", f"{over}; {moved}; {hole}").ok()
    result = launch("exec", *written.words, "sh", "-c", "cat /over /moved; stat -c %s /hole").ok()
    assert result.lines == ["b", "b", "70002"]
    assert [written.content(name) for name in ("over", "moved")] == [b"b\n", b"b\n"]
    assert written.content("hole") == b"c\n".ljust(70000, b"\0") + b"b\n"


def test_what_is_overwritten_keeps_no_end(launch: Launcher, written: Written) -> None:
    overwritten(launch, written)


def test_a_fuse2fs_that_forgets_to_cut_is_made_to(launch: Launcher, written: Written) -> None:
    with fuse2fs.forgetful() as replaced:
        overwritten(launch.changed(replaced=replaced), written)


@pytest.mark.modes("userns")
def test_a_fuse2fs_that_cannot_be_made_to_cut_is_refused(launch: Launcher, written: Written) -> None:
    """Reading goes on."""
    read_only = [f"{word}:ro" if word == written.path else word for word in written.words if word != "-w"]
    with fuse2fs.started_by(fuse2fs.UNLOADED) as replaced:
        behind = launch.changed(replaced=replaced)
        refused = behind("exec", *written.words, "true")
        refused.refused("own.img cannot be written: fuse2fs did not load", "fuse2fs-truncate.so", "install")
        written.wait_until_free()
        behind("exec", *(read_only if "-w" not in written.words else [written.path]), "true").ok()


@pytest.mark.modes("userns")
def test_a_launch_that_only_reads_has_no_process_beside_it(launch: Launcher, images: Images, directory: Path) -> None:
    image = squashfs(images.sandbox, directory / "own.squashfs")
    for words in ([image], [images.image_2x], ["--writable-tmpfs", image]):
        with launch.start(*launch.argv("exec", *words, "sh", "-c", "echo ready; exec sleep 60")) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            # busybox starts its applets through /proc/self/exe, and is called so for a moment
            assert Path(f"/proc/{process.pid}/comm").read_text() in {"sh\n", "exe\n", "sleep\n"}
            process.kill()
