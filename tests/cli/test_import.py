"""`singularity import`: archives of every kind, over what an image has, with the same result for everybody."""

from __future__ import annotations

import io
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from containers import Found, by_two, contents, digest, ext3_image, in_turn
from images import hold, tool
from ordinary_user import ALICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from containers import Person

STANDARD = {
    ".singularity.d/env/01-base.sh",
    ".singularity.d/env/90-environment.sh",
    ".singularity.d/actions/exec",
    ".exec",
    "environment",
    "dev",
    "proc",
    "sys",
    "tmp",
    "etc/hosts",
    "etc/resolv.conf",
}
OURS = (".", "dev", "proc", "sys", "tmp", "var", "home", "mnt", "root", "singularity", "environment")
OUR_FILES = ("etc/hosts", "etc/resolv.conf", "etc/localtime")
ODD_NAMES = ("with space", 'quote\'s "two"', "line\nbreak", "$(touch evil)", b"\xff\xfe")


@pytest.fixture(scope="session")
def new_tree(storage: Path) -> Path:
    """What is imported: with owners, devices, links of both kinds, and over a file and a link of the image."""
    root = storage / "tree-to-import"
    for name in ("etc", "lib/deep", "srv"):
        (root / name).mkdir(parents=True)
    (root / "etc/settings").write_text("setting=2\n")
    (root / "lib/library").write_text("library\n")
    (root / "lib/deep/same").hardlink_to(root / "lib/library")
    (root / "srv/link").symlink_to("../etc/settings")
    (root / "srv/large").write_bytes(os.urandom(3_000_000))
    (root / "srv/closed").write_text("closed\n")
    (root / "srv/program").write_text("#!/bin/sh\n")
    os.mknod(root / "srv/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(root / "srv/pipe")
    os.chown(root / "srv/program", 4321, 65)
    (root / "srv/program").chmod(0o6755)
    (root / "srv/closed").chmod(0)
    os.chown(root / "srv", 1000, 1000)
    return root


@pytest.fixture(scope="session")
def archive(storage: Path, new_tree: Path) -> Path:
    path = storage / "import.tar"
    tool("tar", "-c", "--numeric-owner", "-f", path, "-C", new_tree, ".")
    return path


@pytest.fixture(scope="session")
def expected(storage: Path, container: Path, archive: Path) -> dict[str, Found]:
    """What the image has afterwards, as tar itself makes it; without what every container has."""
    root = storage / "tree-imported"
    root.mkdir()
    pure = storage / "pure.tar"
    data = subprocess.run(
        ["unshare", "-m", "sh", "-c", 'mount -o loop,ro,offset=31 "$0" "$1" && tar -c -C "$1" .', container, root],
        capture_output=True,
        check=True,
    ).stdout
    pure.write_bytes(data)
    for each in (pure, archive):
        tool("tar", "-x", "--numeric-owner", "--keep-directory-symlink", "-p", "-f", each, "-C", root)
    return contents(root)


def essence(image: Path) -> dict[str, Found]:
    """What is in an image beside what every container has."""
    found = contents(image)
    missing = {name for name in STANDARD if name not in found}
    assert missing == set()
    return {name: each for name, each in found.items() if not name.startswith(OURS) and name not in OUR_FILES}


COMPRESSORS = {"gzip": ["gzip"], "bzip2": ["bzip2"], "xz": ["xz"], "zstd": ["zstd", "-q"], "plain": ["cat"]}


@in_turn("person", "kind", COMPRESSORS)
def test_the_image_is_as_tar_would_have_made_it(
    person: Person, image: Path, archive: Path, expected: dict[str, Found], kind: str
) -> None:
    """Compression is known by the bytes, whatever the name says."""
    if shutil.which(COMPRESSORS[kind][0]) is None:
        pytest.skip(f"{kind} is not installed")
    source = person.directory / "archive.of.some.kind"
    with archive.open("rb") as data, source.open("wb") as file:
        subprocess.run(COMPRESSORS[kind], stdin=data, stdout=file, check=True)
    result = person.does("import", image, source.name)
    assert result.out == ""
    assert essence(image) == expected


def test_cpio_archives_are_read_too(person: Person, image: Path, new_tree: Path, expected: dict[str, Found]) -> None:
    names = "\0".join(["."] + [str(each.relative_to(new_tree)) for each in sorted(new_tree.rglob("*"))])
    argv = ["cpio", "--quiet", "-0", "-o", "-H", "newc"]
    data = subprocess.run(argv, cwd=new_tree, input=names.encode(), capture_output=True, check=True).stdout
    person.does("import", image, stdin=data)
    assert essence(image) == expected


def test_a_pipe_is_read_without_a_source_and_a_notice_says_so(
    person: Person, image: Path, archive: Path, expected: dict[str, Found]
) -> None:
    with archive.open("rb") as file:
        producer = subprocess.Popen(["gzip", "-c"], stdin=file, stdout=subprocess.PIPE)
        assert producer.stdout is not None
        result = person.does("import", image, stdin=producer.stdout)
        producer.stdout.close()
        assert producer.wait() == 0
    assert "INFO:    No SOURCE: reading an archive from standard input\n" in result.err
    assert essence(image) == expected


@pytest.mark.parametrize("form", ["-", "relative", "absolute", "file://relative", "file://absolute"])
def test_sources_have_several_names(person: Person, image: Path, archive: Path, form: str) -> None:
    shutil.copy(archive, person.directory / "a.tar")
    word = form.replace("relative", "a.tar").replace("absolute", str(person.directory / "a.tar"))
    stdin = archive.read_bytes() if form == "-" else None
    result = person.does("import", image, word, stdin=stdin)
    assert "No SOURCE" not in result.err
    assert "srv/program" in contents(image)


def test_export_and_import_are_each_other_backwards(person: Person, image: Path, container: Path) -> None:
    """`export | import` into an empty image gives the content of the first."""
    empty = person.directory / "empty"
    empty.mkdir()
    other = ext3_image(empty, person.directory / "other.img")
    person.give(other)
    with person.start("export", image) as producer:
        assert producer.stdout is not None
        person.does("import", other, stdin=producer.stdout)
    original = {name: each for name, each in contents(container).items() if name not in ("etc/hosts",)}
    assert {name: each for name, each in essence(other).items() if name in original} == original


def test_what_every_container_has_is_put_in_place(person: Person, image: Path) -> None:
    person.does("import", image, stdin=tar_of({"readme": "read me\n"}))
    found = contents(image)
    assert set(found) >= STANDARD
    assert found["environment"].content == ".singularity.d/env/90-environment.sh"
    assert (found["tmp"].mode, found["tmp"].uid) == (0o1777, 0)


def test_scripts_of_version_2_count_and_are_kept(person: Person, image: Path) -> None:
    """The same when they come into an image that has others already."""
    for text in ("echo first\n", "echo second\n"):
        person.does("import", image, stdin=tar_of({"singularity": text, "environment": f"export X='{text}'\n"}))
        found = contents(image)
        assert found["singularity"].content == ".singularity.d/runscript"
        assert found[".singularity.d/runscript"].content == digest(f"#!/bin/sh\n{text}")
        assert found[".singularity.d/env/90-environment.sh"].content == digest(f"#!/bin/sh\nexport X='{text}'\n")
    person.does("import", image, stdin=tar_of({"other": "x"}))
    assert contents(image)[".singularity.d/runscript"] == found[".singularity.d/runscript"]


def tar_of(texts: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        for name, text in texts.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            file.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


@by_two("person")
@pytest.mark.parametrize("damage", ["cut", "cut-in-gzip", "text", "empty", "flipped"])
def test_a_bad_archive_is_one_line_and_the_image_is_as_before(
    person: Person, image: Path, archive: Path, damage: str
) -> None:
    """2.2 said nothing and ended with 0."""
    before = image.read_bytes()
    data = archive.read_bytes()
    if damage == "cut":
        data = data[:1_500_000]
    elif damage == "cut-in-gzip":
        data = subprocess.run(["gzip", "-c"], input=data, capture_output=True, check=True).stdout[:1_000_000]
    elif damage == "flipped":
        data = data[:512] + bytes([data[512] ^ 0xFF]) + data[513:]
    else:
        data = b"just some text\n" * 100 if damage == "text" else b""
    person("import", image, "-", stdin=data).refused("standard input")
    assert image.read_bytes() == before


def test_a_user_s_directory_gets_files_that_are_hers(person: Person, archive: Path, tree: Path) -> None:
    box = person.directory / "box"
    shutil.copytree(tree, box, symlinks=True)
    person.give(box)
    result = person.does("import", "box", stdin=archive.read_bytes())
    found = contents(box)
    assert found["etc/settings"].content == digest("setting=2\n")
    assert (found["lib"].kind, found["usr/lib/library"].content) == ("l", digest("library\n"))
    assert set(found) >= STANDARD
    if person.is_root:
        assert (found["srv/program"].uid, found["srv/program"].mode) == (4321, 0o6755)
        assert found["srv/null"].content == "1:3"
        return
    assert {each.uid for each in found.values()} == {person.ids[0]}
    assert "srv/null" not in found
    assert found["srv/program"].mode == 0o755
    assert "WARNING: " in result.err


HOSTILE: dict[str, list[tuple[str, bytes, str]]] = {  # name, kind, text of a file or target of a link
    "up": [("../../evil", tarfile.REGTYPE, "evil")],
    "absolute": [("HOST/evil", tarfile.REGTYPE, "evil")],
    "through-a-link": [("way", tarfile.SYMTYPE, "HOST"), ("way/evil", tarfile.REGTYPE, "evil")],
    "through-links-up": [
        ("opt/way", tarfile.SYMTYPE, "../../../../../HOST"),
        ("opt/way/evil", tarfile.REGTYPE, "evil"),
    ],
    "through-a-link-of-the-image": [("out/evil", tarfile.REGTYPE, "evil")],
    "over-a-link-of-the-image": [("out-file", tarfile.REGTYPE, "evil")],
    "hard-link": [("taken", tarfile.LNKTYPE, "HOST/file")],
    "hard-link-up": [("taken", tarfile.LNKTYPE, "../../host/file")],
    "standard-files": [("etc", tarfile.SYMTYPE, "HOST"), (".singularity.d", tarfile.SYMTYPE, "HOST")],
    "circle": [("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "a"), ("a/evil", tarfile.REGTYPE, "evil")],
}


@pytest.mark.parametrize(
    ("person", "kind"),
    [
        ("root", "image"),
        ("user", "image"),
        ("user-without-fuse", "image"),
        ("root", "directory"),
        ("user", "directory"),
    ],
    indirect=["person"],
)
@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_archive_writes_nothing_outside_the_image(person: Person, tree: Path, kind: str, name: str) -> None:
    """R-T1 to R-T3, R-B6: whether it is refused or not, the host's files are as they were."""
    host = person.directory / "host"
    host.mkdir()
    (host / "file").write_text("the host's\n")
    box = person.directory / "box"
    shutil.copytree(tree, box, symlinks=True)
    (box / "out").symlink_to(host)
    (box / "out-file").symlink_to(host / "file")
    target = ext3_image(box, person.directory / "trap.img") if kind == "image" else box
    person.give(host, target)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        for path, member_kind, text in HOSTILE[name]:
            member = tarfile.TarInfo(path.replace("HOST", str(host)))
            member.type = member_kind
            if member_kind == tarfile.REGTYPE:
                member.size = len(text)
            else:
                member.linkname = text.replace("HOST", str(host))
            file.addfile(member, io.BytesIO(text.encode()) if member.size else None)
    result = person("import", target, stdin=data.getvalue())
    assert result.status in (0, 255), str(result)
    assert "internal fault" not in result.err
    assert [path.name for path in host.iterdir()] == ["file"]
    assert (host / "file").read_text() == "the host's\n"
    assert (host / "file").stat().st_nlink == 1
    assert not (person.directory.parent / "evil").exists()
    assert not (person.directory / "evil").exists()
    contents(target)


@in_turn("person", "name", ODD_NAMES)
def test_odd_names_are_names(person: Person, image: Path, name: str | bytes) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", encoding="utf-8", errors="surrogateescape") as file:
        member = tarfile.TarInfo(os.fsdecode(name))
        member.size = 3
        file.addfile(member, io.BytesIO(b"odd"))
    source = os.fsdecode(os.path.join(os.fsencode(person.directory), os.fsencode(name)))
    Path(source).write_bytes(data.getvalue())
    person.does("import", image, os.fsdecode(name))
    assert contents(image)[os.fsdecode(name)].content == digest("odd")
    assert not (person.directory / "evil").exists()


def test_a_source_without_an_end_is_left(person: Person, image: Path) -> None:
    """Zeros are an empty archive, however many follow."""
    person.does("import", image, "/dev/zero")
    assert "bin/tool" in contents(image)


@by_two("person")
def test_sources_that_are_not_there_are_one_line(person: Person, image: Path) -> None:
    before = image.read_bytes()
    for word, words in (
        ("none.tar", ["none.tar", "no such file"]),
        ("file://none.tar", ["none.tar", "no such file"]),
        ("http://host.invalid/x.tar", ["lookup host.invalid", "no such host"]),
        ("https://host.invalid/x.tar", ["lookup host.invalid", "no such host"]),
        ("docker://host.invalid/debian", ["lookup host.invalid", "no such host"]),
        ("strange://x", ["strange", "unknown transport"]),
        (".", ["is a directory"]),
    ):
        person("import", image, word).refused(*words)
    assert image.read_bytes() == before


@by_two("person")
def test_targets_that_cannot_change_are_refused(person: Person, tree: Path, archive: Path) -> None:
    from images import Partition, squashfs, write_sif

    path = squashfs(tree, person.directory / "fixed.sqfs")
    sif = write_sif(person.directory / "fixed.sif", [Partition(data=path.read_bytes())])
    person.give(path, sif)
    for target in (path, sif):
        person("import", target, archive).refused("cannot be changed", "singularity build")
    person("import", "none.img", archive).refused("none.img: no such image", "singularity create makes one")
    person("import", "/", archive).refused("the host's root directory")


@by_two("person")
def test_a_terminal_is_no_archive(person: Person, image: Path) -> None:
    ours, theirs = os.openpty()
    with person.start("import", image, stdin=theirs) as process:
        assert process.wait(timeout=60) == 1
        assert process.stderr is not None
        assert b"SOURCE is missing" in process.stderr.read()
    os.close(ours)
    os.close(theirs)


def test_a_full_image_is_one_line(person: Person, image: Path) -> None:
    before = image.read_bytes()
    person("import", image, stdin=tar_of({"large": "x" * (40 << 20)})).refused("larger", image.name)
    assert image.read_bytes() == before


@pytest.mark.parametrize("person", ["user-without-fuse"], indirect=True)
def test_a_hard_link_to_nothing_is_refused_by_the_name_of_the_image(person: Person, image: Path) -> None:
    before = image.read_bytes()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        member = tarfile.TarInfo("other")
        member.type, member.linkname = tarfile.LNKTYPE, "nothing"
        file.addfile(member)
    said = f"{image}: /other: a hard link to /nothing, which is no file"
    person("import", image, stdin=data.getvalue()).refused(said)
    assert image.read_bytes() == before


@by_two("person")
def test_an_image_in_use_is_refused(person: Person, image: Path, archive: Path) -> None:
    with image.open("rb") as file:
        hold(file, writable=False)
        person("import", image, archive).refused("in use")


def test_two_at_once_lose_nothing(person: Person, image: Path) -> None:
    """One waits for the other, or is refused with a line; whoever succeeded is in the image."""
    for name in ("a", "b", "c"):
        (person.directory / f"{name}.tar").write_bytes(tar_of({name: name * 1_000_000}))
    commands = {name: person.start("import", image, f"{name}.tar") for name in ("a", "b", "c")}
    status = {}
    for name, command in commands.items():
        _, said = command.communicate(timeout=120)
        assert command.returncode == 0 or b"in use" in said
        status[name] = command.returncode
    found = contents(image)
    assert 0 in status.values()
    assert {name: name in found for name in status} == {name: each == 0 for name, each in status.items()}


@pytest.mark.parametrize("after", [0, 1_000_000, 2_900_000])
def test_killed_it_leaves_the_image_of_before(person: Person, image: Path, archive: Path, after: int) -> None:
    """R-F3, R-B1."""
    before = image.read_bytes()
    with person.start("import", image, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(archive.read_bytes()[:after])
        process.stdin.flush()
        time.sleep(0.7)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (machine.children() or machine.loops_of(person.directory)):
        time.sleep(0.05)
    assert image.read_bytes() == before


@pytest.mark.parametrize("name", ["user", "root"])
def test_the_owner_and_mode_of_an_image_stay(anyone: Callable[[str], Person], container: Path, name: str) -> None:
    """Also where root changes what belongs to another, and through sudo."""
    person = anyone(name)
    image = person.directory / "box.img"
    tool("cp", "--sparse=always", container, image)
    os.chown(image, ALICE.uid, ALICE.gid)
    image.chmod(0o640)
    os.setxattr(image, "user.note", b"mine")
    (person.directory / "link.img").symlink_to("box.img")
    person.does("import", "link.img", stdin=tar_of({"x": "y"}), env={"SUDO_UID": "4321", "SUDO_GID": "4321"})
    assert (image.stat().st_uid, image.stat().st_gid) == (ALICE.uid, ALICE.gid)
    assert os.getxattr(image, "user.note") == b"mine"
    assert (person.directory / "link.img").is_symlink()
    assert stat.S_IMODE(image.stat().st_mode) == 0o640
    assert "x" in contents(image)
    assert image.stat().st_blocks * 512 < image.stat().st_size


@pytest.mark.parametrize("name", ["root", "user"])
def test_a_full_disk_is_one_line_and_the_image_is_as_before(
    anyone: Callable[[str], Person], container: Path, name: str
) -> None:
    """R-F4: what the kernel could not write back is told too."""
    person = anyone(name)
    disk = person.directory / "disk"
    disk.mkdir()
    tool("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk)
    try:
        image = disk / "box.img"
        tool("cp", "--sparse=always", container, image)
        before = digest(image.read_bytes())
        person.give(disk, image)
        person("import", image, stdin=tar_of({"large": os.urandom(6 << 20).hex()})).refused("No space left", "box.img")
        assert digest(image.read_bytes()) == before
        assert [each.name for each in disk.iterdir()] == ["box.img"]
    finally:
        tool("umount", disk)


@pytest.mark.parametrize("fuse", [True, False])
def test_root_in_a_container_has_other_ways(
    anyone: Callable[[str], Person], container: Path, archive: Path, expected: dict[str, Found], *, fuse: bool
) -> None:
    """Without loop devices through FUSE; without either on a copy."""
    root = anyone("root-without-loop")
    program = shutil.which("fuse2fs")
    assert program is not None
    hidden = {} if fuse else {Path(program): archive}
    root = replace(root, world=replace(root.world, replaced={**root.world.replaced, **hidden}))
    image = root.directory / "box.img"
    shutil.copy(container, image)
    result = root.does("import", image, archive, first=["-v"])
    shutil.copy(archive, root.directory / "one")
    root.does("copy", image, "one", "/opt/one")
    found = essence(image)
    assert found.pop("opt/one").content == digest(archive.read_bytes())
    assert found == expected
    assert "no loop device" in result.err
    assert ("The image is not mounted" in result.err) is not fuse
