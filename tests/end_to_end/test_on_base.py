"""Images that hold only what differs from another one: launched over the right bytes, and nothing less is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from images import write

from singularity.image import base
from singularity.image.identify import identify
from singularity.image.sif import edit
from singularity.image.sif import format as sif
from singularity.image.sif.edit import Addition
from singularity.image.sif.format import DataType, Filesystem, PartitionType
from singularity.trust import signers
from singularity.trust.sign import sign
from singularity.trust.ssh import SshSeal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images import Images
    from launching import Launcher

pytestmark = pytest.mark.needs("installation", "root", "mksquashfs", "userns", "fuse")

LOOK = (
    "cat /etc/image-name /new; cat /etc/both; test ! -e /etc/gone && test ! -e /etc/directory && echo gone; "
    "cat /etc/was-directory /etc/was-file/in; ls /etc/emptied | wc -l; echo $SINGULARITY_NAME $SINGULARITY_CONTAINER"
)
SEEN = ["busybox of the tests", "new", "mine", "gone", "a file", "a directory", "0"]


def build(*words: str | Path, status: int = 0, **env: str) -> str:
    """`singularity build ...` by root; what it said."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "singularity", *words],
        env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stderr


class Pair:
    """A base, and an image on it, in directories of their own."""

    def __init__(self, place: Path, images: Images) -> None:
        self.place = place
        tree = place / "tree"
        shutil.copytree(images.sandbox, tree, symlinks=True)
        for name in ("gone", "directory/in", "was-directory/in", "was-file", "emptied/in"):
            write(tree / "etc" / name, "of the base\n")
        write(tree / "etc/both", "base\n")
        write(tree / "etc/of-base", "base\n")
        self.base = place / "bases/base.sif"
        self.base.parent.mkdir()
        build("build", self.base, tree)
        for name in ("directory", "was-directory"):
            shutil.rmtree(tree / "etc" / name)
        for name in ("gone", "was-file", "emptied/in"):
            (tree / "etc" / name).unlink()
        write(tree / "etc/was-directory", "a file\n")
        write(tree / "etc/was-file/in", "a directory\n")
        write(tree / "etc/both", "mine\n")
        write(tree / "new", "new\n")
        write(tree / "upper/of-its-own", "no overlay's\n")  # a directory of that name is an overlay's own
        self.tree = tree
        self.mine = place / "mine.sif"
        build("build", "--on", self.base, self.mine, tree)


@pytest.fixture(scope="module")
def made(storage: Path, images: Images) -> Iterator[Pair]:
    place = storage / "on-base"
    place.mkdir()
    yield Pair(place, images)
    shutil.rmtree(place)


@pytest.fixture
def pair(made: Pair, directory: Path) -> Pair:
    """The two, copied, so that nothing is known of them."""
    copied = object.__new__(Pair)
    copied.place, copied.tree = directory, made.tree
    copied.base, copied.mine = directory / "bases/base.sif", directory / "mine.sif"
    copied.base.parent.mkdir(exist_ok=True)
    shutil.copy(made.base, copied.base)
    shutil.copy(made.mine, copied.mine)
    return copied


def launch_ids(launch: Launcher) -> tuple[int, int]:
    return launch.account.uid, launch.account.gid


def _record(path: Path) -> str:
    """What is remembered of a file that was read."""
    status = path.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {path}\n"


def at(launch: Launcher, pair: Pair) -> Launcher:
    return launch.with_env(SINGULARITY_BASEPATH=str(pair.base.parent))


def test_both_are_seen_as_one(launch: Launcher, pair: Pair) -> None:
    """New, changed and removed files, files in place of directories, and the reverse; the name is the image's."""
    assert pair.mine.stat().st_size < pair.base.stat().st_size // 4
    for _ in range(2):  # the second time nobody looks for the base
        done = at(launch, pair)("exec", pair.mine, "sh", "-c", LOOK).ok()
        assert done.lines == [*SEEN, f"mine.sif {pair.mine}"]
    assert launch("exec", pair.mine, "cat", "/upper/of-its-own").ok().out == "no overlay's\n"
    assert launch("run", pair.mine).ok()
    plan = launch("exec", "--dry-run", pair.mine, "true").ok().out
    assert f"{pair.mine}, offset" in plan
    assert "an image on a base" in plan


