"""tar archives: what other programs write is read, what is written others read, and nothing else gets through."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trees

from singularity.errors import ImageError
from singularity.image import directory
from singularity.image.archive import pax as pax_records
from singularity.image.archive import sparse, tar, tar_writer, unpack
from singularity.image.limits import LIMITS
from singularity.image.tree import Entry, Kind, Member, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

BLOCK = 512


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    trees.fill(path, privileged=os.geteuid() == 0)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def run(*argv: str | Path, **options: object) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([str(word) for word in argv], capture_output=True, check=False, timeout=120, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return done  # type: ignore[no-any-return]


def read(data: bytes, **options: object) -> dict[bytes, tuple[Member, bytes]]:
    return trees.members(tar.read(io.BytesIO(data), "x.tar", **options))  # type: ignore[arg-type]


def refused(data: bytes, *words: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(data)
    text = str(caught.value)
    assert text.startswith("x.tar: "), text
    assert "\n" not in text
    for word in words:
        assert word in text


def expected(source: Path, *, without: Sequence[str] = (), whole_seconds: bool = False) -> dict[bytes, trees.Seen]:
    """What is in `source`, but for what a format cannot hold."""
    found = {path: seen for path, seen in trees.look(source).items() if seen.kind not in without}
    if whole_seconds:
        found = {path: replace(seen, mtime=seen.mtime // 10**9 * 10**9) for path, seen in found.items()}
    return found


def unpacked(path: Path, target: Path) -> dict[bytes, trees.Seen]:
    with path.open("rb") as file:
        report = unpack.unpack(tar.read(file, str(path)), target)
    assert not report.left_out
    return trees.look(target)


@pytest.mark.needs("root")
@pytest.mark.parametrize("format_", ["pax", "gnu"])
@pytest.mark.parametrize("sparse", ["0.0", "0.1", "1.0"])
def test_what_gnu_tar_writes_arrives_whole(
    source: Path, target: Path, tmp_path: Path, format_: str, sparse: str
) -> None:
    path = tmp_path / "x.tar"
    options = ["--xattrs", "--xattrs-include=*", "--acls", f"--sparse-version={sparse}"] if format_ == "pax" else []
    run("tar", "-S", f"--format={format_}", *options, "--warning=no-file-ignored", "-C", source, "-cf", path, ".")
    found, wanted = unpacked(path, target), expected(source, without=["SOCKET"], whole_seconds=format_ == "gnu")
    if format_ == "gnu":
        wanted = {name: replace(seen, xattrs={}) for name, seen in wanted.items()}
        wanted[b"etc/passwd"] = replace(wanted[b"etc/passwd"], mode=found[b"etc/passwd"].mode)
    assert found == wanted
    assert (target / "sparse").stat().st_blocks < 1000


@pytest.mark.needs("root", "bsdtar")
@pytest.mark.parametrize("format_", ["pax", "paxr", "gnutar"])
def test_what_bsdtar_writes_arrives_whole(source: Path, target: Path, tmp_path: Path, format_: str) -> None:
    path = tmp_path / "x.tar"
    if format_ == "gnutar":  # which it writes holes of as zeros
        (source / "sparse").unlink()
        trees._times(source)
    run("bsdtar", "--numeric-owner", f"--format={format_}", "-C", source, "-cf", path, ".")
    found = unpacked(path, target)
    whole = format_ == "gnutar"
    wanted = expected(source, without=["SOCKET"], whole_seconds=whole)
    if whole:
        wanted = {name: replace(seen, xattrs={}) for name, seen in wanted.items()}
        wanted[b"etc/passwd"] = replace(wanted[b"etc/passwd"], mode=found[b"etc/passwd"].mode)
    if format_ == "paxr":  # the times that its headers hold are whole seconds
        wanted = {name: replace(seen, mtime=found[name].mtime) for name, seen in wanted.items()}
    wanted[b"etc/long-target"] = replace(wanted[b"etc/long-target"], xattrs=found[b"etc/long-target"].xattrs)
    early = found[b"etc/empty"].mtime  # bsdtar writes a fraction before 1970 as if it were after
    assert whole or early in (trees.BEFORE_1970, -1_234_567_891_876_543_211)
    wanted[b"etc/empty"] = replace(wanted[b"etc/empty"], mtime=early)
    assert found == wanted


@pytest.mark.parametrize("format_", ["v7", "ustar", "oldgnu", "posix"])
def test_every_format_of_gnu_tar_is_read(tmp_path: Path, format_: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_bytes(b"data")
    (tmp_path / "a" / "link").symlink_to("file")
    os.link(tmp_path / "a" / "file", tmp_path / "a" / "hard")
    data = run("tar", f"--format={format_}", "--sort=name", "-C", tmp_path, "-cf", "-", "./a").stdout
    found = read(data)
    assert {path: (m.kind, m.target, content) for path, (m, content) in found.items()} == {
        b"a": (Kind.DIRECTORY, b"", b""),
        b"a/b": (Kind.DIRECTORY, b"", b""),
        b"a/file": (Kind.FILE, b"", b"data"),
        b"a/hard": (Kind.HARD_LINK, b"a/file", b""),
        b"a/link": (Kind.LINK, b"file", b""),
    }


@pytest.mark.needs("root")
def test_what_we_write_gnu_tar_unpacks_whole(source: Path, target: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with path.open("wb") as out:
        tar_writer.write(directory.read(source), out)
    options = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--warning=no-unknown-keyword"]
    run("tar", *options, "-C", target, "-xpf", path)
    assert trees.look(target) == expected(source, without=["SOCKET"])
    assert path.stat().st_size < 2 << 20
    assert path.stat().st_size % 10240 == 0


@pytest.mark.needs("root", "bsdtar")
def test_what_we_write_bsdtar_unpacks_whole(source: Path, target: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with path.open("wb") as out:
        tar_writer.write(directory.read(source), out)
    run("bsdtar", "--numeric-owner", "-C", target, "-xpSf", path, env={**os.environ, "LC_ALL": "C"})
    found, wanted = trees.look(target), expected(source, without=["SOCKET"])
    assert found.pop(b"etc/passwd").digest == wanted.pop(b"etc/passwd").digest  # has an attribute with "%" in its name
    assert found.pop(b"").mode == wanted.pop(b"").mode  # bsdtar sets no times where it starts
    assert (
        found.pop(b"etc/empty").mtime < 0 > wanted.pop(b"etc/empty").mtime
    )  # reads a fraction as if it were after 1970
    assert found == wanted


def test_what_we_write_we_read_to_the_same_members(source: Path) -> None:
    entries = [
        Entry(entry.member, tuple(entry.data)) for entry in directory.read(source) if entry.member.size < 1 << 21
    ]
    data = trees.archive(*entries)
    again = [Entry(entry.member, tuple(entry.data)) for entry in tar.read(io.BytesIO(data), "x.tar")]
    assert [entry.member for entry in again] == [e.member for e in entries if e.member.kind is not Kind.SOCKET]
    assert trees.archive(*again) == data


def test_plain_files_need_no_extended_header() -> None:
    data = trees.archive(
        trees.file(b"a" * 90 + b"/" + b"b" * 90, b"x", mtime=10**9, uid=2_097_151), trees.link(b"l", b"t" * 100)
    )
    assert b"PaxHeaders" not in data
    assert len(read(data)) == 2


@pytest.mark.parametrize(
    "member",
    [
        trees.member(b"x" * 255, size=0),
        trees.member(b"/".join([b"y" * 200] * 20)),
        trees.member(b"p" * 120 + b"/q"),
        trees.member(b"r", uid=2_097_152, gid=4_294_967_294),
        trees.member(b"t", mtime=-1),
        trees.member(b"t", mtime=-(10**9)),
        trees.member(b"t", mtime=8**11 * 10**9),
        trees.member(b"t", mtime=123_456_789),
        trees.member(b"s", Kind.LINK, 0o777, target=b"\xff" * 4000),
        trees.member(b"h", Kind.HARD_LINK, target=b"z" * 150),
        trees.member(b"c", Kind.CHARACTER_DEVICE, device=os.makedev(4095, 1048575)),
        trees.member(b"\xff" * 200, Kind.DIRECTORY, 0o7777),
        trees.member(b"x", Kind.FIFO, xattrs={b"user.a": b"\0\n=", b"user.%=%3D": b"1" * 9000}),
        trees.member(b"a\nb c=d"),
        trees.member(b"", Kind.DIRECTORY, 0o700),
    ],
    ids=lambda member: f"{member.path[:8]!r}-{member.kind.name}-{member.mtime}",
)
def test_extremes_come_back_as_they_were(member: Member) -> None:
    ((again, _),) = read(trees.archive(Entry(member))).values()
    assert again == member


def test_a_file_of_more_than_8_gib_is_a_number_not_a_wrap() -> None:
    size = 8 * 1024**3 + 7
    headers = tar_writer.headers(trees.member(b"big", size=size))
    reader = tar.read(io.BytesIO(headers + bytes(1 << 20)), "x.tar")
    assert next(reader).member.size == size
    with pytest.raises(ImageError, match="ends in the middle"):
        next(reader)


def test_a_sparse_file_of_many_parts_keeps_them() -> None:
    segments = tuple(Segment(offset=number * 8192, size=100) for number in range(5000))
    entry = Entry(trees.member(b"s", size=5000 * 8192, segments=segments), (os.urandom(500_000),))
    ((member, data),) = read(trees.archive(entry)).values()
    assert member == entry.member
    assert data == b"".join(entry.data)


def test_data_that_is_not_read_is_read_over() -> None:
    data = trees.archive(trees.file(b"a", bytes(3_000_001)), trees.file(b"b", b"b"), trees.file(b"c", bytes(2_000_000)))
    assert [entry.member.path for entry in tar.read(io.BytesIO(data), "x")] == [b"a", b"b", b"c"]
    entries = tar.read(io.BytesIO(data), "x")
    first = next(entries)
    half = iter(first.data)
    next(half)
    assert b"".join(next(entries).data) == b"b"
    assert b"".join(half) == b""


def named(length: int, chance: random.Random) -> bytes:
    """A path of so many bytes, its slashes where chance puts them."""
    path = bytearray(b"%04d%08d" % (length, chance.randrange(10**8))).ljust(length, b"n")
    last = 0
    while (at := last + chance.randint(2, 200)) < length - 12:
        path[-at] = ord("/")
        last = at
    return bytes(path)


def of_all_lengths(chance: random.Random) -> list[Entry]:
    """Every kind of member under paths of 90 to 270 bytes, links to targets that are as long; holes, attributes."""
    entries: dict[bytes, Entry] = {}
    for length in range(90, 271):
        paths = [named(length, chance) for _ in range(10)]
        for number, path in enumerate(paths[:6]):
            more: dict[str, object] = {"xattrs": {b"user.a": b"b"}} if number % 2 else {}
            entries[path] = trees.file(path, path, mtime=number % 3, uid=number % 4 << 21, **more)
        entries[paths[6]] = trees.link(paths[6], paths[1])
        entries[paths[7]] = trees.hard_link(paths[7], paths[0])
        entries[paths[8]] = trees.directory(paths[8])
        segments = (Segment(offset=1 << 16, size=length),)
        holes = Entry(trees.member(paths[9], size=1 << 17, segments=segments), (paths[9],))
        entries[paths[9]] = sparse.in_blocks(holes)  # as they are for mksquashfs
    for path in list(entries):
        while path := path.rpartition(b"/")[0]:
            entries.setdefault(path, trees.directory(path))
    entries[b""] = trees.directory(b"")
    return sorted(entries.values(), key=lambda each: (each.member.kind is Kind.HARD_LINK, each.member.path))


def unpacked_by_python(path: Path, target: Path) -> None:
    with tarfile.open(path) as archive:
        archive.extraction_filter = lambda member, _: member  # else Python 3.13 warns of 3.14
        archive.extractall(target)  # noqa: S202 - the archive is our own


def unpacked_by_mksquashfs(path: Path, target: Path) -> None:
    image = target.with_name("x.sqfs")
    with path.open("rb") as file:
        run("mksquashfs", "-", image, "-tar", "-quiet", "-no-progress", stdin=file)
    run("unsquashfs", "-quiet", "-no-progress", "-force", "-dest", target, image)


@pytest.mark.needs("root", "bsdtar", "mksquashfs")
@pytest.mark.parametrize(
    "unpack_",
    [
        lambda path, target: run("tar", "-C", target, "-xpf", path),
        lambda path, target: run("bsdtar", "-C", target, "-xpf", path),
        unpacked_by_python,
        unpacked_by_mksquashfs,
        lambda path, target: unpacked(path, target),
    ],
    ids=["tar", "bsdtar", "python", "mksquashfs", "ourselves"],
)
def test_paths_of_every_length_are_read_by_others(
    tmp_path: Path, target: Path, unpack_: Callable[[Path, Path], object]
) -> None:
    """Where a header's fields end (98 to 100 bytes, 155, 255) is where programs differ."""
    entries = of_all_lengths(random.Random(99))  # noqa: S311
    path = tmp_path / "x.tar"
    path.write_bytes(trees.archive(*entries))
    unpack_(path, target)
    found = trees.look(target)
    assert found.keys() == {each.member.path for each in entries}
    by_path = {each.member.path: each for each in entries}
    for name, seen in found.items():
        member = by_path[name].member
        if member.kind is Kind.HARD_LINK:
            assert os.path.samefile(target / os.fsdecode(name), target / os.fsdecode(member.target))
            continue
        assert seen.kind == member.kind.name
        assert seen.target == member.target
        if member.kind is Kind.FILE:
            holes = b"" if member.segments is None else bytes(1 << 16)
            assert (target / os.fsdecode(name)).read_bytes() == (holes + name).ljust(member.size, b"\0")


