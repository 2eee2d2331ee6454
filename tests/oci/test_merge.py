"""Layers as one stream: the same root file system that unpacking them makes, and that umoci makes, file by file."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import stacks
from builders import LAYER, Layout, described, layer, unpacked_by_umoci
from converters import Converter, converter, differences, look

from singularity.content.platform import Platform
from singularity.errors import ImageError, SingularityError
from singularity.image import contents
from singularity.image.archive import tar_writer
from singularity.image.archive.unpack import unpack
from singularity.image.identify import identify
from singularity.image.tree import Entry, Kind, Member, Segment
from singularity.oci import image, layers, local, merge
from singularity.oci.index import LayerIndex, decode, index_layer, index_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from singularity.content.digest import Checked

WANTED = Platform(os="linux", architecture="amd64")
Described = dict[str, tuple[object, ...]]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    info.mode, info.mtime = (0o755 if kind == tarfile.DIRTYPE else 0o644), 1_400_000_000
    for key, value in more.items():
        setattr(info, key, value)
    return info


def directory(name: str, **more: object) -> tarfile.TarInfo:
    return member(name, tarfile.DIRTYPE, **more)


def hard(name: str, to: str) -> tarfile.TarInfo:
    return member(name, tarfile.LNKTYPE, to)


def link(name: str, to: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, to)


def noted(value: str) -> dict[str, str]:
    return {"SCHILY.xattr.user.note": value}


LOW = [
    directory("./", mode=0o751, uid=3, gid=4, mtime=1_111_111_111),
    directory("white", mtime=1_222_222_222),
    *(member(f"white/{name}", size=4) for name in ("gone", "kept", "again")),
    directory("white/tree", uid=9),
    directory("white/tree/deep"),
    member("white/tree/deep/file", size=9),
    directory("opaque", mtime=1_200_000_000),
    directory("opaque/sub"),
    *(member(f"opaque/{name}", size=1) for name in ("one", "two", "sub/three")),
    directory("hard"),
    member("hard/one", size=700, uid=7, gid=8, pax_headers=noted("shared")),
    hard("hard/two", "hard/one"),
    member("hard/removed", size=77, mode=0o4755),
    member("hard/replaced", size=78),
    hard("hard/of-replaced", "hard/replaced"),
    directory("swap"),
    member("swap/file", size=5),
    directory("swap/directory"),
    member("swap/directory/in", size=6),
    link("swap/link", "directory"),
    directory("usr"),
    directory("usr/lib"),
    member("usr/lib/old", size=3),
    link("lib", "usr/lib"),
    link("absolute", "/usr/lib"),
    link("up", "../../../usr"),
    directory("twice"),
    member("twice/file", size=10),
    member("twice/file", size=20, uid=5),
    directory("twice/d", mode=0o700),
    directory("twice/d", mode=0o711, gid=6),
    link("twice/d2", "d"),
    directory("twice/d2", mode=0o1777),
    directory("kinds"),
    member("kinds/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    member("kinds/loop", tarfile.BLKTYPE, devmajor=7, devminor=9),
    member("kinds/pipe", tarfile.FIFOTYPE),
    member("kinds/setuid", size=3, mode=0o6755, uid=0),
    member("kinds/closed", size=3, mode=0, uid=1000, gid=1000),
    member("kinds/" + "n" * 255, size=1),
    member("kinds/attributes", size=1, pax_headers=noted("binary \\x01") | {"SCHILY.xattr.user.more": "m"}),
    member("kinds/time", size=1, pax_headers={"mtime": "1234567890.123456789"}),
    member("kinds/before", size=1, pax_headers={"mtime": "-1234567890.5"}),
    link("kinds/nowhere", "no/where"),
    directory("kinds/shut", mode=0),
    member("kinds/shut/in", size=2),
]
MIDDLE = [
    member("white/.wh.gone"),
    member("white/.wh.tree"),
    directory("opaque", mtime=1_300_000_000),
    member("opaque/new", size=2),
    member("opaque/.wh..wh..opq"),
    directory("opaque/sub"),
    member("opaque/sub/four", size=4),
    hard("hard/three", "hard/one"),
    hard("usr/lib/four", "hard/removed"),
    member("hard/.wh.removed"),
    member("hard/replaced", size=11),
    hard("hard/two-again", "hard/two"),
    directory("swap/file"),
    member("swap/file/in", size=7),
    member("swap/directory", size=8),
    member("swap/link", size=9),
    member("lib/through", size=12, uid=2),
    member("absolute/through-too", size=13),
    hard("up/lib/hard", "lib/through"),
    link("kinds/pipe", "null"),
    directory("kinds", mode=0o700, pax_headers=noted("of a directory")),
]
HIGH = [
    member("white/gone", size=40),
    directory("white/tree"),
    member("white/.wh.again"),
    member("hard/.wh.one"),
    link("swap/file", "/etc"),
    member("swap/.wh.directory"),
    directory("swap/directory"),
    member("swap/directory/back", size=14),
    directory("swap/link"),
    member("usr/lib/.wh.old"),
    member(".wh..wh.aufs"),
    directory("./", mode=0o755, mtime=1_333_333_333),
]


def sparse(name: bytes) -> bytes:
    """A layer with a file of 1 MiB, all but four bytes of which are holes."""
    segments = (Segment(offset=1 << 19, size=4),)
    entry = Entry(Member(path=name, kind=Kind.FILE, mode=0o600, size=1 << 20, segments=segments), (b"data",))
    out = io.BytesIO()
    tar_writer.write(iter([entry]), out)
    return out.getvalue()


def hard_cases(layout: Layout, middle: str = "gzip") -> None:
    """The image of them, with an empty layer, twice the same one: the first compressed by gzip, the last not at all."""
    stack = [layer(*LOW), layer(), layer(*MIDDLE), sparse(b"sparse"), layer(*HIGH), layer()]
    packed = subprocess.run([middle, "-qc"], input=stack[2], capture_output=True, check=True).stdout
    stored = [*map(gzip.compress, stack[:2]), packed, *stack[3:]]
    types = [f"{LAYER}+gzip", f"{LAYER}+gzip", f"{LAYER}+{middle}", LAYER, LAYER, LAYER]
    layout.add(layout.image(stack, stored=stored, types=types), "t")


def merged(layout: Layout, root: Path, indexed: Callable[[image.Layer], LayerIndex] = index_layer) -> Described:
    root.mkdir()
    with local.opened("oci", str(layout.path), WANTED, root.parent) as found:
        unpack(merge.merged(found, indexed), root)
    return described(root)


def unpacked(layout: Layout, root: Path) -> Described:
    root.mkdir()
    with local.opened("oci", str(layout.path), WANTED, root.parent) as found:
        layers.unpack(found, root)
    return described(root)


def owned(root: Path) -> tuple[int, int, int, int]:
    status = root.stat()
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns


@pytest.mark.needs("root", "umoci")
def test_hard_cases_are_merged_as_they_are_unpacked_and_as_umoci_does(layout: Layout, tmp_path: Path) -> None:
    hard_cases(layout)
    found = merged(layout, tmp_path / "merged")
    assert found == unpacked(layout, tmp_path / "unpacked")
    assert found == described(unpacked_by_umoci(layout.path))
    assert owned(tmp_path / "merged") == owned(tmp_path / "reference/rootfs")
    assert (tmp_path / "merged/sparse").stat().st_blocks < 100
    assert found["usr/lib/four"][0] == oct(0o104755)  # its only other name is gone
    assert found["hard/two"][-1] == ("hard/three", "hard/two", "hard/two-again")
    assert "usr/lib/through" in found
    assert not any("/.wh." in f"/{name}" for name in found)


@pytest.mark.needs("root")
def test_stacks_of_layers_by_chance_are_merged_as_they_are_unpacked(tmp_path: Path) -> None:
    """Errors too: what cannot be unpacked cannot be merged."""
    seen: Counter[bool] = Counter()
    for seed in range(200):
        chance = random.Random(seed)  # noqa: S311 - to be had again
        layout = Layout(tmp_path / f"layout{seed}")
        layout.add(layout.image([stacks.layer(chance) for _ in range(chance.randint(1, 4))]))
        results: list[object] = []
        for number, make in enumerate((merged, unpacked)):
            place = tmp_path / f"{seed}-{number}"
            try:
                results.append((make(layout, place), owned(place)[:3]))
            except SingularityError as error:
                results.append(type(error))
        assert results[0] == results[1], seed
        seen[isinstance(results[0], tuple)] += 1
    assert min(seen.values()) > 40


@pytest.mark.needs("root", "umoci")
def test_whiteouts_behind_links_act_inside_the_root_as_umoci_has_it(tmp_path: Path) -> None:
    """R-T6."""
    seen: Counter[bool] = Counter()
    for seed in range(60):
        place = tmp_path / str(seed)
        place.mkdir()
        layout = Layout(place / "layout")
        stack = stacks.linked(random.Random(seed))  # noqa: S311 - to be had again
        layout.add(layout.image(stack), "t")
        try:
            found = unpacked(layout, place / "unpacked")
            assert found == merged(layout, place / "merged"), seed
        except ImageError as error:
            assert "links in a circle" in str(error)
            with pytest.raises(ImageError, match="links in a circle"):
                merged(layout, place / "merged")
            argv = ["umoci", "unpack", "--image", f"{layout.path}:t", place / "refused"]
            assert subprocess.run(argv, capture_output=True, check=False).returncode != 0
            continue
        wanted = described(unpacked_by_umoci(layout.path))
        assert found.keys() == wanted.keys(), seed
        lower = Layout(place / "lower")
        lower.add(lower.image(stack[:1]))
        seen[unpacked(lower, place / "lowest").keys() - found.keys() != set()] += 1
    assert seen[True] > 15


def test_an_index_is_small_and_is_all_that_the_first_reading_is_for(layout: Layout, tmp_path: Path) -> None:
    hard_cases(layout)
    opened: Counter[str] = Counter()
    with local.opened("oci", str(layout.path), WANTED, tmp_path) as found:
        kept = {each.content: index_layer(each).encode() for each in found.layers}

        def counting(each: image.Layer) -> image.Layer:
            def open_() -> Checked:
                opened[each.name] += 1
                return each.open()

            return replace(each, open=open_)

        counted = replace(found, layers=tuple(counting(each) for each in found.layers))
        names = [each.member for each in merge.merged(counted, lambda each: decode(kept[each.content]))]
        assert names == [each.member for each in merge.merged(found)]
        assert set(opened.values()) == {1}
        assert opened.total() == len(found.layers)
    assert max(map(len, kept.values())) < 20 * len(LOW) + 100


@pytest.mark.parametrize("at", [0, 30, 70, 200, -1])
def test_a_damaged_index_is_refused(at: int) -> None:
    whole = index_tree(iter([Entry(Member(path=b"%d" % n, kind=Kind.FILE, mode=0)) for n in range(200)])).encode()
    assert decode(whole).count == 200
    data = bytearray(whole)
    data[at] ^= 1
    for bad in (bytes(data), whole[:at], b""):
        with pytest.raises(ImageError, match="damaged index"):
            decode(bad)


def test_an_index_of_another_layer_is_noticed(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image([layer(("a", b"a"), ("b", b"b"))]))
    for others in ([b"a"], [b"a", b"b", b"c"]):
        other = index_tree(iter([Entry(Member(path=name, kind=Kind.FILE, mode=0)) for name in others]))
        with pytest.raises(ImageError, match="2 members, but its index has"):
            merged(layout, tmp_path / str(len(others)), lambda _, other=other: other)  # type: ignore[misc]


MILLION = """
import sys
from singularity.image.tree import Entry, Kind, Member
from singularity.oci.index import index_tree
from singularity.oci.names import Names
count = int(sys.argv[1])
def entries():
    for number in range(count):
        path = b"usr/lib/python3/dist-packages/package-%d/a-module-of-this-name-%d.py" % (number // 10, number)
        if number % 10 == 0:
            yield Entry(Member(path=path.rpartition(b"/")[0], kind=Kind.DIRECTORY, mode=0o755, mtime=number * 10**9))
        yield Entry(Member(path=path, kind=Kind.FILE, mode=0o644))
def peak():  # getrusage(2) counts whoever forked us, too
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = peak()
names = Names()
names.lay(index_tree(entries()))
left = names.left()
assert sum(map(sum, left.fates)) == count
print((peak() - before) * 1024 // count)
"""


def test_names_that_would_fill_memory_are_refused(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-T5: directories that no member speaks of, one below the other, and links to long places."""
    monkeypatch.setattr("singularity.oci.names._TEXT_LIMIT", 10_000)
    deep = "/".join(["d"] * 100)
    below = [(f"{number}/{deep}", b"") for number in range(9)]
    links = [(f"{number}", "x/" * 500) for number in range(9)]
    for number, upper in enumerate((below, links)):
        other = type(layout)(tmp_path / f"layout{number}")
        other.add(other.image([layer(*upper[:1])]))
        merged(other, tmp_path / f"few{number}")
        other = type(layout)(tmp_path / f"more{number}")
        other.add(other.image([layer(*upper), layer(*[(f"more{name}", content) for name, content in upper])]))
        with pytest.raises(ImageError, match="the names of directories and links have more than"):
            merged(other, tmp_path / f"many{number}")


def test_a_file_takes_some_hundred_bytes_of_memory() -> None:
    """With its share of a directory: so a million stays below 200 MiB, with all else."""
    argv = [sys.executable, "-c", MILLION, "80000"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert int(done.stdout) < 150


# ---- what builds make of it ------------------------------------------------------------------------------------------
@pytest.fixture
def user(storage: Path, tmp_path: Path) -> Converter:
    return converter(storage, tmp_path, "user-without-namespaces")


def held(layout: Layout, storage: Path) -> Path:
    """The layout where an ordinary user reads it."""
    place = storage / "oci-conversions"
    place.mkdir(mode=0o755, exist_ok=True)
    return layout.path.rename(place / layout.path.parent.name)


@pytest.mark.needs("root", "mksquashfs", "mke2fs")
@pytest.mark.parametrize(("form", "middle"), [("sif", "zstd"), ("squashfs", "gzip"), ("ext3", "zstd"), ("tar", "gzip")])
def test_an_ordinary_user_gets_all_that_root_gets(
    layout: Layout, storage: Path, tmp_path: Path, user: Converter, form: str, middle: str
) -> None:
    """Owners, devices, set-uid programs and unreadable files, without privilege and without user namespaces."""
    hard_cases(layout, middle)
    merged(layout, tmp_path / "wanted")
    wanted = look(tmp_path / "wanted")
    made = user.does(f"oci:{held(layout, storage)}:t", f"made.{form}", form)
    found = look(made)
    if form in ("sif", "squashfs"):  # which has no times before 1970
        wanted[b"kinds/before"] = replace(wanted[b"kinds/before"], time=0)
    assert differences(found, wanted) == []
    assert found[b""].owner == wanted[b""].owner if b"" in wanted else (3, 4)
    assert found[b".singularity.d/oci-config.json"].kind is Kind.FILE


@pytest.mark.needs("root", "mksquashfs")
def test_what_layers_bring_of_ours_is_there_and_the_configuration_goes_before_it(
    layout: Layout, storage: Path, user: Converter
) -> None:
    lower = layer(
        (".singularity.d", None), (".singularity.d/own", b"own"), (".singularity.d/runscript", b"#!/bin/sh\n")
    )
    upper = layer(hard("usr", ".singularity.d/own"), (".singularity.d/labels.json", b'{"from": "layer"}'))
    layout.add(layout.image([lower, upper], config={"Cmd": ["/bin/tool"], "Labels": {"a": "b"}}))
    user.does(f"oci:{held(layout, storage)}", "made.sif", "sif")
    with contents.tree(identify(user.directory / "made.sif")) as tree:
        found = {each.member.path: b"".join(each.data) for each in tree}
    assert b"/bin/tool" in found[b".singularity.d/runscript"]
    assert b'"a": "b"' in found[b".singularity.d/labels.json"]
    assert found[b".singularity.d/own"] == b"own" or found[b"usr"] == b"own"


HOSTILE: dict[str, tuple[list[bytes], str]] = {
    "a name that leads out": ([layer(("../out", b""))], 'a name with ".." leads out'),
    "a name that ends in the root": ([layer(("a", b"")), layer(("a/..", b""))], 'a name with ".." leads out'),
    "a whiteout of nothing": ([layer(("a/.wh...", b""))], "no whiteout that can be"),
    "a file below a whiteout": ([layer((".wh.a/b", b""))], "a file below a whiteout"),
    "links in a circle": ([layer(("a", "b"), ("b", "a")), layer(("a/file", b""))], "links in a circle"),
    "a file below a file": ([layer(("a", b"")), layer(("a/b", b""))], "no directory, though another member"),
    "a hard link to what is not there": ([layer(hard("a", "/etc/passwd"))], "which is not there"),
    "a hard link that leads out": ([layer(("up", "../.."), hard("a", "up/etc/passwd"))], "which is not there"),
    "a hard link to a directory": ([layer(("d", None), hard("a", "d"))], "a hard link to a directory"),
    "a hard link to what it replaces": ([layer(("d", None), ("d/f", b""), hard("d", "d/f"))], "which is not there"),
    "a layer cut off": ([layer(("a", bytes(3000)))[:2000]], "ends in the middle"),
    "no archive": ([b"no archive" * 200], "checksum is no number: damaged"),
}


@pytest.mark.needs("root", "mksquashfs")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_layers_are_refused_in_one_line_and_leave_nothing(
    layout: Layout, storage: Path, user: Converter, name: str
) -> None:
    """R-T1 to R-T6."""
    stack, message = HOSTILE[name]
    layout.add(layout.image(stack))
    refused(user, f"oci:{held(layout, storage)}", message)


def refused(user: Converter, source: str, message: str) -> None:
    done = user(source, "x.sif", "sif")
    assert done.returncode == 255, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert done.stderr.count("FATAL") == 1
    assert "Traceback" not in done.stderr
    assert not (user.directory / "x.sif").exists()
    assert list((user.directory / "tmp").iterdir()) == []


@pytest.mark.needs("root", "mksquashfs")
@pytest.mark.parametrize("form", ["sif", "tar", "ext3"])
@pytest.mark.parametrize("lie", ["blob", "content", "cut off", "longer"])
def test_nothing_appears_when_a_blob_lies(layout: Layout, storage: Path, user: Converter, lie: str, form: str) -> None:
    """R-N2: what was written before the lie is known never gets a name."""
    data = layer(("usr", None), *((f"usr/{number}", os.urandom(100_000)) for number in range(20)))
    stored = gzip.compress(layer(("x", b"x"))) if lie == "content" else gzip.compress(data, 1)
    blob = layout.image([data], types=[LAYER + "+gzip"], stored=[stored])
    layout.add(blob)
    path = next(each for each in layout.path.glob("blobs/sha256/*") if each.read_bytes() == stored)
    if lie != "content":
        other = gzip.compress(layer(("x", b"x")))
        path.write_bytes({"blob": other, "cut off": stored[:-9], "longer": stored + b"more"}[lie])
    message = {
        "blob": "bytes are missing",
        "content": "decompressed: its content is not what sha256:",
        "cut off": "its last 9 bytes are missing",
        "longer": "longer than the",
    }[lie]
    done = user(f"oci:{held(layout, storage)}", f"x.{form}", form)
    assert done.returncode == 255, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert sorted(os.listdir(user.directory)) == ["tmp"]
    assert list((user.directory / "tmp").iterdir()) == []
