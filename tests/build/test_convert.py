"""Every image format becomes every other one, with all that is in it, whoever asks."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from converters import PEOPLE, SECOND, Converter, converter, differences, look
from ordinary_user import ALICE

from singularity.build import pack, streaming
from singularity.errors import ImageError
from singularity.image.archive import tar_writer
from singularity.image.ext import make as make_ext
from singularity.image.identify import identify
from singularity.image.sif import format as sif
from singularity.image.squashfs import root as squashfs_root
from singularity.image.tree import Entry, Kind, Member, Segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.needs("root", "mksquashfs", "mke2fs", "cpio")

SOURCES = ("directory", "x.sif", "x.sqfs", "x.img", "x.tar", "x.tar.gz", "x.cpio.gz")
TARGETS = ("sif", "sandbox", "squashfs", "ext3", "tar")
TIME = 1_234_567_890 * SECOND


def file(path: bytes, data: bytes = b"", mode: int = 0o644, **rest: object) -> Entry:
    member = Member(path=path, kind=Kind.FILE, mode=mode, size=len(data), mtime=TIME)
    return Entry(replace(member, **rest), (data,) if data else ())  # type: ignore[arg-type]


def other(path: bytes, kind: Kind, mode: int = 0o755, **rest: object) -> Entry:
    return Entry(replace(Member(path=path, kind=kind, mode=mode, mtime=TIME), **rest))  # type: ignore[arg-type]


def entries() -> Iterator[Entry]:
    """A root file system with what gets lost when somebody is not careful."""
    yield other(b"", Kind.DIRECTORY)
    yield other(b"etc", Kind.DIRECTORY)
    yield file(b"etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", xattrs={b"user.note": b"of \0 bytes"})
    yield file(b"etc/secret", b"nobody may read this\n", mode=0, uid=7, gid=8)
    yield file(b"etc/n\xffon-UTF-8", b"name")
    yield other(b"etc/closed", Kind.DIRECTORY, mode=0, uid=12)
    yield file(b"etc/closed/inside", b"whole", mode=0)
    yield other(b"etc/disk", Kind.BLOCK_DEVICE, mode=0o640, device=os.makedev(8, 17), gid=6)
    yield other(b"etc/null", Kind.CHARACTER_DEVICE, mode=0o666, device=os.makedev(1, 3))
    yield other(b"etc/fifo", Kind.FIFO, mode=0o600)
    yield other(b"bin", Kind.DIRECTORY)
    yield file(b"bin/tool", b"#!/bin/sh\n" + bytes(range(256)) * 2000, mode=0o4755, uid=1234, gid=56)
    yield other(b"bin/again", Kind.HARD_LINK, target=b"bin/tool")
    yield other(b"bin/link", Kind.LINK, mode=0o777, target=b"/bin/tool")
    yield other(b"large-ids", Kind.DIRECTORY, uid=4_000_000_000, gid=3_000_000_000)
    holes = (Segment(offset=0, size=4096), Segment(offset=3 << 20, size=4096))
    sparse = Member(path=b"sparse", kind=Kind.FILE, mode=0o644, size=4 << 20, segments=holes, mtime=TIME)
    yield Entry(sparse, (b"begin".ljust(4096, b"\0"), b"end".ljust(4096)))


@pytest.fixture(scope="module")
def sources(storage: Path) -> Path:
    """One root file system in every format."""
    place = storage / "conversions"
    place.mkdir(mode=0o755)
    with (place / "x.tar").open("wb") as out:
        tar_writer.write(entries(), out)
    root = place / "directory"
    root.mkdir()
    words = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", place / "x.tar"]
    subprocess.run(["tar", "-C", root, *words], check=True)
    subprocess.run(["gzip", "-k", place / "x.tar"], check=True)
    names = subprocess.run(["find", ".", "-print0"], cwd=root, check=True, capture_output=True).stdout
    packed = subprocess.run(["cpio", "-0", "-o", "-H", "newc"], cwd=root, input=names, check=True, capture_output=True)
    (place / "x.cpio.gz").write_bytes(gzip.compress(packed.stdout))
    pack.pack(root, place / "x.sif", architecture="amd64", arguments=["-comp", "gzip"], overwrite=False)
    subprocess.run(["mksquashfs", root, place / "x.sqfs", "-quiet", "-no-progress"], check=True, capture_output=True)
    with (place / "x.img").open("w+b") as image:
        make_ext.make(entries(), image.fileno())
    return place


@pytest.fixture
def root(storage: Path, tmp_path: Path) -> Converter:
    return converter(storage, tmp_path, "root")


@pytest.fixture
def user(storage: Path, tmp_path: Path) -> Converter:
    return converter(storage, tmp_path, "user-without-namespaces")


@pytest.mark.parametrize("form", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_root_converts_every_format_to_every_other(root: Converter, sources: Path, source: str, form: str) -> None:
    wanted = look(sources / "directory")
    if source == "x.cpio.gz":  # which holds no extended attributes
        wanted = {path: replace(seen, xattrs=()) for path, seen in wanted.items()}
    made = root.does(sources / source, "made", form)
    assert differences(look(made), wanted) == []


@pytest.mark.parametrize("form", [form for form in TARGETS if form != "sandbox"])
@pytest.mark.parametrize("source", [source for source in SOURCES if source != "directory"])
def test_a_file_becomes_the_same_one_whoever_converts_it(
    user: Converter, sources: Path, source: str, form: str
) -> None:
    """Without privilege and without user namespaces: owners, devices and unreadable files are those of root's."""
    wanted = look(sources / "directory")
    if source == "x.cpio.gz":
        wanted = {path: replace(seen, xattrs=()) for path, seen in wanted.items()}
    made = user.does(sources / source, "made", form)
    assert differences(look(made), wanted) == []
    assert (made.stat().st_uid, stat.S_IMODE(made.stat().st_mode)) == (ALICE.uid, 0o755)