# Headers made by hand


def header(
    name: bytes = b"x",
    *,
    size: bytes = b"00000000000",
    type_: bytes = b"0",
    target: bytes = b"",
    magic: bytes = b"ustar\0" + b"00",
    prefix: bytes = b"",
    uid: bytes = b"0000000\0",
    mtime: bytes = b"00000000000\0",
    mode: bytes = b"0000644\0",
    major: bytes = b"0000000\0",
    signed: bool = False,
) -> bytes:
    block = bytearray(BLOCK)
    fields = [(0, name), (100, mode), (108, uid), (116, b"0000000\0"), (124, size), (136, mtime), (148, b" " * 8)]
    for at, value in [*fields, (156, type_), (157, target), (257, magic), (329, major), (337, b"0\0"), (345, prefix)]:
        block[at : at + len(value)] = value
    total = sum(each - 256 * (each > 127) for each in block) if signed else sum(block)
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def pax(*records: tuple[bytes, bytes], type_: bytes = b"x") -> bytes:
    data = b"".join(pax_records.record(key, value) for key, value in records)
    return header(b"pax", size=b"%011o" % len(data), type_=type_) + data + bytes(-len(data) % BLOCK)


def long_name(data: bytes, type_: bytes = b"L") -> bytes:
    return (
        header(b"././@LongLink", size=b"%011o" % len(data), type_=type_, magic=b"ustar  \0")
        + data
        + bytes(-len(data) % BLOCK)
    )


