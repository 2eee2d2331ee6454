"""A directory as a stream: all that is in it, in one order, without following links or leaving it."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trees
from ordinary_user import MNT_DETACH, World, _libc, bind, mount

from singularity.errors import FileError
from singularity.files import remove_tree
from singularity.image import directory, marks
from singularity.image.archive import tar_writer
from singularity.image.archive.unpack import unpack
from singularity.image.tree import Kind, Member, Segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "root"
    path.mkdir()
    yield path
    remove_tree(path)  # which may be deeper than others can remove


def read(root: Path, **options: bool) -> dict[bytes, tuple[Member, bytes]]:
    return trees.members(directory.read(root, **options))


def test_everything_is_there_in_the_order_of_bytes(root: Path) -> None:
    trees.fill(root, privileged=os.geteuid() == 0)
    (root / "sparse").unlink()  # its holes would be data here
    members = [entry.member for entry in directory.read(root)]
    assert {member.path for member in members} == set(trees.look(root))
    assert members[0].path == b""
    assert [m.path.split(b"/") for m in members[1:]] == sorted(m.path.split(b"/") for m in members[1:])
    links = {m.path: m.target for m in members if m.kind is Kind.HARD_LINK}
    assert links == {b"usr/bin/tool": b"etc/another", b"usr/bin/tool-2": b"etc/another"}


def test_holes_are_no_data(root: Path) -> None:
    trees._sparse(root / "s", ((0, b"a" * 4096), (1 << 20, b"b" * 5000)), size=9 << 30)
    trees._sparse(root / "hole", (), size=1 << 20)
    (root / "full").write_bytes(b"c" * 100_000)
    found = read(root)
    member, data = found[b"s"]
    assert member.segments is not None
    assert [each.offset for each in member.segments] == [0, 1 << 20]
    assert len(data) == sum(each.size for each in member.segments) < 20_000
    assert found[b"hole"][0].segments == ()
    assert found[b"full"][0].segments is None


def test_hard_links_are_found_though_some_names_are_elsewhere(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x")
    for name in ("b", "a", "dir/c"):
        (root / name).parent.mkdir(exist_ok=True)
        os.link(tmp_path / "elsewhere", root / name)
    (root / "l1").symlink_to("a")
    os.link(root / "l1", root / "l2", follow_symlinks=False)
    kinds = {path: (m.kind, m.target) for path, (m, _) in read(root).items()}
    assert kinds[b"a"] == (Kind.FILE, b"")
    assert kinds[b"b"] == kinds[b"dir/c"] == (Kind.HARD_LINK, b"a")
    assert kinds[b"l1"] == (Kind.LINK, b"a")
    assert kinds[b"l2"] == (Kind.HARD_LINK, b"l1")


def test_attributes_of_one_machine_stay_behind(root: Path) -> None:
    (root / "f").write_text("x")
    names = ["user.kept", "user.overlay.opaque"]
    if os.geteuid() == 0:
        names += ["trusted.kept", "trusted.overlay.redirect", "security.capability", "security.other"]
    for name in names:
        os.setxattr(root / "f", name, trees.CAPABILITY)
    assert set(read(root)[b"f"][0].xattrs) == {n.encode() for n in names if "kept" in n or "capab" in n}


def test_a_file_that_shrinks_or_grows_is_what_was_announced(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("grows", "shrinks"):
        (root / name).write_bytes(b"x" * 3_000_000)
    found = {}
    for entry in directory.read(root):
        if entry.member.kind is Kind.FILE:
            data = iter(entry.data)
            first = next(data)
            os.truncate(
                root / os.fsdecode(entry.member.path), 1_500_000 if entry.member.path == b"shrinks" else 4_000_000
            )
            found[entry.member.path] = first + b"".join(data)
    assert found == {b"grows": b"x" * 3_000_000, b"shrinks": b"x" * 1_500_000 + bytes(1_500_000)}
    assert caplog.messages == [f"{root}/{name}: changed its size while it was read" for name in ("grows", "shrinks")]


def test_what_goes_away_while_it_is_read_is_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c"):
        (root / name).write_text(name)
    entries = directory.read(root)
    next(entries)
    next(entries)
    (root / "b").unlink()
    assert [entry.member.path for entry in entries] == [b"c"]
    assert caplog.messages == [f"{root}: 1 files went away while the directory was read"]


def test_a_directory_of_a_thousand_levels(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("f", os.O_CREAT, dir_fd=fd))
    os.close(fd)
    before, limits = len(os.listdir("/proc/self/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        assert b"d/" * 1500 + b"f" in read(root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_that_no_archive_may_hold_is_an_error(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    for _ in range(17):
        os.mkdir("d" * 255, dir_fd=fd)
        below = os.open("d" * 255, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(FileError, match="a path longer than 4096 bytes"):
        read(root)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere: No such file"):
        next(directory.read(tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="Not a directory"):
        next(directory.read(tmp_path / "file"))


@pytest.fixture
def mounted(root: Path) -> Iterator[Path]:
    (root / "proc").mkdir()
    (root / "with space").mkdir()
    (root / "file").write_text("of the root")
    mount("tmpfs", root / "proc", "tmpfs")
    (root / "proc" / "inside").write_text("x")
    (root / "other").mkdir()
    (root / "other" / "x").write_text("x")
    bind(root / "other", root / "with space")
    yield root
    for name in ("proc", "with space"):
        assert _libc.umount2(os.fsencode(root / name), MNT_DETACH) == 0


@pytest.mark.needs("root")
def test_what_is_mounted_inside_is_left_out_unless_asked_for(mounted: Path) -> None:
    assert set(read(mounted)) == {b"", b"proc", b"with space", b"file", b"other", b"other/x"}
    crossed = read(mounted, cross_mounts=True)
    assert {b"proc/inside", b"with space/x"} <= set(crossed)


READ = """
import sys
from pathlib import Path
from singularity.errors import FileError
from singularity.image import directory, marks
try:
    found = {e.member.path: (e.member.mode, b"".join(e.data)) for e in directory.read(Path(sys.argv[1]))}
