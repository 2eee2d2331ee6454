"""ext3 images made from streams: as the kernel sees them, the same for everybody, and never half done."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import machine
import pytest
import streams
from hypothesis import given, settings
from hypothesis import strategies as st
from images import tool
from ordinary_user import ALICE, World
from trees import directory, file, fill, hard_link, link, look, member

from singularity import files
from singularity.errors import FileError, ImageError
from singularity.image import directory as directories
from singularity.image.archive import tar_writer
from singularity.image.ext import make as make_ext
from singularity.image.ext import reader as ext_reader
from singularity.image.tree import Entry, Kind, Segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


OFFSET, MEBIBYTE = 31, 1 << 20
EPOCH = 1_600_000_000
NOBODY = World(account=ALICE, user_namespaces=False, fuse=False)
MAKE = """
import os, sys
from pathlib import Path
from singularity.image.archive import reader
from singularity.image.ext import make as make_ext
size = int(sys.argv[3]) or None
with reader.opened(Path(sys.argv[1])) as tree:
    fd = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o755)
    make_ext.make(tree, fd, size=size, epoch=int(sys.argv[4]))
"""


def made(path: Path, tree: Iterator[Entry] | Sequence[Entry], **options: object) -> Path:
    """The image that is made of a stream, which e2fsck must like."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o755)
    try:
        make_ext.make(iter(tree), fd, **options)  # type: ignore[arg-type]
    finally:
        os.close(fd)
    assert streams.is_clean(path, 0 if options.get("line") is False else OFFSET)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything in it."""
    machine.require("root", "mke2fs")
    root = tmp_path_factory.mktemp("source")
    fill(root, privileged=True)
    for number in range(400):
        (root / "many" / f"file {number}").parent.mkdir(exist_ok=True)
        (root / "many" / f"file {number}").write_bytes(b"x" * number * 7)
    return root


@pytest.mark.needs("root", "loop", "mke2fs")
@pytest.mark.parametrize("options", [{"size": 200 * MEBIBYTE}, {"size": 64 * MEBIBYTE, "line": False}, {}], ids=str)
def test_the_kernel_shows_all_that_was_in_the_stream(options: dict[str, int], source: Path, tmp_path: Path) -> None:
    image = made(tmp_path / "image", directories.read(source), **options)
    offset = 0 if options.get("line") is False else OFFSET
    expected = look(source)
    assert streams.ext(image, offset) == expected
    with streams.mounted(image, "ext3", "ro", f"offset={offset}") as root:
        shown = look(root)
    del shown[b"lost+found"]
    assert shown == expected
    assert image.read_bytes()[:offset] == b"#!/usr/bin/env run-singularity\n"[:offset]
    if "size" in options:
        assert image.stat().st_size == offset + options["size"]
    assert image.stat().st_blocks * 512 < 40 * MEBIBYTE


@pytest.mark.needs("root", "mke2fs")
@pytest.mark.parametrize("size", [0, 96 * MEBIBYTE])
def test_an_ordinary_user_makes_the_image_that_root_makes(size: int, source: Path, storage: Path) -> None:
    """Without user namespaces and without FUSE; every byte is the same, owners and devices too."""
    place = storage / f"made-{size}"
    place.mkdir()
    place.chmod(0o777)
    with (place / "source.tar").open("wb") as out:
        tar_writer.write(directories.read(source), out)
    for name, world in (("root", None), ("user", NOBODY)):
        argv = [sys.executable, "-c", MAKE, place / "source.tar", place / name, str(size), str(EPOCH)]
        checkout = str(machine.CHECKOUT)
        done = subprocess.run(
            argv,
            env={**os.environ, "PYTHONPATH": checkout, "PYTHONDONTWRITEBYTECODE": "1"},
            preexec_fn=world.enter if world else None,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (place / "user").stat().st_uid == ALICE.uid
    expected = look(source)
    del expected[b"etc/socket"]  # which an archive cannot hold
    assert streams.ext(place / "user", OFFSET) == expected
    assert digest(place / "user") == digest(place / "root")
    assert streams.is_clean(place / "user", OFFSET)


def digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


TREE = (
    directory(b"", 0o755, mtime=5),
    directory(b"etc", mtime=10**18),
    file(b"etc/passwd", b"root" * 3000, uid=7, gid=70_000, xattrs={b"user.long": b"v" * 500}),
    hard_link(b"etc/again", b"etc/passwd"),
    link(b"etc/link", b"x" * 100),
    Entry(member(b"null", Kind.CHARACTER_DEVICE, device=os.makedev(1, 3))),
)


@pytest.mark.needs("mke2fs")
@pytest.mark.parametrize("options", [{}, {"size": 32 * MEBIBYTE}, {"size": 4 * MEBIBYTE}], ids=str)
def test_the_same_stream_gives_the_same_bytes(options: dict[str, int], tmp_path: Path) -> None:
    one = made(tmp_path / "one", TREE, epoch=EPOCH, label="name", **options)
    time.sleep(1.1)
    (tmp_path / "elsewhere").mkdir()
    other = made(tmp_path / "elsewhere" / "two", TREE, epoch=EPOCH, label="name", **options)
    assert digest(one) == digest(other)
    assert digest(made(tmp_path / "three", TREE, epoch=EPOCH + 1, label="name", **options)) != digest(one)


@pytest.mark.needs("mke2fs")
def test_it_grows_with_what_comes(tmp_path: Path) -> None:
    """Both ways: by data, and by the number of files."""
    piece = b"data" * (1 << 18)

    def tree() -> Iterator[Entry]:
        yield Entry(member(b"large", size=400 * len(piece)), (piece for _ in range(400)))
        for number in range(30_000):
            yield file(b"d%d/n%d" % (number % 10, number))
        yield hard_link(b"z", b"large")

    image = made(tmp_path / "image", tree())
    with image.open("rb") as opened:
        names = 0
        for entry in ext_reader.read(opened, OFFSET, image.stat().st_size - OFFSET):
            names += 1
            if entry.member.path == b"large":
                assert all(data.strip(b"dat") == b"" for data in entry.data)
    assert names == 30_000 + 10 + 3
    assert 464 * MEBIBYTE < image.stat().st_size < 700 * MEBIBYTE


@pytest.mark.needs("mke2fs")
@pytest.mark.parametrize("kind", ["data", "files"])
def test_too_small_a_size_is_one_line_that_says_what_is_needed(kind: str, tmp_path: Path) -> None:
    def tree() -> Iterator[Entry]:
        for number in range(90 if kind == "data" else 20_000):
            yield file(b"n%d" % number, b"x" * (MEBIBYTE if kind == "data" else 0))

    with pytest.raises(ImageError, match=r"^the content needs about \d+ MiB and the image has 20 MiB \(") as caught:
        made(tmp_path / "image", tree(), size=20 * MEBIBYTE)
    needed = int(str(caught.value).split("about ")[1].split()[0])
    assert needed < 250
    made(tmp_path / "image", tree(), size=needed * MEBIBYTE)


@pytest.mark.needs("root", "mke2fs")
def test_a_full_disk_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    """R-F4."""
    disk = tmp_path / "disk"
    disk.mkdir()
    tool("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk)
    try:
        with (
            pytest.raises(FileError, match="image: No space left on device"),
            files.replacing(disk / "image", overwrite=False) as new,
        ):
            make_ext.make(iter([file(b"large", b"x" * (40 * MEBIBYTE))]), new.fd, size=128 * MEBIBYTE)
        assert list(disk.iterdir()) == []
    finally:
        tool("umount", disk)


@pytest.mark.needs("mke2fs")
@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ([Entry(member(b"a", size=5), (b"abc",))], "/a: its data ends early"),
        ([Entry(member(b"a", size=2), (b"abc",))], "/a: more data than its 2 bytes"),
        ([hard_link(b"a", b"none")], "/a: a hard link to /none, which is no file"),
        ([directory(b"d"), hard_link(b"a", b"d")], "/a: a hard link to /d, which is no file"),
        ([file(b"a", b"1"), file(b"a/b", b"2")], "/a: no directory, though another member"),
        ([link(b"a", b"x" * 4096)], "/a: a link of 4096 bytes"),
        ([file(b"a", xattrs={b"user.a": b"v" * 5000})], "/a: 5000 bytes of extended attributes"),
        ([Entry(member(b"a", size=1 << 42))], "too large for ext3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_place_in_ext3_is_refused(tree: list[Entry], words: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=words):
        made(tmp_path / "image", tree, size=32 * MEBIBYTE)


@pytest.mark.needs("mke2fs")
def test_times_and_attributes_without_room_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    far = file(b"far", mtime=(1 << 36) * 10**9, xattrs={b"user.kept": b"1"})
    early = file(b"early", mtime=-(1 << 33) * 10**9)
    image = made(tmp_path / "image", [far, early], size=16 * MEBIBYTE)
    found = streams.ext(image, OFFSET)
    assert found[b"far"].mtime == ((1 << 34) - (1 << 31) - 1) * 10**9
    assert found[b"early"].mtime == -(1 << 31) * 10**9
    assert found[b"far"].xattrs == {"user.kept": b"1"}
    assert caplog.messages == [
        "2 files have times that ext3 has no room for: the nearest that it has is taken",
    ]


@pytest.mark.needs("mke2fs")
def test_links_have_the_mode_that_the_kernel_gives_them(tmp_path: Path) -> None:
    """Some archives have others, which nothing looks at and `ls` shows."""
    image = made(tmp_path / "image", [Entry(member(b"a", Kind.LINK, 0o644, target=b"b"))], size=16 * MEBIBYTE)
    assert streams.ext(image, OFFSET)[b"a"].mode == 0o777


@pytest.mark.needs("mke2fs")
def test_holes_of_any_shape_are_kept(tmp_path: Path) -> None:
    """An archive's holes need not begin where a block does."""
    parts = ((100, b"a" * 10), (5000, b"b" * 3000), (8000, b"c" * 192), (3_000_001, b"d" * 9000), (1 << 33, b"e"))
    segments = tuple(Segment(offset=at, size=len(data)) for at, data in parts)
    entry = Entry(
        member(b"holes", size=(1 << 33) + 5000, segments=segments), (data[:7] for _, data in parts for _ in (0,))
    )
    pieces = [data[at : at + 1111] for _, data in parts for at in range(0, len(data), 1111)]
    image = made(tmp_path / "image", [Entry(entry.member, pieces)], size=32 * MEBIBYTE)
    with image.open("rb") as opened:
        (_, found) = ext_reader.read(opened, OFFSET, image.stat().st_size - OFFSET)
        content = {}
        data = b"".join(found.data)
        for each in found.member.segments or ():
            content[each.offset], data = data[: each.size], data[each.size :]
    assert found.member.size == (1 << 33) + 5000
    assert sum(map(len, content.values())) < 40_000
    for at, expected in parts:
        start = max(offset for offset in content if offset <= at)
        assert content[start][at - start : at - start + len(expected)] == expected
    assert sum(value.count(b"\0") for value in content.values()) == sum(map(len, content.values())) - sum(
        len(data) for _, data in parts
    )