END = bytes(2 * BLOCK)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a", b"a"),
        (b"/etc/passwd", b"etc/passwd"),
        (b"///a//b", b"a/b"),
        (b"./a/./b", b"a/b"),
        (b"a\0/../b", b"a"),
        (b"...", b"..."),
        (b"a/..b/b..", b"a/..b/b.."),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_t1_names_are_relative_to_the_root(name: bytes, path: bytes) -> None:
    assert list(read(header(name) + END)) == [path]


@pytest.mark.parametrize("name", [b"..", b"../x", b"a/../b", b"/..", b"a/..", b"./../x", b"a/../../../../etc/passwd"])
@pytest.mark.parametrize("way", ["header", "pax", "gnu", "link", "pax link", "prefix"])
def test_t1_names_that_lead_out_are_refused(name: bytes, way: str) -> None:
    archives = {
        "header": header(name),
        "pax": pax((b"path", name)) + header(),
        "gnu": long_name(name + b"\0") + header(),
        "link": header(type_=b"1", target=name),
        "pax link": pax((b"linkpath", name)) + header(type_=b"1", target=b"y"),
        "prefix": header(b"x", prefix=name),
    }
    refused(archives[way] + END, '".."')


@pytest.mark.parametrize("name", [b".", b"/", b"./", b"./.", b"//"])
@pytest.mark.parametrize("type_", [b"0", b"1", b"2", b"3", b"6"])
def test_t1_the_root_can_only_be_a_directory(name: bytes, type_: bytes) -> None:
    slash = type_ == b"0" and name.endswith(b"/")
    if slash:  # is how v7 writes a directory
        assert read(header(name) + END)[b""][0].kind is Kind.DIRECTORY
    else:
        refused(header(name, type_=type_, target=b"t") + END, "root of an archive")


