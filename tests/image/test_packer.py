"""Layers packed and merged: the root file systems that the Python half makes of them, as the kernel, unsquashfs and
our own reader see them; and what is not whole, or not what it says, is told in one line.

With EXHAUSTIVE a thousand trees and stacks of each kind are compared, else some dozens.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import pytest
import stacks
from builders import layer as plain
from images import tool
from machine import MISSING
from streams import seen
from trees import CAPABILITY, Seen, look

from singularity.content import digest
from singularity.content.digest import Checked
from singularity.errors import ImageError, ToolError
from singularity.image import contents
from singularity.image.archive import tar, tar_writer
from singularity.image.identify import Format, Partition
from singularity.image.squashfs import packer
from singularity.image.squashfs.packer import Choice, DamagedLayerError, Form, Told
from singularity.image.tree import Entry, Kind, Member, Segment
from singularity.oci import merge
from singularity.oci.image import Image, Layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from singularity.image.tree import Tree

pytestmark = pytest.mark.needs("packer")

MANY = 1000 if os.environ.get("EXHAUSTIVE") else 24
NOTHING = Told(hold=(), hold_links=(), hold_trees=(), show=(), read=())
ZSTD, GZIP = Form(compressor="zstd", level=3), Form(compressor="gzip", level=6)
PREFIXES = (b"user.", b"trusted.", b"security.")
BLOCK = 131072


def pack(archive: bytes, path: Path, form: Form = ZSTD, choice: Choice | None = None, *, name: str = "layer") -> Path:
    """The layer file of a tar archive."""
    source = path.with_name(f"{path.name}.tar")
    source.write_bytes(archive)
    with source.open("rb") as stream, path.open("w+b") as target:
        packer.write_layer(
            stream.fileno(),
            target.fileno(),
            form=form,
            choice=choice or Choice(),
            digest=str(digest.of(archive)),
            limit=1 << 40,
            budget=0,
            name=name,
        )
    return path


def write(archive: IO[bytes], target: IO[bytes], limit: int = 1 << 40) -> None:
    """The same of what cannot be an archive with this digest."""
    packer.write_layer(
        archive.fileno(),
        target.fileno(),
        form=ZSTD,
        choice=Choice(),
        digest=f"sha256:{'0' * 64}",
        limit=limit,
        budget=0,
        name="x",
    )


def join(
    layers: Sequence[Path],
    path: Path,
    form: Form = ZSTD,
    *,
    offset: int = 0,
    told: Told = NOTHING,
    added: Sequence[Entry] = (),
    epoch: int | None = (1 << 32) - 1,
    first: Sequence[str] = (),
    literal: bool = False,
) -> list[tuple[Member, bytes]]:
    """A squashfs file of layer files; what `merge` told."""
    with (
        path.open("wb") as target,
        packer.merging(
            layers, target.fileno(), offset=offset, form=form, told=told, epoch=epoch, scratch=path.parent,
            name="image", first=first, literal=literal,
        ) as merging,
    ):  # fmt: skip
        found = [(entry.member, b"".join(entry.data)) for entry in merging.members()]
        tar_writer.write(iter(added), merging.input)
        merging.finish()
    return found


@contextmanager
def stream(path: Path, offset: int = 0) -> Iterator[Tree]:
    part = Partition(format=Format.SQUASHFS, offset=offset, size=path.stat().st_size - offset)
    with contents.partition(path, part) as tree:
        yield tree


def read(path: Path) -> dict[bytes, Seen]:
    """A squashfs file as our own reader has it."""
    with stream(path) as tree:
        return seen(tree)


def comparable(found: Mapping[bytes, Seen]) -> dict[bytes, Seen]:
    """What squashfs has room for; implied directories are in both."""
    return {
        path: replace(
            each,
            mtime=min(max(each.mtime // 10**9, 0), (1 << 32) - 1),  # as squashfs has it
            mode=0o777 if each.kind == "LINK" else each.mode,
            xattrs={name: value for name, value in each.xattrs.items() if os.fsencode(name).startswith(PREFIXES)},
            size=each.size if each.kind == "FILE" else 0,
        )
        for path, each in found.items()
        if path
    }


def image_of(layers: Sequence[bytes]) -> Image:
    def opened(data: bytes) -> Checked:
        return Checked(io.BytesIO(data), None, "layer")

    made = tuple(
        Layer(name="layer", content=digest.of(data), open=lambda data=data: opened(data))  # type: ignore[misc]
        for data in layers
    )
    return Image(name="image", digest=digest.of(b""), config=None, layers=made)  # type: ignore[arg-type]


def with_parents(found: dict[bytes, Seen]) -> dict[bytes, Seen]:
    """With the directories that nobody speaks of."""
    for path in list(found):
        above = path.rpartition(b"/")[0]
        while above and above not in found:
            found[above] = Seen(kind="DIRECTORY", mode=0o755, uid=0, gid=0, mtime=0)
            above = above.rpartition(b"/")[0]
    return found


def by_python(layers: Sequence[bytes]) -> dict[bytes, Seen] | None:
    """What the Python half makes of layers; None for an error."""
    try:
        return comparable(with_parents(seen(merge.merged(image_of(layers)))))
    except ImageError:
        return None


def by_packer(layers: Sequence[bytes], place: Path, form: Form = ZSTD) -> dict[bytes, Seen] | None:
    """The same by the program."""
    try:
        packed = [pack(data, place / f"layer{number}", form) for number, data in enumerate(layers)]
        join(packed, place / "image", form)
    except ImageError:
        return None
    return comparable(read(place / "image"))


@pytest.mark.parametrize("kind", ["any", "linked"])
def test_stacks_by_chance_are_merged_as_by_the_python_half(tmp_path: Path, kind: str) -> None:
    """Security requirement T6: links on the way, whiteouts in all orders, hard links within and across layers."""
    accepted = 0
    for seed in range(MANY):
        chance = random.Random(seed)  # noqa: S311
        layers = (
            stacks.linked(chance) if kind == "linked" else [stacks.layer(chance) for _ in range(chance.randint(1, 4))]
        )
        wanted = by_python(layers)
        assert by_packer(layers, tmp_path) == wanted, f"seed {seed}"
        accepted += wanted is not None
    assert accepted > MANY // 4


def names(chance: random.Random) -> Iterator[bytes]:
    while True:
        size = chance.choice((1, 2, 8, 20, 255))
        yield bytes(chance.choice(b"abcdefgh\xff\xc3 .\n") for _ in range(size)).replace(b".", b"x")


def content(chance: random.Random, size: int) -> bytes:
    kind = chance.randint(0, 2)
    return (
        bytes(size) if kind == 0 else chance.randbytes(size) if kind == 1 else (b"some text %d\n" % size * size)[:size]
    )


def tree(chance: random.Random) -> list[Entry]:
    """A root file system with all kinds of files."""
    entries, directories, files = [], [b""], []
    used = {b""}
    fresh = names(chance)
    for _ in range(chance.choice((0, 5, 60, 700))):
        above = chance.choice(directories)
        path = above + b"/" + next(fresh) if above else next(fresh)
        if path in used or len(path) > 3000:
            continue
        used.add(path)
        kind = chance.choice((*[Kind.FILE] * 6, *[Kind.DIRECTORY] * 3, *list(Kind)[2:7]))
        member = Member(
            path=path,
            kind=kind,
            mode=chance.randint(0, 0o7777),
            uid=chance.choice((0, 1000, 4294967294)),
            gid=chance.randint(0, 300),
            mtime=chance.choice((0, 1_500_000_000, (1 << 32) - 1)) * 10**9,
            xattrs=attributes(chance)
            if kind in (Kind.FILE, Kind.DIRECTORY)
            else {},  # the kernel has user's there only
        )
        data: bytes = b""
        if kind is Kind.DIRECTORY:
            directories.append(path)
        elif kind is Kind.FILE:
            edge = chance.choice((0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 70000))
            data = content(chance, chance.choice((edge, chance.randint(0, 5000), chance.randint(0, 100))))
            member = replace(member, size=len(data))
            files.append(path)
        elif kind is Kind.LINK:
            member = replace(member, target=chance.choice((b"x", b"/" + b"y" * 300, b"../..")), mode=0o777)
        elif kind is Kind.HARD_LINK:
            if not files:
                continue
            member = Member(path=path, kind=kind, mode=0, target=chance.choice(files))
        elif kind.is_device:
            member = replace(member, device=os.makedev(chance.randint(0, 4095), chance.randint(0, (1 << 20) - 1)))
        entries.append(Entry(member, (data,) if data else ()))
    return entries


def attributes(chance: random.Random) -> dict[bytes, bytes]:
    if chance.randint(0, 5):
        return {}
    known = {
        b"user.a": b"1",
        b"user." + b"n" * 200: bytes(range(256)),
        b"trusted.b": b"",
        b"security.capability": CAPABILITY,
    }
    return {name: known[name] for name in chance.sample(sorted(known), chance.randint(1, 3))}


def archived(entries: Sequence[Entry]) -> bytes:
    out = io.BytesIO()
    tar_writer.write(iter(entries), out)
    return out.getvalue()


def mounted(path: Path, place: Path) -> dict[bytes, Seen]:
    """A squashfs file as the kernel shows it."""
    place.mkdir(exist_ok=True)
    tool("mount", "-o", "loop,ro", path, place)
    try:
        return look(place)
    finally:
        tool("umount", place)


def test_trees_by_chance_arrive_whole(tmp_path: Path) -> None:
    """By our own reader, by unsquashfs, and by the kernel where it may be asked."""
    kernel = not MISSING["loop"] and not MISSING["root"]
    for seed in range(MANY):
        chance = random.Random(seed)  # noqa: S311
        always = Member(path=b"\xffone with an attribute", kind=Kind.DIRECTORY, mode=0o755, xattrs={b"user.z": b"z"})
        data = archived([*tree(chance), Entry(always)])  # without any, the kernel refuses to list them
        form = chance.choice((ZSTD, GZIP))
        wanted = comparable(seen(tar.read(io.BytesIO(data), "x")))
        packed = pack(data, tmp_path / "layer", form)
        join([packed], tmp_path / "image", form)
        assert comparable(read(tmp_path / "image")) == wanted, f"seed {seed}"
        if kernel:
            assert comparable(mounted(tmp_path / "image", tmp_path / "mount")) == wanted, f"seed {seed}"
            if seed % 4 == 0:
                place = tmp_path / f"unpacked-{seed}"
                tool("unsquashfs", "-no-progress", "-quiet", "-dest", place, tmp_path / "image")
                assert comparable(look(place)) == wanted, f"seed {seed}"
                shutil.rmtree(place)


@pytest.mark.needs("root", "loop")
def test_a_large_directory_is_found_by_its_index(tmp_path: Path) -> None:
    wanted = [b"%s%05d" % (b"long-name-" * 8, number) for number in range(20_000)]
    chance = random.Random(1)  # noqa: S311
    entries = [
        Entry(Member(path=b"d/" + name, kind=Kind.FILE, mode=0o644)) for name in chance.sample(wanted, len(wanted))
    ]
    join([pack(archived(entries), tmp_path / "layer")], tmp_path / "image")
    place = tmp_path / "mount"
    place.mkdir()
    tool("mount", "-o", "loop,ro", tmp_path / "image", place)
    try:
        found = os.listdir(os.fsencode(place / "d"))
        assert found == sorted(wanted)
        for name in chance.sample(wanted, 500):
            assert os.stat(os.fsencode(place) + b"/d/" + name).st_size == 0
        assert not os.path.exists(os.fsencode(place) + b"/d/long-name-")
    finally:
        tool("umount", place)


@pytest.mark.needs("root", "loop")
def test_a_sparse_file_of_a_terabyte_takes_no_room_but_its_list_of_blocks(tmp_path: Path) -> None:
    parts = (Segment(offset=1 << 39, size=5), Segment(offset=(1 << 40) - 3, size=3))
    entry = Entry(Member(path=b"f", kind=Kind.FILE, mode=0o600, size=1 << 40, segments=parts), (b"middleEND"[1:],))
    join([pack(archived([entry]), tmp_path / "layer")], tmp_path / "image")
    place = tmp_path / "mount"
    place.mkdir()
    tool("mount", "-o", "loop,ro", tmp_path / "image", place)
    try:
        status = (place / "f").stat()
        assert (status.st_size, status.st_blocks < 1000) == (1 << 40, True)
        with (place / "f").open("rb") as file:
            assert os.pread(file.fileno(), 10, (1 << 39) - 1) == b"\0iddle\0\0\0\0"
            assert os.pread(file.fileno(), 10, (1 << 40) - 5) == b"\0\0END"
    finally:
        tool("umount", place)


def test_the_number_of_threads_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archived(tree(random.Random(3)))  # noqa: S311
    made = []
    for threads in (1, 2, 13):
        monkeypatch.setattr(packer.os, "sched_getaffinity", lambda _, count=threads: range(count))
        packed = [pack(data, tmp_path / "low"), pack(plain(("z", b"z" * 300_000)), tmp_path / "high")]
        join(packed, tmp_path / "image")
        made.append((tmp_path / "image").read_bytes())
    assert made[0] == made[1] == made[2]
    assert len(made[0]) % 4096 == 0


def test_what_is_gone_from_an_image_is_not_in_its_bytes(tmp_path: Path) -> None:
    """Files that are replaced or taken away leave no data; those that are there twice are stored once."""
    secret, kept = os.urandom(3 * BLOCK), os.urandom(4 * BLOCK)
    low = plain(("secret", secret), ("kept", kept), ("again", kept))
    join([pack(low, tmp_path / "low"), pack(plain((".wh.secret", b"")), tmp_path / "high")], tmp_path / "image")
    data = (tmp_path / "image").read_bytes()
    assert secret[:1000] not in data
    assert data.count(kept[:1000]) == 1
    assert len(data) < 5 * BLOCK


def test_what_a_start_reads_is_stored_as_it_is(tmp_path: Path) -> None:
    text = b"easily compressed\n" * 20_000
    data = plain(("lib/libc.so.6", text), ("etc/passwd", b"root:x" * 100), ("usr/lib/other", text))
    choice = Choice(hot=("lib/libc.so.6",), alone=("etc/passwd",))
    join([pack(data, tmp_path / "layer", choice=choice)], tmp_path / "image")
    made = (tmp_path / "image").read_bytes()
    assert made.count(text) == 1
    assert read(tmp_path / "image")[b"usr/lib/other"].digest == read(tmp_path / "image")[b"lib/libc.so.6"].digest


def test_what_a_start_reads_lies_before_all_else(tmp_path: Path) -> None:
    """Of all layers, the lowest first; and once, where another file has the same blocks."""
    parts = {name: os.urandom(BLOCK + 5000) for name in ("low", "libc", "again", "high", "sh")}
    low = plain(("a", parts["low"]), ("lib/libc.so.6", parts["libc"]), ("lib/again", parts["libc"]))
    high = plain(("b", parts["high"]), ("bin/sh", parts["sh"]))
    packed = [pack(low, tmp_path / "low"), pack(high, tmp_path / "high")]
    join(packed, tmp_path / "image", first=("lib/*.so.6", "bin/sh"))
    made = (tmp_path / "image").read_bytes()
    order = sorted((made.index(parts[name][:1000]), name) for name in ("low", "libc", "high", "sh"))
    assert [name for _, name in order] == ["libc", "sh", "low", "high"]
    assert made.count(parts["libc"][:1000]) == 1
    join(packed, tmp_path / "other")
    assert read(tmp_path / "image") == read(tmp_path / "other")


def test_an_archive_of_files_has_no_whiteouts(tmp_path: Path) -> None:
    data = plain(("a/.wh.b", b"one"), ("a/b", b"two"), ("c/.wh..wh..opq", b"three"), ("c/.wh.", b"four"))
    join([pack(data, tmp_path / "layer")], tmp_path / "image", literal=True)
    assert {b"a/.wh.b", b"a/b", b"c/.wh..wh..opq", b"c/.wh."} <= set(read(tmp_path / "image"))


@pytest.mark.parametrize("form", [ZSTD, GZIP], ids=["zstd", "gzip"])
def test_tables_are_compressed(tmp_path: Path, form: Form) -> None:
    """20,000 names take some 40 bytes of inode and 20 of directory each, and come to a quarter of that."""
    data = archived(
        [Entry(Member(path=b"d%d/file-%05d" % (n % 7, n), kind=Kind.FIFO, mode=0o644)) for n in range(20_000)]
    )
    join([pack(data, tmp_path / "layer", form)], tmp_path / "image", form)
    assert (tmp_path / "image").stat().st_size < 20_000 * 15
    assert len(read(tmp_path / "image")) == 20_000 + 7 + 1


def test_a_merge_hands_over_what_a_build_looks_at(tmp_path: Path) -> None:
    """With all its names, and puts what comes back over all layers."""
    data = archived(
        [
            Entry(Member(path=b".singularity.d", kind=Kind.DIRECTORY, mode=0o711, uid=7)),
            Entry(Member(path=b".singularity.d/runscript", kind=Kind.FILE, mode=0o755, size=6), (b"script",)),
            Entry(Member(path=b".singularity.d/large", kind=Kind.FILE, mode=0o600, size=400_000), (b"l" * 400_000,)),
            Entry(Member(path=b"bin/other", kind=Kind.HARD_LINK, mode=0, target=b".singularity.d/runscript")),
            Entry(Member(path=b"environment", kind=Kind.DIRECTORY, mode=0o700)),
            Entry(Member(path=b"environment/file", kind=Kind.FILE, mode=0o600, size=4), (b"file",)),
            Entry(Member(path=b"singularity", kind=Kind.LINK, mode=0o777, target=b"x")),
            Entry(Member(path=b"etc/localtime", kind=Kind.LINK, mode=0o777, target=b"/usr/share/zoneinfo/UTC")),
            Entry(Member(path=b"usr/share/zoneinfo/UTC", kind=Kind.FILE, mode=0o644, size=3), (b"UTC",)),
        ]
    )
    told = Told(
        hold=("singularity", "environment"),
        hold_links=("etc/localtime",),
        hold_trees=(".singularity.d",),
        show=("*",),
        read=("usr/share/zoneinfo",),
    )
    added = [Entry(Member(path=b"singularity", kind=Kind.FILE, mode=0o755, size=3), (b"new",))]
    found = {
        member.path: (member, data)
        for member, data in join([pack(data, tmp_path / "layer")], tmp_path / "image", told=told, added=added)
    }
    assert found[b".singularity.d"][0].uid == 7
    assert found[b".singularity.d/runscript"][1] == b"script"
    assert found[b".singularity.d/large"][1] == b"l" * 400_000
    assert (found[b"bin/other"][0].kind, found[b"bin/other"][0].target) == (Kind.HARD_LINK, b".singularity.d/runscript")
    assert found[b"singularity"][0].target == b"x"
    assert found[b"environment"][0].kind is Kind.DIRECTORY
    assert found[b"usr/share/zoneinfo/UTC"][1] == b"UTC"
    assert b"environment/file" not in found
    assert set(read(tmp_path / "image")) - {b""} == {
        *(b".singularity.d", b"bin", b"environment", b"environment/file", b"etc", b"singularity"),
        *(b"usr", b"usr/share", b"usr/share/zoneinfo", b"usr/share/zoneinfo/UTC"),
    }
    assert read(tmp_path / "image")[b"singularity"].kind == "FILE"


# ---- archives of strangers -------------------------------------------------------------------------------------------
def mutated(chance: random.Random, data: bytes) -> bytes:
    """An archive with some bytes changed, mostly in headers; their checksums are right again, mostly."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        block = chance.randrange(max(len(changed) // 512, 1)) * 512
        at = block + chance.choice(
            (chance.randrange(512), chance.choice((0, 100, 108, 124, 130, 136, 156, 157, 257, 345, 482)))
        )
        if at >= len(changed):
            continue
        changed[at] = chance.choice((0, 0x80, 0xFF, *b"01579AaxgLKSD=/ \n", chance.randrange(256)))
        if chance.randint(0, 9) and block + 512 <= len(changed):
            changed[block + 148 : block + 156] = b" " * 8
            changed[block + 148 : block + 156] = b"%06o\0 " % sum(changed[block : block + 512])
    return bytes(changed[: chance.randint(0, len(changed))] if not chance.randint(0, 9) else changed)