except FileError as error:
    found = str(error)
print(found)
"""


def as_alice(path: Path) -> dict[bytes, tuple[int, bytes]] | str:
    world = World()
    argv = [sys.executable, "-I", "-c", READ, str(path)]
    done = subprocess.run(
        argv, preexec_fn=world.enter, env=world.environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[bytes, tuple[int, bytes]] | str = ast.literal_eval(done.stdout) if "{" in done.stdout else done.stdout
    return found


@pytest.mark.needs("root")
def test_an_owner_reads_what_only_modes_keep_from_her(storage: Path) -> None:
    root = storage / "hers-to-read"
    (root / "closed" / "deep").mkdir(parents=True)
    (root / "closed" / "deep" / "f").write_text("secret")
    for path, mode in ((root / "closed/deep/f", 0), (root / "closed/deep", 0o111), (root / "closed", 0), (root, 0o755)):
        os.chown(path, World().account.uid, World().account.gid)
        path.chmod(mode)
    assert as_alice(root) == {
        b"": (0o755, b""),
        b"closed": (0, b""),
        b"closed/deep": (0o111, b""),
        b"closed/deep/f": (0, b"secret"),
    }
    assert {path: seen.mode for path, seen in trees.look(root).items()} == {
        b"": 0o755,
        b"closed": 0,
        b"closed/deep": 0o111,
        b"closed/deep/f": 0,
    }
    os.chown(root / "closed/deep/f", 0, 0)
    assert as_alice(root) == f"{root}/closed/deep/f: Permission denied\n"


@pytest.mark.needs("root")
def test_a_tree_read_and_unpacked_is_the_same_tree(root: Path, tmp_path: Path) -> None:
    trees.fill(root, privileged=True)
    (tmp_path / "again").mkdir()
    assert unpack(directory.read(root), tmp_path / "again").left_out == {}
    assert trees.look(tmp_path / "again") == trees.look(root)
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    for path, source in ((first, root), (second, tmp_path / "again")):
        with path.open("wb") as out:
            tar_writer.write(directory.read(source), out)
    assert first.read_bytes() == second.read_bytes()


def test_small_parts_of_a_file_are_segments(root: Path) -> None:
    trees._sparse(root / "s", ((8192, b"x" * 4096),), size=16384)
    member = read(root)[b"s"][0]
    assert member.segments == (Segment(offset=8192, size=4096),)


@pytest.mark.needs("root")
def test_roots_word_is_what_only_root_can_write(root: Path) -> None:
    """An owner or a device that others have written into a file of root's is none, for the packer of squashfs too."""
    for name, owner, mode in (("all", 0, 0o666), ("hers", 1000, 0o600), ("own", 0, 0o600)):
        path = root / name
        path.write_text("")
        path.chmod(mode)
        os.chown(path, owner, owner)
        os.setxattr(path, marks.NAME, b"0 0 b 8 0")
    kinds = {entry.member.path: entry.member.kind for entry in directory.read(root)}
    assert (kinds[b"all"], kinds[b"hers"], kinds[b"own"]) == (Kind.FILE, Kind.FILE, Kind.BLOCK_DEVICE)
    found = list(marks.definitions(root, [str(root / name) for name in ("all", "hers", "own")]))
    assert [line.split()[0] for line in found] == [b"own"]
    assert (root / "all").exists()
    assert marks.read(root / "all") is None