def test_t1_other_impossible_names_are_refused() -> None:
    refused(header(b"") + END, "without a name")
    refused(pax((b"path", b"a\0b")) + header() + END, "zero byte")
    refused(pax((b"path", b"c" * 256)) + header() + END, "longer than 255")
    refused(pax((b"path", b"/".join([b"d" * 200] * 21))) + header() + END, "longer than 4096")
    refused(header(type_=b"2") + END, "target is empty")
    refused(pax((b"linkpath", b"e" * 4096)) + header(type_=b"2") + END, "too long")
    refused(header(type_=b"1", target=b"./") + END, "hard link to the root")


def test_t5_damage_is_told_with_its_place() -> None:
    good = trees.archive(trees.file(b"a", b"1"), trees.file(b"b", b"2"))
    for at in (0, 100, 148, 500, 1024, 1100):
        bad = bytearray(good)
        bad[at] ^= 0x41
        refused(bytes(bad), "wrong checksum" if at != 148 else "checksum")
    refused(b"not a tar archive" * 100, "checksum")


@pytest.mark.parametrize("format_", ["pax", "gnu"])
def test_t5_a_stream_that_ends_too_early_is_refused_wherever_it_ends(tmp_path: Path, format_: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ("long" * 40)).write_bytes(bytes(range(256)) * 9)
    trees._sparse(tmp_path / "d" / "s", ((1 << 20, b"x"), (2 << 20, b"y" * 5000)))
    data = run("tar", "-S", f"--format={format_}", "-C", tmp_path, "-cf", "-", "d").stdout
    end = data.rstrip(b"\0")
    marker = len(end) + -len(end) % BLOCK
    for size in [*range(0, marker, BLOCK), *range(1, marker, 509)]:
        refused(data[:size], "ends in the middle")
    assert read(data[: marker + BLOCK])
    assert read(data[: marker + 2 * BLOCK])
    complete = read(data[:marker], marked=False)
    assert len(complete) == 3
    for size in (len(end), *range(len(end) + 1, len(data), 77)):  # without the last member's padding as well
        assert read(data[:size], marked=False) == complete
    for size in (len(end) - 1, len(end) - 5000, marker - 5 * BLOCK - 1):
        with pytest.raises(ImageError, match="ends in the middle"):
            read(data[:size], marked=False)
    assert read(b"", marked=False) == {}


