"""T1 to T4, T7: whatever an archive says, only its target is written; and what callers may keep, they keep."""

from __future__ import annotations

import ast
import dataclasses
import io
import itertools
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trees
from ordinary_user import World
from trees import directory, file, hard_link, link

from singularity.errors import FileError, ImageError
from singularity.files import remove_tree
from singularity.image import directory as directories
from singularity.image import marks
from singularity.image.archive import tar, tar_writer
from singularity.image.archive.policy import Loss, Modes, Parents, Policy, Special
from singularity.image.archive.unpack import Unpacker, unpack
from singularity.image.tree import Entry, Kind, Segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    (path / "dir").mkdir(parents=True)
    (path / "secret").write_text("of the host")
    (path / "dir" / "file").write_text("too")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "target"
    path.mkdir()
    yield path
    remove_tree(path)  # which may be deeper than others can remove


def put(target: Path, *entries: Entry, parents: Parents = Parents.REPLACE) -> None:
    unpack(iter(entries), target, dataclasses.replace(Policy.of_caller(), parents=parents))


def null(path: bytes) -> Entry:
    return Entry(trees.member(path, Kind.CHARACTER_DEVICE, device=os.makedev(1, 3)))


def fifo(path: bytes) -> Entry:
    return Entry(trees.member(path, Kind.FIFO))


OUT = b"@"  # stands for the absolute path of `outside`
HOSTILE: dict[str, list[Entry]] = {
    "a file through an absolute link": [link(b"a", OUT), file(b"a/new", b"x")],
    "a file over one through a link": [link(b"a", OUT), file(b"a/secret", b"x")],
    "a file through a relative link": [link(b"a", b"../outside"), file(b"a/secret", b"x")],
    "a file through a link with a slash": [link(b"a", OUT + b"/"), file(b"a/secret", b"x")],
    "a file through links of links": [link(b"a", b"b"), link(b"b", b"c"), link(b"c", OUT), file(b"a/secret", b"x")],
    "a file deep below a link": [link(b"a", OUT), file(b"a/dir/file", b"x")],
    "new directories through a link": [link(b"a", OUT), file(b"a/n/e/w", b"x")],
    "a directory through a link": [link(b"a", OUT), directory(b"a/made")],
    "a directory over the link's target": [link(b"a", OUT), directory(b"a/dir", 0o777, mtime=5)],
    "a directory over a link": [link(b"a", OUT + b"/dir"), directory(b"a", 0o777, mtime=5), file(b"a/file", b"x")],
    "a directory under a link inside one": [directory(b"d"), link(b"d/a", OUT), file(b"d/a/secret", b"x")],
    "a link through a link": [link(b"a", OUT), link(b"a/secret", b"/etc/passwd")],
    "a file over a link": [link(b"a", OUT + b"/secret"), file(b"a", b"x", mtime=5, mode=0o777)],
    "a file over a dangling link": [link(b"a", OUT + b"/new"), file(b"a", b"x")],
    "a file twice over a link": [link(b"a", OUT + b"/secret"), file(b"a", b"x"), link(b"a", OUT), file(b"a/b", b"x")],
    "a hard link through a link": [link(b"a", OUT), hard_link(b"b", b"a/secret"), file(b"b", b"x")],
    "a hard link below a link": [link(b"a", OUT), hard_link(b"a/b", b"a/secret")],
    "a hard link to a link, then written": [link(b"a", OUT + b"/secret"), hard_link(b"b", b"a"), file(b"b", b"x")],
    "a hard link to a directory": [directory(b"a"), hard_link(b"b", b"a"), file(b"b/x", b"x")],
    "a hard link to nothing": [hard_link(b"b", b"nothing")],
    "a hard link to itself": [hard_link(b"b", b"b")],
    "a hard link over a directory with its target": [file(b"d/f", b"x"), hard_link(b"d", b"d/f")],
    "a hard link over a link": [file(b"f", b"x"), link(b"a", OUT + b"/secret"), hard_link(b"a", b"f")],
    "a hard link through a file": [file(b"f", b"x"), hard_link(b"b", b"f/x")],
    "a device as a directory": [null(b"d"), file(b"d/x", b"x")],
    "a named pipe as a directory": [fifo(b"p"), file(b"p/x", b"x")],
    "a file as a directory": [file(b"f", b"x"), file(b"f/x", b"x")],
    "a device through a link": [link(b"a", OUT), null(b"a/null")],
    "a named pipe over a link": [link(b"a", OUT + b"/secret"), fifo(b"a")],
    "a device over a link": [link(b"a", OUT + b"/secret"), null(b"a")],
    "a link that becomes a directory, and again a link": [
        link(b"a", OUT),
        directory(b"a"),
        file(b"a/secret", b"x"),
        link(b"a", OUT),
        directory(b"a/dir", 0o700, mtime=5),
    ],
    "a directory that becomes a link before its times are set": [
        directory(b"a", 0o777, mtime=5),
        file(b"a/f", b"x"),
        link(b"a", OUT + b"/dir"),
    ],
    "a parent that becomes a link before times are set": [
        directory(b"a/dir", 0o777, mtime=5),
        file(b"a/dir/f", b"x"),
        link(b"a", OUT),
    ],
    "a directory, kept open, that becomes a link": [file(b"a/1", b"x"), link(b"a", OUT), file(b"a/2", b"x")],
    "a deep directory, kept open, under one that becomes a link": [
        file(b"a/dir/1", b"x"),
        link(b"a", OUT),
        file(b"a/dir/2", b"x"),
    ],
    "attributes of a link": [Entry(trees.member(b"a", Kind.LINK, 0o777, target=OUT + b"/secret", uid=5, mtime=5))],
    "attributes through a link": [
        link(b"a", OUT + b"/secret"),
        Entry(trees.member(b"a", Kind.LINK, 0o777, target=OUT + b"/secret", xattrs={b"user.x": b"y"})),
    ],
    "links in a circle": [link(b"a", b"b"), link(b"b", b"a"), file(b"a/x", b"x")],
    "a link to itself": [link(b"a", b"a"), file(b"a/x", b"x"), hard_link(b"c", b"a/x")],
    "through proc": [link(b"a", b"/proc/self/root"), file(b"a/tmp/singularity-test-escape", b"x")],
    "through proc's working directory": [link(b"a", b"/proc/self/cwd"), file(b"a/escape", b"x")],
    "link targets with everything": [link(b"a", b"../" * 200 + b"etc/passwd"), file(b"a/x", b"x")],
    "a thousand directories deep": [file(b"d/" * 1000 + b"f", b"x"), link(b"d", OUT), file(b"d/secret", b"x")],
}


