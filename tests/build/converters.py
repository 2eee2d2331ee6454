"""Who converts images, and what must be in an image whatever its format."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ordinary_user import ALICE, World

from singularity.image import contents
from singularity.image.identify import identify
from singularity.image.tree import Kind, Segment

CONVERSIONS = Path(__file__).with_name("conversions.py")
PEOPLE = {
    "root": World(private=False),
    "user": World(account=ALICE),
    "user-without-namespaces": World(account=ALICE, user_namespaces=False),
}
SECOND = 10**9
OWN = (b".singularity.d", b"singularity", b"environment", b".run", b".exec", b".test", b".shell")
MADE = (b"dev", b"proc", b"root", b"var", b"tmp", b"etc", b"sys", b"home", b"mnt")


@dataclass(frozen=True)
class Seen:
    """What of a file must arrive everywhere; times in seconds, data as it is read."""

    kind: Kind
    mode: int
    owner: tuple[int, int]
    time: int
    device: int
    target: bytes
    digest: str
    xattrs: tuple[tuple[bytes, bytes], ...]


def look(image: Path) -> dict[bytes, Seen]:
    """All files of an image, as our readers see them; other names of a file are told by its content."""
    found: dict[bytes, Seen] = {}
    with contents.tree(identify(image)) as tree:
        for entry in tree:
            member = entry.member
            data = bytearray(member.size)
            pieces = b"".join(entry.data)
            for segment in member.segments if member.segments is not None else (Segment(offset=0, size=len(pieces)),):
                data[segment.offset : segment.offset + segment.size] = pieces[: segment.size]
                pieces = pieces[segment.size :]
            if member.kind is Kind.HARD_LINK:
                found[member.path] = found[member.target]
                continue
            found[member.path] = Seen(
                kind=member.kind,
                mode=member.mode,
                owner=(member.uid, member.gid),
                time=member.mtime // SECOND,
                device=member.device,
                target=member.target,
                digest=hashlib.sha256(data).hexdigest() if member.kind is Kind.FILE else "",
                xattrs=tuple(sorted((k, v) for k, v in member.xattrs.items() if k.startswith(b"user."))),
            )
    return found


@dataclass(frozen=True)
class Converter:
    """Somebody who converts images, in a directory of hers."""

    name: str
    directory: Path

    def __call__(self, source: Path | str, target: str, form: str, *options: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-I", CONVERSIONS, source, self.directory / target, form, *options]
        return subprocess.run(
            argv,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(self.directory / "tmp"), "HOME": str(self.directory)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            preexec_fn=replace(PEOPLE[self.name], cwd=self.directory).enter,
        )

    def does(self, source: Path | str, target: str, form: str, *options: str) -> Path:
        done = self(source, target, form, *options)
        assert done.returncode == 0, done.stderr
        assert list((self.directory / "tmp").iterdir()) == []
        return self.directory / target


def converter(storage: Path, tmp_path: Path, name: str) -> Converter:
    directory = storage / tmp_path.name / name
    (directory / "tmp").mkdir(parents=True)
    uid = 0 if name == "root" else ALICE.uid
    for path in (directory, directory / "tmp"):
        os.chown(path, uid, uid)
    return Converter(name, directory)


def differences(found: dict[bytes, Seen], wanted: dict[bytes, Seen]) -> list[str]:
    """What is missing or other than it should be; a directory's time changes when something is put into it."""
    problems = []
    for path, seen in wanted.items():
        now = found.get(path)
        if now is not None and seen.kind is Kind.DIRECTORY:
            now = replace(now, time=seen.time)
        if now != seen:
            problems.append(f"{path!r}: {now} instead of {seen}")
    added = [path for path in found if path not in wanted and path.split(b"/")[0] not in OWN + MADE]
    return problems + [f"{path!r}: not there before" for path in added]