def test_the_end_is_two_blocks_of_zeros(caplog: pytest.LogCaptureFixture) -> None:
    assert read(END) == {}
    assert list(read(header(b"a") + END + header(b"b") + END)) == [b"a"]
    assert not caplog.messages
    assert list(read(header(b"a") + bytes(BLOCK) + header(b"b") + END)) == [b"a"]
    assert "stands alone" in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        header(size=b"\xff" * 12),
        header(size=b"\x80" + b"\xff" * 11),
        header(size=b"7" * 12) * 2,
        header(size=b"12345678999"),
        header(size=b"1 2"),
        header(size=b"-0000000001"),
        header(uid=b"77777777"[:7] + b"x"),
        header(uid=b"\x80\0\0\0\xff\xff\xff\xff"),
        header(mode=b"0o644\0\0\0"),
        header(mode=b"0_6_4_4\0"),
        header(mtime=b"\x80" + b"\x7f" * 11),
        header(type_=b"3", major=b"0010000\0"),
        header(type_=b"M"),
        pax((b"size", b"-1")) + header(),
        pax((b"size", b"99999999999999999999")) + header(),
        pax((b"size", b"1e3")) + header(),
        pax((b"uid", b"4294967295")) + header(),
        pax((b"uid", b"99999999999999999999999")) + header(),
        pax((b"mtime", b"yesterday")) + header(),
        pax((b"mtime", b"9" * 20)) + header(),
        pax((b"GNU.sparse.map", b"0,1,2"), (b"GNU.sparse.size", b"10")) + header(),
        pax((b"GNU.sparse.map", b"5,1,0,1"), (b"GNU.sparse.size", b"10")) + header(size=b"2") + bytes(BLOCK),
        pax((b"GNU.sparse.map", b"0,2"), (b"GNU.sparse.size", b"1")) + header(size=b"2") + bytes(BLOCK),
        pax((b"GNU.sparse.map", b"0,2"), (b"GNU.sparse.size", b"9" * 19)) + header(size=b"2") + bytes(BLOCK),
        pax((b"GNU.sparse.map", b"0,2"), (b"GNU.sparse.size", b"9")) + header(size=b"1") + bytes(BLOCK),
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9")) + header(size=b"1000") + b"x" * BLOCK,
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9")) + header(size=b"1000") + b"9999999\n" * 64,
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9")) + header(size=b"1000") + b"9" * BLOCK,
        pax((b"SCHILY.acl.access", b"user::rwx,nonsense")) + header(),
        pax((b"SCHILY.acl.access", b"user:1:rwq")) + header(),
        pax((b"LIBARCHIVE.xattr.user.x", b"!!!")) + header(),
        pax((b"SCHILY.xattr.", b"x")) + header(),
        header(b"x", size=b"5", type_=b"x") + b"9 a=b" + bytes(BLOCK - 5) + header(),
        header(b"x", size=b"5", type_=b"x") + b"5 ab\n" + bytes(BLOCK - 5) + header(),
        header(b"x", size=b"5", type_=b"x") + b"+5a=\n" + bytes(BLOCK - 5) + header(),
        header(b"x", size=b"5", type_=b"x") + b"x y=z" + bytes(BLOCK - 5) + header(),
        pax((b"path", b"y")),
        long_name(b"y"),
        header(type_=b"S"),
        header(type_=b"S", magic=b"ustar  \0")[:386] + b"9" * 12 + bytes(114),
    ],
    ids=range(40),
)
def test_t5_numbers_and_headers_that_make_no_sense_are_refused(data: bytes) -> None:
    refused(data + END)