# ---- adding to what is there ----

NAMES = (b"a", b"b", b"d", b"d/a", b"d/e", b"d/e/f", b"x" * 200)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Members as an archive may have them, that replace each other too."""
    found: list[Entry] = []
    for _ in range(draw(st.integers(1, 25))):
        path = draw(st.sampled_from(NAMES))
        kind = draw(st.sampled_from(["file", "directory", "link", "hard", "fifo"]))
        if kind == "file":
            size = draw(st.sampled_from([0, 1, 4096, 20_000, 300_000]))
            attributes = {b"user.n": b"v" * draw(st.sampled_from([1, 600]))} if draw(st.booleans()) else {}
            found.append(file(path, b"z" * size, mtime=draw(st.integers(-(10**18), 10**19)), xattrs=attributes))
        elif kind == "directory":
            found.append(directory(path, draw(st.sampled_from([0o700, 0o3777]))))
        elif kind == "link":
            found.append(link(path, b"t" * draw(st.sampled_from([1, 59, 60, 900]))))
        elif kind == "fifo":
            found.append(Entry(member(path, Kind.FIFO, 0o600)))
        else:
            found.append(hard_link(path, draw(st.sampled_from(NAMES))))
    return found


class Model:
    """What members leave that replace each other: the kind of each path."""

    def __init__(self) -> None:
        self.there: dict[bytes, Kind] = {}

    def add(self, entry: Entry) -> bool:
        """Takes a member; False, and nothing changes, for one that is refused.

        That is a hard link to what is no file or will be gone, and what lies in neither a directory nor a link.
        """
        path, kind, target = entry.member.path, entry.member.kind, entry.member.target
        above = path.rpartition(b"/")[0]
        if kind is Kind.HARD_LINK:
            kind = self.there.get(target, Kind.DIRECTORY)
            gone = (target + b"/").startswith(path + b"/") and target != path
            in_the_way = above == target or above.startswith(target + b"/")
            if kind is Kind.DIRECTORY or gone or in_the_way:
                return False
        parents = (above.rpartition(b"/")[0], above)
        if any(self.there.get(each, Kind.LINK) not in (Kind.DIRECTORY, Kind.LINK) for each in parents):
            return False
        for parent in parents:
            if parent and self.there.get(parent) is not Kind.DIRECTORY:
                self.remove(parent)
                self.there[parent] = Kind.DIRECTORY
        if kind is not Kind.DIRECTORY or self.there.get(path) is not Kind.DIRECTORY:
            self.remove(path)
        self.there[path] = kind
        return True

    def remove(self, path: bytes) -> None:
        for name in [name for name in self.there if name == path or name.startswith(path + b"/")]:
            del self.there[name]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine.require("mke2fs")
    path = tmp_path_factory.mktemp("empty") / "image"
    with path.open("w+b") as opened:
        make_ext.make_empty(opened.fileno(), 8 * MEBIBYTE, purpose="test")
    return path


@settings(max_examples=40)
@given(parts=st.lists(entries(), min_size=1, max_size=3))
def test_whatever_replaces_whatever_the_file_system_is_whole(empty: Path, parts: list[list[Entry]]) -> None:
    image = empty.with_name("changed")
    image.write_bytes(empty.read_bytes())
    model, done = Model(), list[Entry]()
    for part in parts:
        possible = [each for each in part if model.add(each)]
        done += possible
        with image.open("r+b") as opened:
            make_ext.add(iter(possible), opened.fileno(), OFFSET, 8 * MEBIBYTE)
        assert streams.is_clean(image, OFFSET)
    found = streams.ext(image, OFFSET)
    assert {path: seen.kind for path, seen in found.items() if path} == {
        path: kind.name for path, kind in model.there.items()
    }
    last = {each.member.path: each.member for each in done}
    for path, seen in found.items():
        member = last.get(path)
        if member and member.kind is Kind.FILE and seen.kind == "FILE" and not seen.names:
            assert (seen.size, seen.mtime) == (member.size, member.mtime)


@pytest.mark.needs("root", "loop", "mke2fs")
def test_an_image_that_the_kernel_wrote_to_is_added_to(tmp_path: Path) -> None:
    """Its directories have an index, and its files share blocks of attributes."""
    written, image = tmp_path / "written", tmp_path / "image"
    with written.open("w+b") as opened:
        make_ext.make_empty(opened.fileno(), 64 * MEBIBYTE, line=False, purpose="test")
    with streams.mounted(written, "ext3") as root:
        (root / "large").mkdir()
        for number in range(3000):
            path = root / "large" / f"a name that is long enough to need several blocks {number}"
            path.write_text(str(number))
            if number < 50:
                os.setxattr(path, "user.shared", b"v" * 500)
        (root / "large" / "directory").mkdir()
        (root / "large" / "directory" / "file").write_bytes(b"x" * 3_000_000)
        expected = look(root)
    shutil.copy(written, image)  # another namespace may keep it mounted
    assert subprocess.run(["e2fsck", "-fy", image], capture_output=True, check=False).returncode in (0, 1)
    name = b"large/a name that is long enough to need several blocks %d"
    added = [
        file(name % 7, b"new"),
        file(name % 2999, b"new too"),
        file(b"large/directory", b"now a file"),
        *(file(b"large/one more %d" % number) for number in range(500)),
    ]
    with image.open("r+b") as opened:
        make_ext.add(iter(added), opened.fileno(), 0, 64 * MEBIBYTE)
    assert streams.is_clean(image)
    with streams.mounted(image, "ext3", "ro") as root:
        shown = look(root)
        assert (root / os.fsdecode(name % 7)).read_bytes() == b"new"
        assert (root / "large" / "directory").read_bytes() == b"now a file"
    changed = {each.member.path for each in added} | {b"large", b"large/directory/file"}
    assert {path: seen for path, seen in shown.items() if path not in changed} == {
        path: seen for path, seen in expected.items() if path not in changed
    }
    assert set(shown) == (set(expected) | changed) - {b"large/directory/file"}


@pytest.mark.needs("mke2fs")
@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("ext4", "", "only ext2 and ext3 can be written to"),
        ("ext3", "set_super_value state 2", "has errors, or is in use"),
        ("ext3", "feature needs_recovery", "was not unmounted"),
    ],
)
def test_what_cannot_be_added_to_is_refused(kind: str, change: str, words: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    tool("mke2fs", "-q", "-F", "-t", kind, image, "16M")
    if change:
        tool("debugfs", "-w", "-R", change, image)
    before = digest(image)
    with image.open("r+b") as opened, pytest.raises(ImageError, match=words):
        make_ext.add(iter([file(b"a")]), opened.fileno(), 0, 16 * MEBIBYTE)
    assert digest(image) == before


def test_an_image_that_is_half_done_says_so(tmp_path: Path) -> None:
    """e2fsck mends it, and nobody adds to it before."""
    machine.require("mke2fs")
    image = tmp_path / "image"
    with image.open("w+b") as opened:
        make_ext.make_empty(opened.fileno(), 16 * MEBIBYTE, line=False, purpose="test")

        def tree() -> Iterator[Entry]:
            yield file(b"one", b"1" * 50_000)
            raise ImageError("the archive ends early")

        with pytest.raises(ImageError, match="the archive ends early"):
            make_ext.add(tree(), opened.fileno(), 0, 16 * MEBIBYTE)
        with pytest.raises(ImageError, match="has errors, or is in use"):
            make_ext.add(iter(()), opened.fileno(), 0, 16 * MEBIBYTE)
    assert subprocess.run(["e2fsck", "-fy", image], capture_output=True, check=False).returncode in (0, 1)
    assert streams.is_clean(image)
