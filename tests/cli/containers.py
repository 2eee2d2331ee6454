"""Changing images as different people type it, and what is in an image in the end, as the kernel sees it."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import machine
import pytest
from images import LAUNCH_LINE, tool
from launching import Result, decode
from ordinary_user import ALICE, ROOT, World, mount, unshare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TIMEOUT = 120.0
MEBIBYTE = 1 << 20
PEOPLE = {
    "root": World(private=False),
    "root-without-loop": World(account=ROOT, replaced={Path("/dev/loop-control"): Path("/dev/null")}),
    "user": World(account=ALICE),
    "user-with-one-id": World(account=replace(ALICE, listed=False)),
    "user-without-fuse": World(account=ALICE, fuse=False),
}


def by_two(fixture: str) -> pytest.MarkDecorator:
    """Where it is all the same who asks: root, and an ordinary user."""
    return pytest.mark.parametrize(fixture, ["root", "user"], indirect=True)


def in_turn(fixture: str, argument: str, cases: Iterable[object]) -> pytest.MarkDecorator:
    """Where it is all the same who asks and there are many cases: each for one person, and all persons in turn."""
    people = itertools.cycle(["root", "user", "user-with-one-id"])
    return pytest.mark.parametrize((fixture, argument), list(zip(people, cases, strict=False)), indirect=[fixture])


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who types `singularity ...`, in a directory of hers with all that she works on."""

    name: str
    world: World
    directory: Path

    @property
    def temporary(self) -> Path:
        return self.directory.parent / "tmp"

    @property
    def is_root(self) -> bool:
        return self.name.startswith("root")

    @property
    def keeps_ids(self) -> bool:
        """Whether all owners of a mounted image have a number for her."""
        return self.name != "user-with-one-id"

    @property
    def ids(self) -> tuple[int, int]:
        account = ROOT if self.is_root else self.world.account
        return account.uid, account.gid

    def argv(self, *words: str | Path, first: Sequence[str] = ()) -> list[str]:
        return [sys.executable, "-I", "-m", "singularity", *first, *map(str, words)]

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        home = str(self.directory.parent / "home")
        base = {"PATH": os.environ["PATH"], "HOME": home, "SHELL": "/bin/sh", "TMPDIR": str(self.temporary)}
        return {**base, "LC_ALL": "C.UTF-8", **env}

    def start(
        self,
        *words: str | Path,
        first: Sequence[str] = (),
        env: Mapping[str, str] = {},
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        redirected: str = "",
    ) -> subprocess.Popen[bytes]:
        """The command running, in a session of its own; `redirected` as a shell has it."""
        shell = ("/bin/sh", "-c", f'exec "$@" {redirected}', "sh") if redirected else ()
        return subprocess.Popen(
            [*shell, *self.argv(*words, first=first)],
            env=self.environment(env),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=replace(self.world, cwd=self.directory).enter,
        )

    def __call__(
        self,
        *words: str | Path,
        first: Sequence[str] = (),
        env: Mapping[str, str] = {},
        stdin: bytes | IO[bytes] | None = None,
    ) -> Result:
        """`singularity WORDS...` to its end."""
        given = subprocess.PIPE if isinstance(stdin, bytes) else stdin or subprocess.DEVNULL
        with self.start(*words, first=first, env=env, stdin=given) as process:
            try:
                out, err = process.communicate(stdin if isinstance(stdin, bytes) else None, timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return decode(process.returncode, self.argv(*words, first=first), out, err)

    def does(self, *words: str | Path, stdin: bytes | IO[bytes] | None = None, **more: Mapping[str, str]) -> Result:
        """The command, which succeeds; what it says besides is not looked at."""
        result = self(*words, stdin=stdin, **more)
        assert result.status == 0, str(result)
        assert "internal fault" not in result.err, str(result)
        return result

    def give(self, *paths: Path) -> None:
        """Makes files hers."""
        for path in paths:
            for each in [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())]:
                os.chown(each, *self.ids, follow_symlinks=False)

    def left(self) -> list[str]:
        """What no command may leave: files in the temporary directory, hidden ones beside images, loop devices."""
        beside = [path.name for path in self.directory.iterdir() if path.name.startswith((".", "singularity-work-"))]
        return [path.name for path in self.temporary.iterdir()] + beside + machine.loops_of(self.directory)


def root_tree(target: Path) -> Path:
    """A small root file system whose owners, modes and times are all different."""
    for name in ("bin", "etc", "opt", "usr/lib"):
        (target / name).mkdir(parents=True)
    (target / "bin/tool").write_bytes(b"tool of the image\n" * 200)
    (target / "etc/settings").write_text("setting=1\n")
    (target / "etc/secret").write_text("secret\n")
    (target / "etc/secret").chmod(0o000)
    (target / "lib").symlink_to("usr/lib")
    (target / "opt/more").hardlink_to(target / "etc/settings")
    os.chown(target / "bin/tool", 1234, 56)
    (target / "bin/tool").chmod(0o4755)
    os.chown(target / "opt", 2000, 2000)
    os.utime(target / "bin/tool", ns=(0, 1_234_567_890_000_000_000))
    return target


def ext3_image(tree: Path, target: Path, *, mebibytes: int = 24, kind: str = "ext3") -> Path:
    """An image of version 2: the interpreter line, and a file system with the tree."""
    plain = target.with_name(f"{target.name}.plain")
    tool("mke2fs", "-q", "-F", "-t", kind, "-d", tree, plain, f"{mebibytes}M")
    with target.open("wb") as file, plain.open("rb") as data:
        file.write(LAUNCH_LINE)
        while block := data.read(1 << 16):
            if block.strip(b"\0"):
                file.write(block)
            else:
                file.seek(len(block), os.SEEK_CUR)
        file.truncate()
    plain.unlink()
    target.chmod(0o755)
    return target


@dataclass(frozen=True, slots=True)
class Found:
    """One file of an image, without its time."""

    kind: str
    mode: int
    uid: int
    gid: int
    content: str


def contents(image: Path) -> dict[str, Found]:
    """What is in an image file or a directory, as the kernel mounts it: path to file. Meant for root."""
    if image.is_dir():
        return dict(_walk(image))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(0x00020000)
            mount("none", "/", flags=1 << 18 | 16384)
            place = image.parent / f"mounted-{image.name}"
            place.mkdir()
            check = subprocess.run(["e2fsck", "-fn", f"{image}?offset=31"], capture_output=True, check=False)
            tool("mount", "-o", "loop,ro,offset=31", image, place)
            with open(write, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(repr((check.returncode, check.stdout.decode()[-500:], dict(_walk(place)))))
            tool("umount", place)
            place.rmdir()
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    os.waitpid(pid, 0)
    status, said, found = eval(text, {"Found": Found})  # noqa: S307 - written a moment ago, by ourselves
    assert status == 0, said
    return dict(found)


def _walk(root: Path) -> list[tuple[str, Found]]:
    found = []
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            status = path.lstat()
            content = ""
            if stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            kind = stat.filemode(status.st_mode)[0]
            name = str(path.relative_to(root))
            if name != "lost+found":
                found.append((name, Found(kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, content)))
    return found


def digest(text: str | bytes) -> str:
    """As `Found.content` has it."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()