def test_t5_limits_hold() -> None:
    few = replace(LIMITS, members=2, total=1000, extension=1000, segments=3)
    for data in (
        header(b"a") + header(b"b") + header(b"c") + END,
        header(size=b"1751") + bytes(1024) + END,
        header(size=b"1000") + bytes(512) + header(b"y", size=b"1000") + bytes(512) + END,
        pax((b"comment", b"x" * 990)) + header() + END,
        pax((b"comment", b"x" * 600)) + pax((b"comment", b"x" * 600)) * 9 + header() + END,
        b"".join(pax((b"k%d" % n, b"x" * 300), type_=b"g") for n in range(5)) + header() + END,
        long_name(b"x" * 1001) + header() + END,
        pax((b"GNU.sparse.map", b"0,1,2,1,4,1,6,1"), (b"GNU.sparse.size", b"10"))
        + header(size=b"4")
        + bytes(BLOCK)
        + END,
    ):
        with pytest.raises(ImageError, match=r"^x\.tar: "):
            read(data, limits=few)
    assert len(read(header(b"a") + header(b"b") + END, limits=few)) == 2


def test_old_ways_of_writing_are_read() -> None:
    assert read(header(b"dir/", type_=b"\0", magic=b"") + END)[b"dir"][0].kind is Kind.DIRECTORY
    assert read(header(b"file", type_=b"7") + END)[b"file"][0].kind is Kind.FILE
    assert list(read(header(b"\xfc\xff", signed=True) + END)) == [b"\xfc\xff"]
    assert list(read(header(b"name", prefix=b"p" * 155) + END)) == [b"p" * 155 + b"/name"]
    assert list(read(header(b"name", prefix=b"times", magic=b"ustar  \0") + END)) == [b"name"]
    assert read(header(uid=b"   12 \0 ") + END)[b"x"][0].uid == 0o12
    assert read(header(uid=b"\xff" * 7 + b"\xfe") + END)[b"x"][0].uid == 4294967294
    assert read(header(mtime=b"\xff" * 11 + b"\xfe") + END)[b"x"][0].mtime == -2 * 10**9
    assert read(header(mtime=b"") + END)[b"x"][0].mtime == 0