@pytest.mark.needs("userns")
@pytest.mark.parametrize("source", [source for source in SOURCES if source != "directory"])
def test_an_ordinary_user_gets_a_directory_of_what_she_may_have(
    storage: Path, tmp_path: Path, sources: Path, source: str
) -> None:
    """B: data of files that nobody may read arrive whole; a device is a file that remembers what it is."""
    person = converter(storage, tmp_path, "user")
    done = person(sources / source, "made", "sandbox")
    assert done.returncode == 0, done.stderr
    wanted = look(sources / "directory")
    found = look(person.directory / "made")
    devices = {path for path, seen in wanted.items() if seen.kind.is_device}
    large = {b"large-ids"}
    for path in wanted.keys() - devices - large:
        assert (found[path].kind, found[path].digest) == (wanted[path].kind, wanted[path].digest), path
    assert all(found[path].kind is Kind.FILE for path in devices)
    again = person.does(person.directory / "made", "again", "tar")
    assert all(look(again)[path].device == wanted[path].device for path in devices)


def test_files_are_kept_only_for_those_who_can_be_trusted_with_them(root: Converter, sources: Path) -> None:
    """--fix-perms: the owner may read and write everything, on the way as in a directory."""
    for source in ("x.tar", "directory"):
        found = look(root.does(sources / source, f"made-of-{source}", "sif", "--fix-perms"))
        assert (found[b"etc/secret"].mode, found[b"etc/closed"].mode) == (0o600, 0o700)
        assert found[b"bin/tool"].mode == 0o4755