def strange(chance: random.Random) -> bytes:
    """An archive with every kind of header."""
    out = io.BytesIO()
    form = chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    shared = {"mtime": "1234.5", "SCHILY.xattr.user.g": "all"} if chance.randint(0, 1) else {}
    with tarfile.open(
        fileobj=out, mode="w", format=form, pax_headers=shared if form == tarfile.PAX_FORMAT else None
    ) as archive:
        for number in range(chance.randint(1, 4)):
            info = tarfile.TarInfo(
                chance.choice(("a", "./b/", "n" * 180, f"d/{number}", "/abs", "x" * 90 + "/" + "y" * 60))
            )
            info.type = chance.choice(
                (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
            )
            info.uid, info.mtime = (
                chance.choice((0, 77, 1 << 30)),
                chance.choice((0, 10**9, -5 if form == tarfile.GNU_FORMAT else 5)),
            )
            info.linkname = chance.choice(("a", "t" * 150))
            info.size = chance.choice((0, 5, 600)) if info.isreg() else 0
            if form == tarfile.PAX_FORMAT and chance.randint(0, 1):
                info.pax_headers = chance.choice(
                    (
                        {"SCHILY.xattr.user.a%3Db": "1", "LIBARCHIVE.xattr.user.c%20d": "AAEC"},
                        {"SCHILY.xattr.user.singularity.owner": "0 0 b 8 0", "SCHILY.xattr.user.e": "2"},
                        {"SCHILY.acl.access": "user::rw-,user:joe:r--:1000,group::r--,mask::rw-,other::---"},
                        {"SCHILY.acl.default": "user::rwx\nuser:joe:r--\ngroup::r-x#no\nother::---"},
                        {"mtime": "-77.25", "uid": "4294967294", "path": "from/records", "linkpath": "to/records"},
                        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "3000"},
                        {"GNU.sparse.map": "0,5", "GNU.sparse.size": "700", "GNU.sparse.name": "sparse"},
                        {"comment": "nothing", "hdrcharset": "BINARY"},
                    )
                )
            data = b"1\n5\n0\n" + bytes(594) if info.size == 600 else b"12345"
            archive.addfile(info, io.BytesIO(data[: info.size]))
    return out.getvalue()