def test_pax_headers_say_what_they_say() -> None:
    records = [
        (b"path", b"new\nname"),
        (b"uid", b"123456789"),
        (b"gid", b"9"),
        (b"mtime", b"-1.5000000019"),
        (b"hdrcharset", b"BINARY"),
        (b"SCHILY.xattr.user.a%3Db", b"v"),
        (b"LIBARCHIVE.xattr.user.c%20d", b"aGVsbG8"),
        (b"RHT.security.selinux", b"label"),
        (b"SCHILY.xattr.security.selinux", b"label"),
        (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
        (b"SCHILY.acl.access", b"user::rw-,user:joe:r--:4711,group::r--,group:4712:rw-,mask::rw-,other::---"),
        (b"VENDOR.unknown", b"x"),
    ]
    ((member, _),) = read(pax(*records) + header() + END).values()
    assert (member.path, member.uid, member.gid, member.mtime) == (b"new\nname", 123456789, 9, -1_500_000_001)
    assert dict(member.xattrs) == {b"user.a=b": b"v", b"user.c d": b"hello", b"system.posix_acl_access": trees.ACL}


def test_global_headers_hold_until_they_are_taken_back() -> None:
    data = (
        pax((b"uid", b"5"), (b"gid", b"6"), type_=b"g")
        + header(b"a")
        + pax((b"uid", b"7"))
        + header(b"b")
        + pax((b"uid", b""))
        + header(b"c")
        + pax((b"uid", b""), type_=b"g")
        + header(b"d")
    )
    assert [(m.uid, m.gid) for m, _ in read(data + END).values()] == [(5, 6), (7, 6), (0, 6), (0, 6)]


def test_what_cannot_be_carried_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    named = b"user::rw-,user:joe:rwx,group::r--,mask::rwx,other::---"
    data = header(b"volume", type_=b"V") + header(b"a", type_=b"Q", size=b"5") + bytes(BLOCK)
    data += (
        header(b"b", type_=b"Q") + pax((b"SCHILY.acl.access", named)) + header(b"c", mode=b"0000670\0") + header(b"d")
    )
    found = read(data + END)
    assert list(found) == [b"c", b"d"]
    assert found[b"c"][0].mode == 0o640  # what the group could do without the list, not what its mask let others do
    assert sorted(caplog.messages) == [
        "x.tar: 1 access control lists name users without their numbers, and are left out",
        'x.tar: 2 members of the unknown type "Q" are left out',
    ]


def test_sockets_are_left_out_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert read(trees.archive(Entry(trees.member(b"s", Kind.SOCKET)), trees.file(b"f"))) == {
        b"f": (trees.member(b"f"), b"")
    }
    assert caplog.messages == ["1 sockets are left out: a tar archive cannot hold them"]


def test_a_member_with_less_or_more_data_than_it_says_is_no_archive() -> None:
    for data in ((b"123",), (b"12", b"3456")):
        with pytest.raises(ImageError, match=r"5 were announced|data where"):
            tar_writer.write(iter([Entry(trees.member(b"f", size=5), data)]), io.BytesIO())