def test_the_last_of_several_files_of_one_name_counts(user: Converter) -> None:
    archive = user.directory / "x.tar"
    with archive.open("wb") as out:
        tar_writer.write(
            iter(
                [
                    other(b"a", Kind.DIRECTORY, mode=0o700),
                    file(b"a/f", b"first"),
                    other(b"l", Kind.LINK, target=b"before"),
                    file(b"a/f", b"second", mode=0o600, uid=5),
                    other(b"a", Kind.DIRECTORY, mode=0o750, uid=3),
                    other(b"l", Kind.LINK, mode=0o777, target=b"after"),
                    other(b"a/h", Kind.HARD_LINK, target=b"a/f"),
                ]
            ),
            out,
        )
    found = look(user.does(archive, "x.sif", "sif"))
    assert (found[b"a"].mode, found[b"a"].owner, found[b"l"].target) == (0o750, (3, 0), b"after")
    assert found[b"a/f"] == found[b"a/h"]
    assert found[b"a/f"].digest == hashlib.sha256(b"second").hexdigest()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([file(b"f"), other(b"h", Kind.HARD_LINK, target=b"f"), file(b"f", b"new")], "f: replaced after a hard link"),
        ([file(b"a/f"), file(b"a")], "a: once a directory, once something else"),
        ([other(b"a", Kind.LINK, target=b"/etc"), file(b"a/f")], "a: something lies below it"),
    ],
)
def test_what_no_stream_can_become_is_refused_and_leaves_nothing(
    user: Converter, tree: Sequence[Entry], message: str
) -> None:
    """T2: nothing is ever written through a link."""
    with (user.directory / "x.tar").open("wb") as out:
        tar_writer.write(iter(tree), out)
    done = user(user.directory / "x.tar", "x.sif", "sif")
    assert done.returncode == 255
    assert message in done.stderr.splitlines()[-1]
    assert not (user.directory / "x.sif").exists()
    assert list((user.directory / "tmp").iterdir()) == []


def test_what_launches_expect_is_added_and_what_is_there_stays(user: Converter) -> None:
    zone = b"TZif2 of a place"
    with (user.directory / "x.tar").open("wb") as out:
        tar_writer.write(
            iter(
                [
                    other(b".singularity.d", Kind.DIRECTORY, mode=0o700, uid=9),
                    file(b".singularity.d/runscript", b"#!/bin/sh\necho hi\n", mode=0o755, uid=5),
                    file(b".singularity.d/labels.json", b'{"own": "label"}'),
                    other(b"usr/bin/hi", Kind.HARD_LINK, target=b".singularity.d/runscript"),
                    other(b"etc/resolv.conf", Kind.LINK, mode=0o777, target=b"../run/there/resolv.conf"),
                    other(b"etc/localtime", Kind.LINK, mode=0o777, target=b"/usr/share/zoneinfo/Somewhere"),
                    file(b"usr/share/zoneinfo/Else", zone),
                    other(b"usr/share/zoneinfo/Somewhere", Kind.LINK, mode=0o777, target=b"Else"),
                    other(b"tmp", Kind.LINK, mode=0o777, target=b"var/tmp"),
                ]
            ),
            out,
        )
    found = look(user.does(user.directory / "x.tar", "x.sif", "sif"))
    assert found[b".singularity.d/runscript"].owner == (5, 0)
    assert found[b"usr/bin/hi"].digest == found[b".singularity.d/runscript"].digest
    assert found[b".singularity.d"].mode == 0o700
    assert (found[b"etc/resolv.conf"].kind, found[b"tmp"].target) == (Kind.LINK, b"var/tmp")
    assert found[b"etc/localtime"].digest == hashlib.sha256(zone).hexdigest()
    assert found[b"singularity"].target == b".singularity.d/runscript"
    assert {b"proc", b"sys", b"dev", b".singularity.d/actions/exec", b".singularity.d/env/90-environment.sh"} <= set(
        found
    )
    assert found[b"usr/bin"] == replace(found[b"usr/bin"], mode=0o755, owner=(0, 0))