def test_archives_are_read_and_refused_as_by_the_python_half(tmp_path: Path) -> None:
    """Each member of archives with changed bytes: `packer/tar.c` says of it what `image/archive/tar.py` says."""
    accepted = refused = 0
    for seed in range(MANY * 4):
        chance = random.Random(seed)  # noqa: S311
        data = strange(chance) if seed % 4 == 0 else mutated(chance, strange(chance))
        wanted = by_python([data])
        assert by_packer([data], tmp_path) == wanted, f"seed {seed}"
        accepted += wanted is not None
        refused += wanted is None
    assert accepted > MANY // 2
    assert refused > MANY // 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no archive" * 100, "checksum is no number"),
        (plain(("x", b"y" * 5000))[:3000], "ends in the middle"),
        (plain(("../x", b"")), 'a name with ".." leads out'),
        (plain(("x", b"")).replace(b"x\0", b"\0\0", 1), "wrong checksum"),
        (tar_writer.header(b"x", b"", type_=b"x", size=512) + b"9999999 path=y\n".ljust(512, b"\0"), "make no sense"),
    ],
)
def test_a_bad_archive_is_one_line_with_the_name_of_the_layer(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as error:
        pack(data, tmp_path / "layer", name="some layer")
    assert str(error.value).startswith("some layer: ")
    assert "\n" not in str(error.value)


def test_another_digest_than_said_is_an_error(tmp_path: Path) -> None:
    """Security requirement N2."""
    source = tmp_path / "x.tar"
    source.write_bytes(plain(("x", b"y")))
    with (
        source.open("rb") as archive,
        (tmp_path / "layer").open("wb") as target,
        pytest.raises(ImageError, match="its content is not what"),
    ):
        write(archive, target)


def test_more_owners_than_squashfs_has_room_for_are_an_error(tmp_path: Path) -> None:
    entries = [Entry(Member(path=b"%d" % number, kind=Kind.FILE, mode=0, uid=number)) for number in range(66_000)]
    packed = pack(archived(entries), tmp_path / "layer")
    with pytest.raises(ImageError, match="more than 65535 owners"):
        join([packed], tmp_path / "image")


def test_an_archive_of_zeros_ends_where_it_may_not_be_longer(tmp_path: Path) -> None:
    with (
        open("/dev/zero", "rb") as archive,
        (tmp_path / "layer").open("wb") as target,
        pytest.raises(ImageError, match="more than 1000000 bytes"),
    ):
        write(archive, target, limit=10**6)


# ---- files that are not whole ----------------------------------------------------------------------------------------
def test_a_changed_byte_of_a_layer_file_is_noticed(tmp_path: Path) -> None:
    packed = pack(archived(tree(random.Random(3))), tmp_path / "layer")  # noqa: S311
    whole = packed.read_bytes()
    chance = random.Random(5)  # noqa: S311
    places = [0, 40, 66, 81, 89, 4096, len(whole) - 1, *(chance.randrange(4096, len(whole)) for _ in range(20))]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 0x10
        packed.write_bytes(changed)
        with pytest.raises(DamagedLayerError, match="layer: damaged"):
            join([packed], tmp_path / "image")
    for size in (0, 100, 4096, len(whole) - 1):
        packed.write_bytes(whole[:size])
        with pytest.raises(DamagedLayerError, match="layer: damaged"):
            join([packed], tmp_path / "image")


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    source = tmp_path / "x.tar"
    source.write_bytes(plain(("x", os.urandom(BLOCK))))
    with (
        source.open("rb") as archive,
        open("/dev/full", "wb", buffering=0) as target,
        pytest.raises(ToolError, match="No space left"),
    ):
        write(archive, target)
