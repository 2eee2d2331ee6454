"""R-P5, R-I7: any bytes give a tree or an ImageError, in bounded time; nothing else leaves the readers of archives."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from singularity.errors import FileError, ImageError
from singularity.image.archive import cpio, tar, tar_writer
from singularity.image.archive import pax as pax_records
from singularity.image.archive import reader as archive
from singularity.image.archive.policy import Parents, Policy
from singularity.image.archive.unpack import unpack
from singularity.image.tree import Entry, Kind, Member, Segment, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))
SECONDS = 5.0  # of this process
BOUNDED = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    logger = logging.getLogger("singularity")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


def check(tree: Tree) -> list[Entry]:
    """The property, and what every member promises."""
    started = time.process_time()
    found = []
    try:
        for entry in tree:
            found.append(Entry(entry.member, tuple(entry.data)))
            _promised(entry.member, sum(map(len, found[-1].data)))
    except ImageError as error:
        assert "\n" not in str(error).replace(os.linesep, "\n").strip() or "\\n" in repr(error)
    assert time.process_time() - started < SECONDS
    return found


def _promised(member: Member, size: int) -> None:
    parts = member.path.split(b"/") if member.path else []
    assert not {b"", b".", b".."} & set(parts)
    assert b"\0" not in member.path
    assert member.path or member.kind is Kind.DIRECTORY
    assert 0 <= member.mode <= 0o7777
    assert 0 <= member.uid < 0xFFFFFFFF > member.gid >= 0
    assert (member.size == 0 and size == 0) or member.kind is Kind.FILE
    if member.segments is not None:
        ends = [0, *(each.offset + each.size for each in member.segments)]
        assert all(start.offset >= end and start.size > 0 for start, end in zip(member.segments, ends, strict=False))
        assert ends[-1] <= member.size
    assert size == tar_writer.stored_size(member) if member.kind is Kind.FILE else True
    assert bool(member.target) == (member.kind in (Kind.LINK, Kind.HARD_LINK))


def samples() -> list[bytes]:
    """Archives with everything in them, to be damaged."""
    segments = (Segment(offset=512, size=3), Segment(offset=4096, size=7))
    entries = [
        trees.directory(b"d", 0o1777, xattrs={b"user.a": b"b", b"system.posix_acl_default": trees.ACL}),
        trees.file(b"d/f", b"data", mtime=-1, uid=1 << 22),
        trees.file(b"long/" * 60 + b"f", b"x" * 600),
        trees.link(b"d/l", b"t" * 120),
        trees.hard_link(b"d/h", b"d/f"),
        Entry(trees.member(b"s", size=9999, segments=segments), (b"0123456789",)),
        Entry(trees.member(b"c", Kind.CHARACTER_DEVICE, device=os.makedev(1, 3))),
        Entry(trees.member(b"p", Kind.FIFO)),
    ]
    return [trees.archive(*entries), *_of_programs()]


def _of_programs() -> list[bytes]:
    found = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / ("n" * 150)).write_text("x")
        (root / "l").symlink_to("m" * 150)
        os.link(root / ("n" * 150), root / "h")
        trees._sparse(
            root / "s", ((4096, b"x"), (8192, b"y"), (16384, b"z"), (32768, b"a"), (65536, b"b"), (131072, b"c"))
        )
        for options in (["--format=gnu", "-S"], ["--format=posix", "-S", "--sparse-version=0.0"], ["--format=v7"]):
            argv = ["tar", *options, "-C", name, "-cf", "-", "."]
            found.append(subprocess.run(argv, capture_output=True, check=False).stdout.rstrip(b"\0") + bytes(1024))
        names = b"".join(os.fsencode(each) + b"\n" for each in sorted(os.listdir(root)))
        for form in ("newc", "crc", "odc", "bin"):
            argv = ["cpio", "--quiet", "-o", "-H", form]
            try:
                found.append(subprocess.run(argv, cwd=name, input=names, capture_output=True, check=False).stdout)
            except FileNotFoundError:
                break
    return [each[:200_000] for each in found]


SAMPLES = samples()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An archive with bytes changed, blocks moved, and a right checksum where that would hide the rest."""
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["bytes", "field", "cut", "repeat", "swap"]))
        if what == "bytes":
            piece = draw(st.binary(max_size=16))
            data[at : at + len(piece)] = piece
        elif what == "field":
            block = at // 512 * 512
            offset, size = draw(
                st.sampled_from(
                    [
                        (0, 100),
                        (100, 8),
                        (108, 8),
                        (124, 12),
                        (136, 12),
                        (156, 1),
                        (157, 100),
                        (257, 8),
                        (345, 155),
                        (386, 24),
                        (482, 13),
                    ]
                )
            )
            field = draw(
                st.one_of(
                    st.binary(max_size=size),
                    st.sampled_from(
                        [
                            b"\xff" * size,
                            b"7" * size,
                            b"\x80" + b"\xff" * (size - 1),
                            b"../" * 40,
                            b"x",
                            b"L",
                            b"S",
                            b"1",
                            b"g",
                            b"\0",
                        ]
                    ),
                )
            )[:size]
            data[block + offset : block + offset + len(field)] = field
        elif what == "cut":
            del data[at:]
        elif what == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 2048))]
        else:
            block, other = at // 512 * 512, draw(st.integers(0, len(data) // 512)) * 512
            data[block : block + 512], data[other : other + 512] = data[other : other + 512], data[block : block + 512]
    if draw(st.booleans()):
        _mend(data)
    return bytes(data)