def test_what_is_remembered_is_what_the_file_is(launch: Launcher, pair: Pair, images: Images) -> None:
    """Of a file with the same inode, size and times nothing is read again; of any other, all."""
    records = launch.home / ".singularity/cache/bases"
    at(launch, pair)("exec", pair.mine, "true").ok()
    (record,) = records.iterdir()
    other = Path(shutil.copy(images.sif, pair.place / "other.sif"))
    record.write_text(_record(other))
    script = "test -e /etc/of-base || echo another"
    assert launch("exec", pair.mine, "sh", "-c", script).ok().out == "another\n"  # it was believed
    record.chmod(0o666)  # somebody else's word, then
    launch("exec", pair.mine, "true").refused("its base base.sif (sha256:")
    record.chmod(0o600)
    os.chown(record, 4242, 4242)
    launch("exec", pair.mine, "true").refused("its base base.sif (sha256:")
    os.chown(record, *launch_ids(launch))
    launch("exec", pair.mine, "true").ok()
    os.utime(other)
    launch("exec", pair.mine, "true").refused("its base base.sif (sha256:")
    record.write_bytes(b"1 2 3\nnonsense\n" + b"9" * 70_000)
    at(launch, pair)("exec", pair.mine, "sh", "-c", LOOK).ok()


def test_a_strangers_base_is_remembered_for_his_images_alone(launch: Launcher, pair: Pair, images: Images) -> None:
    """Who has run an image of his would run what he makes of its base from then on, in images of anybody else's."""
    theirs = Path(shutil.copy(pair.mine, pair.place / "theirs.sif"))
    beside = Path(shutil.copy(pair.base, pair.place / "base.sif"))
    changed = Path(shutil.copy(images.sif, pair.place / "other.sif"))
    for each in (theirs, beside, changed):
        os.chown(each, 4242, 4242)
    launch("exec", theirs, "true").ok()
    (record,) = (launch.home / ".singularity/cache/bases").iterdir()
    assert record.name == f"{base.digest_of(pair.base)}.others"
    record.write_text(_record(changed))  # as if it had been changed without a trace
    script = "test -e /etc/of-base || echo another"
    assert launch("exec", theirs, "sh", "-c", script).ok().out == "another\n"
    beside.unlink()
    assert launch("exec", theirs, "sh", "-c", script).ok().out == "another\n"
    os.chown(theirs, *launch_ids(launch))
    launch("exec", theirs, "true").refused("its base base.sif (sha256:")
    assert at(launch, pair)("exec", theirs, "sh", "-c", script).ok().out == ""