def _pointed(entries: Sequence[Entry], outside: Path) -> list[Entry]:
    place = os.fsencode(outside)
    return [
        Entry(dataclasses.replace(e.member, target=e.member.target.replace(OUT, place)), tuple(e.data)) for e in entries
    ]


@pytest.mark.parametrize("parents", Parents)
@pytest.mark.parametrize("name", HOSTILE)
def test_t1_t2_t3_nothing_outside_the_target_is_touched(
    name: str, parents: Parents, target: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(target.parent)
    around = {path: seen for path, seen in trees.look(target.parent).items() if not path.startswith(b"target")}
    names = set(os.listdir("/tmp"))
    try:
        put(target, *_pointed(HOSTILE[name], outside), parents=parents)
    except (ImageError, FileError) as error:
        assert "\n" not in str(error)
    now = {path: seen for path, seen in trees.look(target.parent).items() if not path.startswith(b"target")}
    assert {**now, b"": None} == {**around, b"": None}
    assert not [each for each in set(os.listdir("/tmp")) - names if "escape" in each]


@pytest.mark.parametrize("name", HOSTILE)
def test_t2_links_among_directories_can_be_refused(name: str, target: Path, outside: Path) -> None:
    entries = _pointed(HOSTILE[name], outside)
    through = any(
        later.member.path.startswith(each.member.path + b"/")
        for each, later in itertools.combinations(entries, 2)
        if each.member.kind is Kind.LINK
    )
    if through and "becomes a directory" not in name and "over a link" not in name:
        with pytest.raises(ImageError):
            put(target, *entries, parents=Parents.REFUSE)


def test_t2_a_link_on_the_way_is_replaced(target: Path, outside: Path) -> None:
    put(target, link(b"a", os.fsencode(outside)), file(b"a/secret", b"new"))
    assert not (target / "a").is_symlink()
    assert (target / "a" / "secret").read_text() == "new"
    assert (target / "a").stat().st_mode & 0o7777 == 0o755


def test_t2_a_link_on_the_way_can_be_followed_inside(target: Path, outside: Path) -> None:
    place = os.fsencode(outside)
    (target / place.decode().lstrip("/")).mkdir(parents=True)
    entries = [
        directory(b"usr/lib", 0o750, mtime=7),
        link(b"lib", b"usr/lib"),
        link(b"up", b"../../../../../usr"),
        link(b"out", place),
        link(b"nowhere", b"not/there"),
        file(b"lib/a/b", b"1"),
        directory(b"lib/a", 0o700, mtime=9),
        file(b"up/lib/c", b"2"),
        file(b"out/d", b"3"),
        file(b"nowhere/e", b"4"),
        hard_link(b"f", b"lib/c"),
    ]
    policy = dataclasses.replace(Policy.of_caller(), parents=Parents.FOLLOW)
    made: list[bytes] = []
    with Unpacker(target, policy, on_made=made.append) as unpacker:
        for entry in entries:
            unpacker.add(entry)
        unpacker.finish()
    assert os.readlink(target / "lib") == "usr/lib"
    assert (target / "usr/lib/a/b").read_text() == "1"
    assert (target / "usr/lib/a").stat().st_mtime_ns == 9
    assert (target / "usr/lib").stat().st_mtime_ns == 7
    assert (target / "f").read_text() == "2"
    assert (target / str(outside).lstrip("/") / "d").read_text() == "3"
    assert (target / "nowhere" / "e").read_text() == "4"
    assert sorted(os.listdir(outside)) == ["dir", "secret"]
    assert b"usr/lib/a/b" in made
    assert b"lib/a/b" not in made


@pytest.mark.parametrize("parents", Parents)
def test_t6_removing_and_listing_follow_no_link(target: Path, outside: Path, parents: Parents) -> None:
    (target / "dir" / "sub").mkdir(parents=True)
    (target / "dir" / "file").write_text("x")
    (target / "link").symlink_to("dir")
    (target / "out").symlink_to(outside)
    with Unpacker(target, dataclasses.replace(Policy.of_caller(), parents=parents)) as unpacker:
        for path in (b"link/file", b"out/secret", b"out/dir", b"dir/file/x", b"nothing", b"nothing/x"):
            unpacker.remove(path)
        assert unpacker.names(b"link") == unpacker.names(b"out") == unpacker.names(b"nothing") == []
        assert unpacker.names(b"dir") == [b"file", b"sub"]
        assert sorted(os.listdir(outside)) == ["dir", "secret"]
        unpacker.remove(b"out")
        unpacker.remove(b"dir")
    assert os.listdir(target) == ["link"]
    assert sorted(os.listdir(outside)) == ["dir", "secret"]


def test_without_openat2_everything_is_the_same() -> None:
    """The same tests, where the kernel refuses openat2 with ENOSYS, as kernels before 5.6 do."""
    if os.environ.get("WITHOUT_OPENAT2"):
        return
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import syscalls, pytest;"
        "syscalls.refuse([syscalls.Refusal('openat2')]);"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-k', 't1 or t2 or t3 or later', sys.argv[2]]))"
    )
    argv = [sys.executable, "-c", program, str(TESTS), __file__]
    env = {**os.environ, "WITHOUT_OPENAT2": "1"}
    result = subprocess.run(argv, env=env, cwd=TESTS.parent, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(result.stdout.split(" passed")[0].split()[-1]) > 100, result.stdout


def test_t3_hard_links_are_made_to_what_is_in_the_root(target: Path) -> None:
    (target / "old").write_text("of before")
    put(
        target,
        file(b"a", b"1"),
        hard_link(b"b", b"a"),
        hard_link(b"c", b"old"),
        link(b"l", b"a"),
        hard_link(b"m", b"l"),
    )
    assert (target / "b").stat().st_ino == (target / "a").stat().st_ino
    assert (target / "c").read_text() == "of before"
    assert os.readlink(target / "m") == "a"
    for wrong in (
        hard_link(b"x", b"nothing"),
        hard_link(b"x", b"a/y"),
        hard_link(b"x", b"l/y"),
        hard_link(b"x", b"no/y"),
    ):
        with pytest.raises(ImageError, match=r"hard link to .*, which is not there"):
            put(target, wrong)
    (target / "d").mkdir()
    with pytest.raises(ImageError, match="hard link to a directory"):
        put(target, hard_link(b"x", b"d"))


def test_later_members_take_the_place_of_earlier_ones(target: Path) -> None:
    (target / "dir" / "sub").mkdir(parents=True)
    (target / "dir" / "sub" / "file").write_text("old")
    (target / "kept").mkdir()
    (target / "kept" / "file").write_text("old")
    put(
        target,
        file(b"dir", b"now a file"),
        directory(b"kept", 0o700, mtime=77),
        file(b"kept/new", b"new"),
        file(b"twice", b"1"),
        file(b"twice", b"two"),
        file(b"again/x", b"x"),
        link(b"again", b"kept"),
        directory(b"again"),
    )
    assert (target / "dir").read_text() == "now a file"
    assert sorted(os.listdir(target / "kept")) == ["file", "new"]
    assert (target / "kept").stat().st_mode & 0o7777 == 0o700
    assert (target / "kept").stat().st_mtime_ns == 77
    assert (target / "twice").read_text() == "two"
    assert os.listdir(target / "again") == []


def test_directories_that_nobody_may_write_arrive_whole(target: Path) -> None:
    put(target, directory(b"", 0o555), directory(b"a", 0), directory(b"a/b", 0o111), file(b"a/b/c", b"x", mode=0))
    assert (target / "a").lstat().st_mode & 0o7777 in (0, 0o700)
    (target / "a").chmod(0o755)
    (target / "a" / "b").chmod(0o755)
    (target / "a" / "b" / "c").chmod(0o644)
    assert (target / "a" / "b" / "c").read_text() == "x"


def test_attributes_that_were_there_or_are_inherited_go(target: Path) -> None:
    (target / "d").mkdir()
    os.setxattr(target / "d", "user.old", b"x")
    os.setxattr(target / "d", "system.posix_acl_default", trees.ACL)
    put(target, file(b"d/file", b"x"), directory(b"d/sub"), directory(b"d", xattrs={b"user.new": b"y"}))
    assert os.listxattr(target / "d") == ["user.new"]
    assert os.listxattr(target / "d" / "file") == os.listxattr(target / "d" / "sub") == []
    assert (target / "d" / "file").stat().st_mode & 0o7777 == 0o644


def test_attributes_of_an_overlay_are_never_set(target: Path) -> None:
    names = (b"trusted.overlay.redirect", b"user.overlay.opaque", b"user.fuseoverlayfs.opaque", b"security.selinux")
    put(target, directory(b"d", xattrs=dict.fromkeys(names, b"y")), file(b"f", xattrs=dict.fromkeys(names, b"y")))
    assert os.listxattr(target / "d") == os.listxattr(target / "f") == []


def test_holes_stay_holes(target: Path) -> None:
    segments = (Segment(offset=8192, size=3), Segment(offset=(10 << 30) - 5, size=5))
    member = trees.member(b"s", size=11 << 30, segments=segments)
    report = unpack(iter([Entry(member, (b"abcEND", b"ED"))]), target)
    assert report.size == 8
    status = (target / "s").stat()
    assert status.st_size == 11 << 30
    assert status.st_blocks * 512 <= 64 << 10
    with (target / "s").open("rb") as data:
        data.seek(8192)
        assert data.read(3) == b"abc"
        data.seek((10 << 30) - 5)
        assert data.read(5) == b"ENDED"


@pytest.mark.parametrize("data", [(b"",), (b"1234",), (b"123", b"456"), (b"12", b"345", b"6")])
def test_data_of_another_size_than_announced_is_an_error(target: Path, data: tuple[bytes, ...]) -> None:
    with pytest.raises(ImageError, match="announced"):
        unpack(iter([Entry(trees.member(b"f", size=5), data)]), target)


def test_t3_the_system_itself_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    for path in (Path("/"), Path("/proc/self/root"), Path("/etc/.."), tmp_path / "link"):
        with pytest.raises(FileError, match="root of this system"):
            unpack(iter([]), path)
    with pytest.raises(FileError, match="No such file"):
        unpack(iter([]), tmp_path / "nowhere")


def test_special_files_can_be_left_out(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy(owners=False, devices=Special.LEAVE_OUT, pipes=Special.LEAVE_OUT, modes=Modes.REMOVABLE)
    entries = [
        null(b"a"),
        null(b"b"),
        fifo(b"c"),
        hard_link(b"d", b"a"),
        hard_link(b"e", b"d"),
        file(b"f", b"x", mode=0o4555),
        directory(b"g", 0o2500),
    ]
    report = unpack(iter(entries), target, policy)
    assert sorted(os.listdir(target)) == ["f", "g"]
    assert report.left_out == {Loss.DEVICES: 2, Loss.PIPES: 1, Loss.SETID: 1} | (
        {Loss.OWNERS: 2} if os.geteuid() else {}
    )
    assert len(caplog.messages) == len(report.left_out)
    assert f"{target}: 2 device nodes are left out: only root makes them" in caplog.messages
    assert (target / "f").stat().st_mode & 0o7777 == 0o755
    assert (target / "g").stat().st_mode & 0o7777 == 0o2700


@pytest.mark.needs("root")
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    from ordinary_user import MNT_DETACH, _libc, mount

    small = tmp_path / "small"
    small.mkdir()
    mount("tmpfs", small, "tmpfs", data="size=1m")
    try:
        with pytest.raises(FileError) as caught:
            unpack(iter([file(b"a", bytes(1000)), file(b"big/file", bytes(3 << 20))]), small)
        assert str(caught.value) == f"{small}/big/file: No space left on device"
    finally:
        assert _libc.umount2(os.fsencode(small), MNT_DETACH) == 0


# The callers

UNPACK = """
import sys
from pathlib import Path
from singularity.image.archive import tar, unpack
from singularity.namespaces import fakeroot
if sys.argv[3] == "root":
    fakeroot.become_root()
with open(sys.argv[1], "rb") as file:
    report = unpack.unpack(tar.read(file, "x.tar"), Path(sys.argv[2]))
print({loss.name: count for loss, count in report.left_out.items()})
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    trees.fill(path, privileged=True)
    return path


@pytest.fixture
def archived(source: Path, storage: Path, request: pytest.FixtureRequest) -> Path:
    path = storage / f"{request.node.name.replace('[', '-')}.tar"
    with path.open("wb") as out:
        tar_writer.write(directories.read(source), out)
    return path


def _as_alice(archived: Path, target: Path, role: str, world: World) -> dict[str, int]:
    """What was left out when an ordinary user unpacked an archive, as herself or as root of her own."""
    os.chown(target, world.account.uid, world.account.gid)
    argv = [sys.executable, "-I", "-c", UNPACK, str(archived), str(target), role]
    done = subprocess.run(
        argv, preexec_fn=world.enter, env=world.environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return dict(ast.literal_eval(done.stdout))


@pytest.fixture
def hers(storage: Path, request: pytest.FixtureRequest) -> Path:
    path = storage / f"hers-{request.node.name}"
    path.mkdir()
    return path


@pytest.mark.needs("root")
def test_an_ordinary_user_gets_the_content_and_may_remove_it(source: Path, archived: Path, hers: Path) -> None:
    world = World()
    losses = _as_alice(archived, hers, "herself", world)
    found, wanted = trees.look(hers), trees.look(source)
    left_out = {path for path, seen in wanted.items() if seen.kind in ("CHARACTER_DEVICE", "BLOCK_DEVICE", "FIFO")}
    sockets = {path for path, seen in wanted.items() if seen.kind == "SOCKET"}
    assert set(found) == set(wanted) - left_out - sockets
    for path, seen in found.items():
        assert (seen.uid, seen.gid) == (world.account.uid, world.account.gid)
        assert (seen.size, seen.digest, seen.target, seen.mtime, seen.names) == (
            wanted[path].size,
            wanted[path].digest,
            wanted[path].target,
            wanted[path].mtime,
            wanted[path].names,
        )
        if seen.kind == "FILE":
            assert seen.mode == wanted[path].mode & ~0o6000 | 0o600
        elif seen.kind == "DIRECTORY":
            assert seen.mode == wanted[path].mode | 0o700
    assert found[b"etc/passwd"].xattrs == wanted[b"etc/passwd"].xattrs
    members = sum(len(seen.names) < 2 or seen.names[0] == path for path, seen in found.items())
    assert losses == {"OWNERS": members, "DEVICES": 2, "PIPES": 1, "SETID": 2, "CAPABILITIES": 1, "XATTRS": 1}
    remove = ["sh", "-c", f"rm -rf {hers}/*"]
    subprocess.run(remove, preexec_fn=world.enter, env=world.environment(), check=True, timeout=60)
    assert os.listdir(hers) == []


@pytest.mark.needs("root", "userns", "newuidmap")
def test_root_of_a_user_namespace_keeps_what_its_ids_allow(source: Path, archived: Path, hers: Path) -> None:
    world = World()
    losses = _as_alice(archived, hers, "root", world)
    found, wanted = trees.look(hers), trees.look(source)

    def outside(number: int) -> int:
        return world.account.uid if number == 0 else 1_000_000 + number - 1

    for path, seen in found.items():
        want = wanted[path]
        is_device = "DEVICE" in want.kind
        if is_device or want.uid > 65_536 or want.gid > 65_536:  # no such id in her range
            mark = marks.read(hers / os.fsdecode(path))
            assert (seen.uid, seen.mode) == (world.account.uid, want.mode)
            assert mark
            assert (mark.uid, mark.gid) == (want.uid, want.gid)
            assert not is_device or (seen.kind, mark.device) == ("FILE", want.device)
            continue
        assert (seen.uid, seen.gid, seen.mode) == (outside(want.uid), outside(want.gid), want.mode)
        assert (seen.kind, seen.digest, seen.target, seen.mtime) == (want.kind, want.digest, want.target, want.mtime)
    assert set(found) == {p for p, seen in wanted.items() if seen.kind != "SOCKET"}
    assert losses == {"XATTRS": 1}


@pytest.mark.needs("root", "userns")
def test_root_of_a_namespace_with_one_id_remembers_owners(source: Path, archived: Path, hers: Path) -> None:
    nothing = archived.with_suffix(".empty")
    nothing.write_text("")
    world = World(replaced={Path("/etc/subuid"): nothing, Path("/etc/subgid"): nothing})
    losses = _as_alice(archived, hers, "root", world)
    found, wanted = trees.look(hers), trees.look(source)
    assert {seen.uid for seen in found.values()} == {world.account.uid}
    for path, seen in found.items():
        want, mark = wanted[path], marks.read(hers / os.fsdecode(path))
        assert seen.mode == want.mode
        if seen.kind in ("FILE", "DIRECTORY"):
            assert (mark.uid, mark.gid) == (want.uid, want.gid) if mark else want.uid == want.gid == 0
            assert (mark.device if mark else 0) == want.device
    assert losses == {"UNMAPPED_OWNERS": 2, "XATTRS": 1, "ACLS": 2}  # of a link and a pipe


@pytest.mark.needs("root")
def test_root_keeps_everything(source: Path, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        report = unpack(directories.read(source), target)
    assert trees.look(target) == trees.look(source)
    assert (report.left_out, caplog.messages) == ({}, [])
    assert report.members == len(trees.look(source))


@pytest.mark.needs("root")
def test_times_that_the_file_system_moves_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ext3 begins in 1901 and ends in 2446; the kernel takes the nearest time and says nothing."""
    image, root = tmp_path / "image", tmp_path / "root"
    root.mkdir()
    with image.open("xb") as new:
        new.truncate(4 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext3", "-I", "256", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, root], check=True)
    far, old = 1 << 36, -(1 << 33)
    tree = [
        file(b"far", b"x", mtime=far * 10**9),
        directory(b"old", mtime=old * 10**9),
        Entry(trees.member(b"link", Kind.LINK, 0o777, target=b"far", mtime=old * 10**9)),
        file(b"kept", b"x", mtime=-(10**9)),
    ]
    try:
        with caplog.at_level(logging.WARNING):
            report = unpack(iter(tree), root, name=Path("box.img"))
    finally:
        subprocess.run(["umount", root], check=True)
    assert report.left_out == {Loss.TIMES: 3}
    what = "3 files have times that the file system has no room for: the nearest that it has is taken"
    assert caplog.messages == [f"box.img: {what}"]


def test_a_damaged_archive_stops_where_it_is_damaged(target: Path) -> None:
    data = trees.archive(file(b"a", b"1"), file(b"b", bytes(200_000)))
    with pytest.raises(ImageError, match="ends in the middle"):
        unpack(tar.read(io.BytesIO(data[:100_000]), "x.tar"), target)
    assert (target / "a").read_text() == "1"