def _mend(data: bytearray) -> None:
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])


@BOUNDED
@given(data=damaged())
def test_damaged_archives_give_a_tree_or_an_error(data: bytes) -> None:
    check(tar.read(io.BytesIO(data), "x"))
    check(cpio.read(io.BytesIO(data), "x"))


@BOUNDED
@given(data=st.one_of(st.binary(max_size=3000), st.binary(min_size=20, max_size=300).map(lambda b: b"070701" + b)))
def test_any_bytes_give_a_tree_or_an_error(data: bytes) -> None:
    check(tar.read(io.BytesIO(data), "x"))
    check(cpio.read(io.BytesIO(data), "x"))
    try:
        with archive.opened(io.BytesIO(data), "x") as tree:
            check(tree)
    except ImageError:
        pass


numbers = st.one_of(st.integers(0, 2**70), st.text("0123456789-+._ e", max_size=22).map(str.encode)).map(
    lambda value: value if isinstance(value, bytes) else b"%d" % value
)
keys = st.sampled_from(
    [
        b"path",
        b"linkpath",
        b"size",
        b"uid",
        b"gid",
        b"mtime",
        b"GNU.sparse.map",
        b"GNU.sparse.size",
        b"GNU.sparse.major",
        b"GNU.sparse.minor",
        b"GNU.sparse.realsize",
        b"GNU.sparse.name",
        b"GNU.sparse.offset",
        b"GNU.sparse.numbytes",
        b"SCHILY.xattr.user.x",
        b"LIBARCHIVE.xattr.user.x",
        b"SCHILY.acl.access",
        b"SCHILY.acl.default",
        b"",
        b"=",
    ]
)


@BOUNDED
@given(
    records=st.lists(st.tuples(keys, st.one_of(numbers, st.binary(max_size=30))), max_size=6),
    type_=st.sampled_from(b"0123456 SDLKgxVMA\0".decode()),
    data=st.binary(max_size=2000),
    name=st.one_of(st.binary(max_size=100), st.sampled_from([b"..", b"/", b"a/../b", b"x/", b"./x"])),
)
def test_headers_that_say_anything(records: list[tuple[bytes, bytes]], type_: str, data: bytes, name: bytes) -> None:
    text = b"".join(pax_records.record(key, value) for key, value in records)
    pax = tar_writer.header(b"pax", b"", type_=b"x", size=len(text)) + text + bytes(-len(text) % 512)
    own = (
        tar_writer.header(name, b"", type_=type_.encode(), size=len(data), target=b"t") + data + bytes(-len(data) % 512)
    )
    check(tar.read(io.BytesIO(pax + own + bytes(1024)), "x"))


paths = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=4).map(b"/".join)
kinds = st.sampled_from([Kind.FILE, Kind.DIRECTORY, Kind.LINK, Kind.HARD_LINK, Kind.FIFO])
targets = st.one_of(paths, st.sampled_from([b"/", b"..", b"../..", b"../outside", b"/tmp", b"a/..", b"."]))


@st.composite
def members(draw: st.DrawFn) -> Entry:
    kind, path = draw(kinds), draw(paths)
    target = draw(paths) if kind is Kind.HARD_LINK else draw(targets) if kind is Kind.LINK else b""
    if kind is Kind.FILE:
        return trees.file(path, b"x", mode=draw(st.sampled_from([0, 0o644, 0o4755])))
    return Entry(trees.member(path, kind, draw(st.sampled_from([0, 0o555, 0o755])), target=target))


@settings(BOUNDED, max_examples=max(EXAMPLES // 2, 100))
@given(
    entries=st.lists(members(), max_size=12),
    policy=st.sampled_from([Policy.of_caller(), Policy(parents=Parents.FOLLOW)]),
)
def test_t1_t2_t3_any_order_of_members_stays_inside(entries: list[Entry], policy: Policy) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "outside").mkdir()
        (top / "outside" / "a").write_text("of the host")
        (top / "target").mkdir()
        before = trees.look(top / "outside")
        with suppress(ImageError, FileError):
            unpack(iter(entries), top / "target", policy)
        assert trees.look(top / "outside") == before
        assert sorted(os.listdir(top)) == ["outside", "target"]