def test_no_other_file_is_its_base(launch: Launcher, pair: Pair) -> None:
    digest = base.digest_of(pair.base)
    launch("exec", pair.mine, "true").refused(
        f"its base base.sif (sha256:{digest})", str(pair.place), "SINGULARITY_BASEPATH"
    )
    beside = pair.place / "base.sif"
    data = bytearray(pair.base.read_bytes())
    data[len(data) // 2] ^= 1
    beside.write_bytes(data)
    launch("exec", pair.mine, "true").refused(f"{beside} is another file")
    shutil.copy(pair.base, beside)
    launch("exec", pair.mine, "true").ok()
    with beside.open("r+b") as file:  # in place, after it was found good
        file.seek(len(data) // 2)
        file.write(data[len(data) // 2 : len(data) // 2 + 1])
    os.utime(beside, ns=(0, pair.base.stat().st_mtime_ns))
    launch("exec", pair.mine, "true").refused(f"{beside} is another file")


def test_a_strangers_file_in_a_directory_of_all_is_no_base(pair: Pair, tmp_path: Path) -> None:
    """Its bytes are right while they are read: whose it is can change them without a trace, by a mapping of tmpfs."""
    said = base.of_path(pair.mine)
    assert said is not None
    beside, mine = tmp_path / "base.sif", tmp_path / "mine.sif"
    shutil.copy(pair.base, beside)
    shutil.copy(pair.mine, mine)
    tmp_path.chmod(0o1777)
    if os.geteuid() == 0:
        os.chown(beside, 54321, -1)
        with pytest.raises(base.MissingError, match="a stranger's, in a directory where anybody writes"):
            base.find(mine, said)
        os.chown(mine, 54321, -1)  # whoever made the image is none
        assert base.find(mine, said) == beside
        os.chown(mine, 0, -1)
        tmp_path.chmod(0o755)
    assert base.find(mine, said) == beside


def test_where_it_is_found(launch: Launcher, pair: Pair) -> None:
    """By its bytes: in a directory of the variable, by any name; beside the image; in a directory of the site's."""
    moved = pair.base.rename(pair.base.with_name("of any name"))
    at(launch, pair)("exec", pair.mine, "true").ok()
    launch.with_env(SINGULARITY_BASEPATH=f"/nowhere:{moved}")("exec", pair.mine, "true").ok()
    store = pair.place / "store"
    store.mkdir()
    moved.rename(store / "b.sif")
    launch("exec", pair.mine, "true").refused("its base")
    launch.configured(f"base path = /nowhere, {store}\n")("exec", pair.mine, "true").ok()
    launch("exec", pair.mine, "true").ok()  # it is known by now
    for name in ("sp ace 'and' \"quotes\" \\ %s", "na\u00efve"):
        odd = pair.place / name
        odd.mkdir()
        shutil.copy(store / "b.sif", odd / "\u2603 .sif")
        shutil.copy(pair.mine, odd / "of the user's")
        fresh = launch.with_env(SINGULARITY_CACHEDIR=str(launch.home / f"cache-{len(name)}"))
        for _ in range(2):
            assert fresh("exec", odd / "of the user's", "cat", "/new").ok().out == "new\n"
    line = pair.place / "new\nline"
    line.mkdir()
    shutil.copy(store / "b.sif", line)
    apart = launch.with_env(SINGULARITY_CACHEDIR=str(launch.home / "apart"), SINGULARITY_BASEPATH=str(line))
    assert "its base base.sif" in apart("exec", pair.mine, "true").err  # records are lines
    link = pair.place / "link.sif"
    link.symlink_to(pair.mine)
    (store / "b.sif").rename(pair.place / "c.sif")
    assert launch("exec", link, "sh", "-c", "echo $SINGULARITY_NAME").ok().out == "link.sif\n"


def test_where_nothing_can_be_remembered_it_is_read_each_time(launch: Launcher, pair: Pair) -> None:
    unwritable = launch.with_env(SINGULARITY_CACHEDIR="/proc/nowhere")
    for _ in range(2):
        done = at(unwritable, pair)("exec", pair.mine, "sh", "-c", "cat /new; env | grep -c RECORDS")
        assert done.out == "new\n0\n", str(done)


def test_what_is_written_goes_over_both(launch: Launcher, pair: Pair) -> None:
    over = pair.place / "over"
    over.mkdir(mode=0o777)
    over.chmod(0o777)
    launch = at(launch, pair)
    launch("exec", "--writable", pair.mine, "true").refused("only what differs from its base", "--writable-tmpfs")
    launch(
        "exec",
        "--writable-tmpfs",
        pair.mine,
        "sh",
        "-c",
        "cat /etc/both /etc/of-base; ls /etc/gone 2>/dev/null || true",
    ).ok()
    name = "etc/both" if launch.world.account.uid == 0 else "new-of-the-caller"
    write(over / "upper" / name, "over\n")
    assert launch("exec", "--overlay", f"{over}:ro", pair.mine, "cat", f"/{name}").ok().out == "over\n"


def test_images_on_images(launch: Launcher, pair: Pair) -> None:
    """A directory that is gone in the middle, and there again above, has nothing of the lowest."""
    tree = pair.place / "tree"
    shutil.copytree(pair.tree, tree, symlinks=True)
    below, names = pair.mine, []
    for number in range(base.LIMIT - 1):
        shutil.rmtree(tree / "etc/emptied", ignore_errors=True)
        if number % 2:
            write(tree / f"etc/emptied/{number}", "")
        write(tree / "new", f"{number}\n")
        image = pair.place / f"on-{number}.sif"
        build("build", "--on", below, image, tree, SINGULARITY_BASEPATH=str(pair.base.parent))
        names.append(image)
        below = image
    done = at(launch, pair)(
        "exec", names[2], "sh", "-c", "cat /new; ls -d /etc/emptied 2>/dev/null; cat /etc/was-file/in"
    )
    assert done.out == "2\na directory\n", str(done)
    done = at(launch, pair)("exec", names[-2], "sh", "-c", "cat /new; ls /etc/emptied").ok()
    assert done.lines == [str(base.LIMIT - 3)] * 2
    at(launch, pair)("exec", names[-1], "true").ok()
    text = build("build", "--on", below, pair.place / "one-more.sif", tree, status=255,
                 SINGULARITY_BASEPATH=str(pair.base.parent))  # fmt: skip
    assert f"{base.LIMIT} images on each other already" in text


@pytest.mark.modes("suid", "userns")
def test_signatures_are_asked_of_both(launch: Launcher, pair: Pair, tmp_path: Path) -> None:
    """R-S1: no image gets to run what is not signed by lying on it, or under it."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "signer", "-f", key], check=True)
    place = launch.config_path.parent / f"on-base-{os.getpid()}"
    place.write_text("\n".join(signers.lines(key.with_suffix(".pub"))) + "\n")
    try:
        strict = at(launch, pair).configured(f"require signature = {place}\n")
        strict("exec", pair.mine, "true").refused("not signed, or by nobody")
        sign(pair.mine, SshSeal(str(key)))
        strict("exec", pair.mine, "true").refused(str(pair.base), "not signed, or by nobody")
        shutil.copy(pair.base, pair.place / "unsigned.sif")
        sign(pair.base, SshSeal(str(key)))  # other bytes now: the image names the unsigned ones
        strict("exec", pair.mine, "true").refused("unsigned.sif", "not signed, or by nobody")
        again = pair.place / "again.sif"
        build("build", "--on", pair.base, again, pair.tree)
        strict("exec", again, "true").refused(str(again), "not signed, or by nobody")
        sign(again, SshSeal(str(key)))
        assert strict("exec", again, "cat", "/new").ok().out == "new\n"
        other = pair.place / "other.sif"
        build("build", other, pair.tree)
        sign(other, SshSeal(str(key)))
        _named(again, b"base:sha256:" + base.digest_of(other).encode())  # both signed, but not for each other
        records = launch.home / ".singularity/cache/bases" / base.digest_of(other)
        records.write_text(_record(other))
        os.chown(records, *launch_ids(launch))
        records.chmod(0o600)
        strict("exec", again, "true").refused(str(again), "is not the one that was signed")
        _named(again, b"base:sha256:" + base.digest_of(pair.base).encode())
        strict("exec", again, "true").ok()
        with again.open("r+b") as file:
            file.seek(next(each for each in _objects(again) if each.type == DataType.PARTITION).offset + 200)
            file.write(b"XXXX")
        assert strict("exec", again, "cat", "/new").status != 0
    finally:
        place.unlink()


@pytest.mark.modes("suid")
def test_limits_are_asked_of_both(launch: Launcher, pair: Pair) -> None:
    """R-I6: whose images may run, and from where, goes for what lies on them as well."""
    for allowed, refused in ((pair.mine, pair.base), (pair.base, pair.mine)):
        os.chown(refused, 4242, 4242)
        at(launch, pair).configured("limit container owners = root\n")("exec", pair.mine, "true").refused("4242")
        os.chown(refused, 0, 0)
        assert allowed.owner() == "root"
    limited = at(launch, pair).configured(f"limit container paths = {pair.base.parent}\n")
    limited("exec", pair.mine, "true").refused("not allowed in this place")
    at(launch, pair).configured("enable overlay = no\n")("exec", pair.mine, "true").refused(
        "an image on a base", "enable overlay"
    )


def _objects(path: Path) -> tuple[sif.Descriptor, ...]:
    with path.open("rb") as file:
        return sif.read(file).descriptors


def _named(path: Path, name: bytes) -> None:
    """Gives the primary partition of a SIF file another name."""
    with path.open("r+b") as file:
        content = sif.read(file)
        index = next(n for n, each in enumerate(content.descriptors) if each == content.primary())
        file.seek(sif.row_offset(content.header, index) + 73)
        file.write(name.ljust(128, b"\0"))


def test_images_that_lie_about_their_base(launch: Launcher, pair: Pair) -> None:
    """None leads to a file of records of another name, or runs without its base."""
    digest, senseless = base.digest_of(pair.base), "what it says of its base makes no sense"
    mark, path = b"base:sha256:", b"../../../../../../../etc/passwd"
    for name in (mark + b"0" * 64, mark + path, mark, mark + digest.encode() + b"0"):
        _named(pair.mine, name)
        at(launch, pair)("exec", pair.mine, "true").refused(senseless)
    _named(pair.mine, b"")
    assert at(launch, pair)("exec", pair.mine, "true").status != 0  # nothing but a directory "upper"
    assert senseless in build("diff", pair.mine, pair.base, status=255)
    _named(pair.mine, mark + digest.encode())
    at(launch, pair)("exec", pair.mine, "true").ok()
    extra = sif.partition_extra(Filesystem.SQUASHFS, PartitionType.OVERLAY, "amd64")
    with edit.editing(pair.mine) as editor, pair.tree.joinpath("etc/both").open("rb") as source:
        editor.add(Addition(type=DataType.PARTITION, group=1, extra=extra), source)
    at(launch, pair)("exec", pair.mine, "true").refused("")


@pytest.mark.modes("root")
def test_a_base_is_a_file_that_nobody_writes(launch: Launcher, pair: Pair, images: Images) -> None:
    del launch
    for below, why in (
        (pair.tree, "a directory, and no base"),
        (images.extfs(), "and no base"),
        (images.sif_with_overlay, "with an overlay partition"),
        (pair.place / "none.sif", "no such image"),
    ):
        assert why in build("build", "--on", below, pair.place / "x.sif", pair.tree, status=255)
    for option, word in (("--sandbox", "sandbox"), ("--erofs", "erofs"), ("--format=tar", "tar")):
        assert word in build("build", option, "--on", pair.base, pair.place / "x", pair.tree, status=1)
    identified = identify(pair.mine)
    assert base.of(identified) is not None
