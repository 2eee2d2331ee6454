"""cpio archives: every form that other programs write is read, and nothing else gets through."""

from __future__ import annotations

import io
import os
import struct
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trees

from singularity.errors import ImageError
from singularity.image.archive import cpio
from singularity.image.archive.unpack import unpack
from singularity.image.limits import LIMITS
from singularity.image.tree import Kind, Member

if TYPE_CHECKING:
    from pathlib import Path

FORMS = ["newc", "crc", "odc", "bin"]


def written(source: Path, form: str) -> bytes:
    """What GNU cpio makes of a directory, names in order."""
    names = sorted(path or b"." for path in trees.look(source))
    argv = ["cpio", "--quiet", "-0", "-o", "-H", form]
    done = subprocess.run(
        argv, cwd=source, input=b"".join(name + b"\0" for name in names), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(data: bytes, **options: object) -> dict[bytes, tuple[Member, bytes]]:
    return trees.members(cpio.read(io.BytesIO(data), "x.cpio", **options))  # type: ignore[arg-type]


def refused(data: bytes, *words: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(data)
    text = str(caught.value)
    assert text.startswith("x.cpio: "), text
    for word in words:
        assert word in text


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What cpio can hold: no attributes, no holes, small numbers, whole seconds."""
    path = tmp_path / "source"
    path.mkdir()
    trees.fill(path, privileged=os.geteuid() == 0)
    for name in ("sparse", "hole-at-the-end", "only-a-hole", "ping", "etc/disk"):
        (path / name).unlink(missing_ok=True)
    for name in trees.look(path):
        full = os.path.join(os.fsencode(path), name)
        for attribute in os.listxattr(full, follow_symlinks=False):
            os.removexattr(full, attribute, follow_symlinks=False)
    if os.geteuid() == 0:
        for name in ("usr/bin/tool", "bin"):
            os.chown(path / name, 4711, 4712, follow_symlinks=False)
        (path / "usr/bin/tool").chmod(0o6755)
    for name, seen in trees.look(path).items():
        when = abs(seen.mtime) // 10**9 * 10**9
        os.utime(os.path.join(os.fsencode(path), name), ns=(when, when), follow_symlinks=False)
    return path


@pytest.mark.needs("root", "cpio")
@pytest.mark.parametrize("form", FORMS)
def test_what_gnu_cpio_writes_arrives_whole(source: Path, tmp_path: Path, form: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    report = unpack(cpio.read(io.BytesIO(written(source, form)), "x"), target)
    assert not report.left_out
    found, wanted = trees.look(target), trees.look(source)
    if form in ("odc", "bin"):  # GNU cpio writes device numbers of these forms with more bits than others read
        wanted = {path: replace(seen, device=found[path].device) for path, seen in wanted.items()}
    assert found == wanted


@pytest.mark.needs("bsdtar")
@pytest.mark.parametrize("form", ["newc", "odc", "bin"])
def test_what_bsdtar_writes_is_read(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"odd")
    os.link(source / "a", source / "b")
    (source / "c").symlink_to("target")
    argv = ["bsdtar", "-C", str(source), f"--format={form}", "-cf", "-", "a", "b", "c"]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    if done.returncode:
        pytest.skip(f"this bsdtar does not write {form}")
    found = read(done.stdout)
    assert {path: (m.kind, m.target, data) for path, (m, data) in found.items()} in (
        {b"a": (Kind.FILE, b"", b"odd"), b"b": (Kind.HARD_LINK, b"a", b""), b"c": (Kind.LINK, b"target", b"")},
        {b"b": (Kind.FILE, b"", b"odd"), b"a": (Kind.HARD_LINK, b"b", b""), b"c": (Kind.LINK, b"target", b"")},
    )


@pytest.mark.needs("cpio")
def test_the_old_form_of_the_other_byte_order_is_read(source: Path) -> None:
    data = written(source, "bin")
    at, swapped = 0, b""
    while at < len(data) and data[at : at + 2] == b"\xc7\x71":
        words = struct.unpack_from("<13H", data, at)
        size = words[11] << 16 | words[12]
        rest = 26 + words[10] + words[10] % 2
        swapped += struct.pack(">13H", *words) + data[at + 26 : at + rest + size + size % 2]
        at += rest + size + size % 2
    assert {p: m for p, (m, _) in read(swapped).items()} == {p: m for p, (m, _) in read(data).items()}
    assert [content for _, content in read(swapped).values()] == [content for _, content in read(data).values()]


# Archives made by hand


def newc(
    name: bytes,
    data: bytes = b"",
    mode: int = 0o100644,
    *,
    inode: int = 0,
    links: int = 1,
    uid: int = 0,
    magic: bytes = b"070701",
    check: int = 0,
    size: int | None = None,
    name_size: int | None = None,
    device: tuple[int, int] = (0, 0),
) -> bytes:
    numbers = (
        inode,
        mode,
        uid,
        0,
        links,
        1234,
        len(data) if size is None else size,
        0,
        0,
        *device,
        len(name) + 1 if name_size is None else name_size,
        check,
    )
    head = magic + b"".join(b"%08X" % number for number in numbers) + name + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


END = newc(b"TRAILER!!!")


def test_names_of_one_file_become_links_to_the_one_with_the_data() -> None:
    several = [newc(name, data, inode=7, links=3) for name, data in ((b"a", b""), (b"b", b""), (b"c", b"data"))]
    found = read(b"".join(several) + newc(b"d", b"other", inode=8) + END)
    assert [(m.path, m.kind, m.target, data) for m, data in found.values()] == [
        (b"c", Kind.FILE, b"", b"data"),
        (b"a", Kind.HARD_LINK, b"c", b""),
        (b"b", Kind.HARD_LINK, b"c", b""),
        (b"d", Kind.FILE, b"", b"other"),
    ]


def test_names_of_a_file_without_data_or_not_all_in_the_archive() -> None:
    empty = newc(b"a", inode=7, links=2) + newc(b"b", inode=7, links=2)
    part = newc(b"c", inode=8, links=5) + newc(b"d", inode=8, links=5)
    assert [(m.path, m.kind, m.target, m.size) for m, _ in read(empty + part + END).values()] == [
        (b"b", Kind.FILE, b"", 0),
        (b"a", Kind.HARD_LINK, b"b", 0),
        (b"c", Kind.FILE, b"", 0),
        (b"d", Kind.HARD_LINK, b"c", 0),
    ]


def test_numbers_that_strangers_share_make_no_links() -> None:
    found = read(newc(b"a", b"1", inode=7, links=2, uid=1) + newc(b"b", b"2", inode=7, links=2, uid=2) + END)
    assert [(m.kind, data) for m, data in found.values()] == [(Kind.FILE, b"1"), (Kind.FILE, b"2")]


def test_archives_one_after_another_are_one(caplog: pytest.LogCaptureFixture) -> None:
    first = newc(b"a", b"1", inode=7, links=2) + END
    second = newc(b"b", b"2", inode=7, links=2) + END
    for padding in (b"", bytes(4), bytes(512), bytes(4096)):
        assert [(m.path, data) for m, data in read(first + padding + second + bytes(300)).values()] == [
            (b"a", b"1"),
            (b"b", b"2"),
        ]
    assert not caplog.messages
    assert list(read(first + b"something else")) == [b"a"]
    assert "something else" in caplog.text


@pytest.mark.parametrize("name", [b"..", b"../x", b"a/../b", b"/.."])
def test_t1_names_that_lead_out_are_refused(name: bytes) -> None:
    refused(newc(name) + END, '".."')


def test_t1_other_names() -> None:
    assert list(read(newc(b"/etc/passwd") + newc(b"./x") + newc(b".", mode=0o40755) + END)) == [
        b"etc/passwd",
        b"x",
        b"",
    ]
    refused(newc(b"/") + END, "only be a directory")
    refused(newc(b"") + END, "without a name")
    refused(newc(b"a\0b") + END, "zero byte")
    refused(newc(b"x" * 300) + END, "longer than 255")
    refused(newc(b"abcd", name_size=4) + END, "does not end")
    refused(newc(b"abcd", name_size=0) + END, "a name of 0 bytes")
    refused(newc(b"abcd", name_size=0xFFFFFFFF) + END, "a name of")
    refused(newc(b"l", b"", mode=0o120777) + END, "target is empty")
    refused(newc(b"l", b"x" * 5000, mode=0o120777) + END, "too long")


def test_t5_checksums_are_checked() -> None:
    for data in (b"data", bytes(200_000) + b"\xff" * 90_000):
        good = newc(b"a", data, magic=b"070702", check=sum(data) & 0xFFFFFFFF)
        assert read(good + END)[b"a"][1] == data
        refused(newc(b"a", data, magic=b"070702", check=sum(data) + 1) + END, "wrong checksum")
        with pytest.raises(ImageError, match="wrong checksum"):  # also of data that nobody reads
            list(cpio.read(io.BytesIO(newc(b"a", data, magic=b"070702", check=1) + END), "x"))


@pytest.mark.needs("cpio")
@pytest.mark.parametrize("form", FORMS)
def test_t5_a_stream_that_ends_too_early_is_refused_wherever_it_ends(tmp_path: Path, form: str) -> None:
    (tmp_path / "a").write_bytes(b"some data")
    (tmp_path / "b").symlink_to("elsewhere")
    data = written(tmp_path, form)
    end = data.index(b"TRAILER!!!") + 11
    for size in range(end):
        refused(data[:size])
    assert len(read(data[: end + 3])) >= 3


def test_t5_numbers_that_make_no_sense_are_refused() -> None:
    refused(newc(b"a").replace(b"070701", b"070799") + END, "no cpio archive")
    refused(newc(b"a") + b"garbage" * 50, "no header")
    refused(newc(b"a")[:14] + b"+1_00000" + newc(b"a")[22:] + END, "no numbers")
    refused(newc(b"a", uid=0xFFFFFFFF) + END, "no id")
    refused(newc(b"a", mode=0o020600, device=(1 << 13, 0)) + END, "no device")
    refused(newc(b"a", size=0xFFFFFFFF) + END, "ends in the middle")
    refused(b"070707" + b"9" * 70, "no numbers")
    with pytest.raises(ImageError, match="more than 2 members"):
        read(newc(b"a") + newc(b"b") + newc(b"c") + END, limits=replace(LIMITS, members=2))


def test_what_cannot_be_carried_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    assert list(read(newc(b"odd", b"xyz", mode=0o130644) + newc(b"a") + END)) == [b"a"]
    assert caplog.messages == ["x.cpio: 1 members of unknown kinds are left out"]