def test_what_squashfs_cannot_hold_is_said(user: Converter) -> None:
    with (user.directory / "x.tar").open("wb") as out:
        acl = {b"system.posix_acl_access": bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000000ffffffff")}
        tar_writer.write(
            iter([file(b"old", mtime=-5 * SECOND), file(b"new", mtime=(1 << 33) * SECOND, xattrs=acl)]), out
        )
    done = user(user.directory / "x.tar", "x.sif", "sif")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 2
    assert "2 times" in warnings[0]
    assert "1 access control lists" in warnings[1]
    found = look(user.directory / "x.sif")
    assert (found[b"old"].time, found[b"new"].time) == (0, (1 << 32) - 1)


def test_what_squashfs_cannot_hold_is_said_of_directories_too(root: Converter) -> None:
    """mksquashfs lets such times wrap around, and drops the lists in silence."""
    box = root.directory / "box"
    box.mkdir()
    for name in ("old", "new"):
        (box / name).write_text(name)
    os.utime(box / "old", ns=(0, -5 * SECOND))
    access = bytes.fromhex("0200000001000600ffffffff02000400e80300000400040000000000100004000000000020000000ffffffff")
    os.setxattr(box / "new", "system.posix_acl_access", access)
    done = root(box, "x.sif", "sif")
    assert done.returncode == 0, done.stderr
    warnings = [line.partition("x.sif: ")[2] for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert warnings == [
        "1 times before 1970 or after 2106 are left out: squashfs cannot hold them",
        "1 access control lists are left out: squashfs cannot hold them",
    ]
    assert look(root.directory / "x.sif")[b"old"].time == 0
    assert (box / "old").stat().st_mtime_ns == -5 * SECOND


def typed(person: Converter, *words: str | Path) -> str:
    """`singularity build WORDS...`, which succeeds; what it says."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "singularity", "build", *words],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(person.directory / "tmp"), "HOME": str(person.directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=replace(PEOPLE[person.name], cwd=person.directory).enter,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("target", ["x.sif", "x.squashfs", "x.ext3", "x.tar.gz"])
def test_converting_image_files_needs_no_user_namespace(user: Converter, sources: Path, target: str) -> None:
    typed(user, target, sources / "x.sif")
    assert set(look(sources / "x.sif")) <= set(look(user.directory / target))


def test_a_second_name_of_a_device_does_not_end_unpacking(storage: Path, tmp_path: Path) -> None:
    """unsquashfs would end there, where the device itself cannot be made."""
    user = converter(storage, tmp_path, "user")
    null = replace(file(b"null").member, kind=Kind.CHARACTER_DEVICE, size=0, device=os.makedev(1, 3))
    again = replace(null, path=b"other", kind=Kind.HARD_LINK, target=b"null", device=0)
    with (user.directory / "x.tar").open("wb") as out:
        tar_writer.write(iter([Entry(null), Entry(again), file(b"last")]), out)
    os.chown(user.directory / "x.tar", ALICE.uid, ALICE.gid)
    typed(user, "x.sif", "x.tar")
    said = typed(user, "--sandbox", "box", "x.sif")
    assert "WARNING" not in said
    found = look(user.directory / "box")
    assert {b"last", b"null", b"other"} <= found.keys()


def test_sif_to_sif_is_a_copy_of_the_partition_and_what_is_said_of_it(user: Converter, sources: Path) -> None:
    user.does(sources / "x.sif", "y.sif", "sif")
    images = [identify(path) for path in (sources / "x.sif", user.directory / "y.sif")]
    kinds = (sif.DataType.DEFINITION, sif.DataType.GENERIC_JSON, sif.DataType.PARTITION)
    contents = []
    for image in images:
        assert image.content is not None
        with image.path.open("rb") as opened:
            found = {(each.type, each.name): sif.read_object(opened, each) for each in image.content.descriptors}
        contents.append(found)
    assert {kind for kind, _ in contents[0]} >= set(kinds)
    assert contents[0] == contents[1]
    assert user("y.sif", "z.sif", "sif", "--compression", "gzip").returncode == 0
    assert look(user.directory / "z.sif") == look(user.directory / "y.sif")


def test_squashfs_to_squashfs_is_a_copy_of_the_bytes(user: Converter, sources: Path) -> None:
    made = user.does(sources / "x.sif", "made", "squashfs")
    partition = identify(sources / "x.sif").root
    with (sources / "x.sif").open("rb") as image:
        image.seek(partition.offset)
        assert made.read_bytes() == image.read(partition.size)


def test_the_target_is_as_it_was_when_the_archive_is_cut_off(user: Converter, sources: Path) -> None:
    """F3: whole, or as it was."""
    data = (sources / "x.tar.gz").read_bytes()
    (user.directory / "x.tar.gz").write_bytes(data[: len(data) // 2])
    target = user.directory / "x.sif"
    target.write_bytes(b"old")
    done = user(user.directory / "x.tar.gz", "x.sif", "sif", "--force")
    assert done.returncode == 255
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in user.directory.iterdir()) == ["tmp", "x.sif", "x.tar.gz"]


def test_nothing_is_replaced_without_being_told_to(user: Converter, sources: Path) -> None:
    (user.directory / "x.sif").write_bytes(b"old")
    done = user(sources / "x.tar", "x.sif", "sif")
    assert done.returncode == 255
    assert "exists (--force replaces it)" in done.stderr


def test_memory_does_not_grow_with_the_image(user: Converter) -> None:
    """Below 60 MiB, with a file larger than that and a hundred thousand names."""

    def tree() -> Iterator[Entry]:
        piece = bytes(1 << 20)
        yield Entry(Member(path=b"large", kind=Kind.FILE, mode=0o644, size=400 << 20), (piece for _ in range(400)))
        for number in range(100_000):
            yield file(b"d%d/file-with-a-name-%d" % (number // 1000, number))

    with (user.directory / "x.tar").open("wb") as out:
        tar_writer.write(tree(), out)
    done = user(user.directory / "x.tar", "x.sif", "sif", "--memory")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60


def test_names_are_known_without_being_kept() -> None:
    names = streaming.Names()
    for number in range(20_000):
        names.add(Member(path=b"a/%d" % number, kind=Kind.FILE, mode=0o644))
    assert all(b"a/%d" % number in names for number in range(20_000))
    assert not any(b"b/%d" % number in names for number in range(20_000))
    assert names.implied == {b"a"}
    names.add(Member(path=b"a", kind=Kind.DIRECTORY, mode=0o755))
    assert names.implied == set()
    with pytest.raises(streaming.RepeatedError):
        names.add(Member(path=b"a/7", kind=Kind.FILE, mode=0o644))


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_the_root_directory_of_a_file_system_that_is_written(tmp_path: Path, mode: int) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number, uid in enumerate((0, 5, 6)):
        (tree / str(number)).touch()
        os.chown(tree / str(number), uid, uid)
    image = tmp_path / "x.sqfs"
    subprocess.run(["mksquashfs", tree, image, "-noI", "-quiet", "-no-progress"], check=True, capture_output=True)
    with image.open("r+b") as file:
        wanted = squashfs_root.Attributes(mode=mode, uid=5, gid=6, time=77)
        assert squashfs_root.set_attributes(file.fileno(), 0, wanted)
        nobody = replace(wanted, uid=99)
        assert look(image)[b""] == replace(look(image)[b""], mode=mode, owner=(5, 6), time=77)
        assert not squashfs_root.set_attributes(file.fileno(), 0, nobody)
    assert look(image)[b""].owner == (0, 6)


def test_compressed_tables_are_noticed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x" * 100)
    image = tmp_path / "x.sqfs"
    subprocess.run(["mksquashfs", tree, image, "-quiet", "-no-progress"], check=True, capture_output=True)
    attributes = squashfs_root.Attributes(mode=0o755, uid=0, gid=0, time=0)
    with image.open("r+b") as written, pytest.raises(ImageError, match="compressed"):
        squashfs_root.set_attributes(written.fileno(), 0, attributes)


@pytest.mark.needs("packer")
def test_archives_are_packed_for_a_start_and_have_no_whiteouts(user: Converter) -> None:
    """By our own packer, as if the archive were the one layer of an image."""
    text = b"easily compressed\n" * 20_000
    with (user.directory / "x.tar").open("wb") as out:
        tar_writer.write(iter([file(b"usr/lib/libc.so.6", text), file(b"a/.wh.b", b"one"), file(b"a/b", b"two")]), out)
    made = user.does(user.directory / "x.tar", "x.sif", "sif")
    assert made.read_bytes().count(text) == 1
    assert {b"a/.wh.b", b"a/b", b"usr/lib/libc.so.6"} <= set(look(made))
    typed(user, "--compression", "gzip", "y.sif", "x.tar")
    assert text not in (user.directory / "y.sif").read_bytes()
