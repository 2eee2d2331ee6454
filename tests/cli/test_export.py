"""`singularity export`: everything that is in an image, and nothing else on standard output."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from containers import Found, by_two, contents, digest, in_turn
from images import Partition, hold, squashfs, write_sif

if TYPE_CHECKING:
    from containers import Person

ODD_NAMES = ("with space.img", 'quote\'s "two".img', "line\nbreak.img", "$(touch evil).img", b"\xff\xfe.img")
TYPES = {tarfile.REGTYPE: "-", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b"}


def members(data: bytes) -> dict[str, Found]:
    """What a tar archive holds, in the terms of `contents`."""
    found: dict[str, Found] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for each in archive:
            assert each.name == "." or each.name.startswith("./"), each.name
            name = each.name[2:]
            if not name:
                continue
            if each.type == tarfile.LNKTYPE:
                found[name] = found[each.linkname.removeprefix("./")]
                continue
            file = archive.extractfile(each) if each.isreg() else None
            content = digest(file.read()) if file else each.linkname
            found[name] = Found(TYPES[each.type], each.mode, each.uid, each.gid, content)
    return found


def test_the_archive_has_all_of_the_image_whoever_asks(person: Person, image: Path) -> None:
    result = person("export", image)
    assert (result.status, result.err) == (0, "")
    assert members(result.stdout) == contents(image)


def test_times_and_sizes_are_kept(person: Person, image: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(person("export", image).stdout)) as archive:
        tool = archive.getmember("./bin/tool")
    assert (tool.mtime, tool.size) == (1_234_567_890, 18 * 200)


@by_two("person")
@pytest.mark.parametrize("words", [["-v"], ["-d"], ["-q"], []])
def test_messages_never_get_into_the_archive(person: Person, image: Path, words: list[str]) -> None:
    """2.2 wrote notes to standard output, and damaged the archive."""
    assert members(person("export", image, first=words).stdout) == contents(image)


def test_a_pipe_takes_the_archive(person: Person, image: Path) -> None:
    target = person.directory / "tree"
    target.mkdir()
    with person.start("export", image) as process:
        subprocess.run(["tar", "-x", "-C", target], stdin=process.stdout, check=True, timeout=60)
        assert process.wait(timeout=60) == 0
    assert contents(target) == contents(image)


def test_a_closed_standard_output_is_told(person: Person, image: Path) -> None:
    """/dev/null is a place to write to, however it was opened."""
    said = {}
    for where in (">&-", ">/dev/null", "<>/dev/null 1>&0"):
        with person.start("export", image, redirected=where) as process:
            assert process.stderr is not None
            said[where] = (process.wait(timeout=60), process.stderr.read().decode())
    assert said.pop(">&-") == (255, "FATAL:   standard output is closed (name a file with -f)\n")
    assert set(said.values()) == {(0, "")}


def test_a_reader_that_leaves_is_no_news(person: Person, image: Path) -> None:
    with person.start("export", image) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == b""


@pytest.mark.needs("mksquashfs")
@pytest.mark.parametrize("kind", ["squashfs", "sif", "sif-ext3", "directory"])
def test_every_format_is_exported(person: Person, tree: Path, container: Path, kind: str) -> None:
    path = person.directory / "image"
    if kind == "squashfs":
        squashfs(tree, path)
    elif kind == "sif":
        write_sif(path, [Partition(data=squashfs(tree, path).read_bytes())])
    elif kind == "sif-ext3":
        write_sif(path, [Partition(data=container.read_bytes()[31:], filesystem=2)])
    else:
        shutil.copytree(tree, path, symlinks=True)
    person.give(path)
    result = person("export", path)
    assert result.status == 0, str(result)
    if kind == "directory":
        assert members(result.stdout) == contents(path)
    else:
        assert members(result.stdout) == contents(container)


@by_two("person")
@pytest.mark.parametrize("words", [["-f", "out.tar"], ["--file", "out.tar"], ["--file=out.tar"]])
def test_a_file_takes_the_archive(person: Person, image: Path, words: list[str]) -> None:
    result = person("export", *words, image)
    assert (result.status, result.stdout) == (0, b""), str(result)
    target = person.directory / "out.tar"
    assert members(target.read_bytes()) == contents(image)
    assert (target.stat().st_uid, target.stat().st_gid) == person.ids


@by_two("person")
def test_variables_are_options(person: Person, image: Path) -> None:
    person.does("export", image, env={"SINGULARITY_EXPORT_FILE": "out.tar"})
    assert members((person.directory / "out.tar").read_bytes())
    result = person("export", image, env={"SINGULARITY_EXPORT_COMMAND": "echo told"})
    assert result.out == "told\n" or person.name == "user-without-fuse"


@by_two("person")
def test_an_older_file_is_replaced_whole_or_stays(person: Person, image: Path) -> None:
    target = person.directory / "out.tar"
    target.write_text("older")
    person.give(target)
    damaged = person.directory / "damaged.img"
    damaged.write_bytes(image.read_bytes()[: 31 + (1 << 20)])
    person.give(damaged)
    person("export", "-f", "out.tar", damaged).refused("damaged.img")
    assert target.read_text() == "older"
    person.does("export", "-f", "out.tar", image)
    assert members(target.read_bytes()) == contents(image)


@by_two("person")
def test_a_link_to_a_file_and_a_pipe_stay_what_they_are(person: Person, image: Path) -> None:
    (person.directory / "real.tar").write_text("older")
    (person.directory / "link.tar").symlink_to("real.tar")
    person.give(person.directory / "real.tar")
    person.does("export", "-f", "link.tar", image)
    assert (person.directory / "link.tar").is_symlink()
    assert members((person.directory / "real.tar").read_bytes())
    os.mkfifo(person.directory / "pipe")
    person.give(person.directory / "pipe")
    with person.start("export", "-f", "pipe", image) as process:
        data = (person.directory / "pipe").read_bytes()
        assert process.wait(timeout=60) == 0
    assert members(data) == contents(image)


@by_two("person")
def test_a_full_device_is_named(person: Person, image: Path) -> None:
    person("export", "-f", "/dev/full", image).refused("/dev/full: No space left on device")


@by_two("person")
def test_a_file_that_cannot_be_written_is_one_line(person: Person, image: Path) -> None:
    person("export", "-f", "nowhere/out.tar", image).refused("nowhere", "no such file or directory")


@in_turn("person", "name", ODD_NAMES)
def test_odd_names_are_names(person: Person, image: Path, name: str | bytes) -> None:
    path = Path(os.fsdecode(os.path.join(os.fsencode(person.directory), os.fsencode(name))))
    image.rename(path)
    target = path.with_suffix(".tar")
    person.does("export", "-f", target.name, path.name)
    assert members(target.read_bytes()) == contents_of(path)
    assert not (person.directory / "evil").exists()


def contents_of(path: Path) -> dict[str, Found]:
    plain = path.with_name("plain.img")
    path.rename(plain)
    return contents(plain)


@by_two("person")
def test_an_image_that_is_being_written_is_refused(person: Person, image: Path) -> None:
    with image.open("r+b") as file:
        hold(file, writable=True)
        person("export", image).refused("being written")


@by_two("person")
def test_a_missing_image_is_one_line(person: Person) -> None:
    person("export", "none.img").refused("none.img", "no such image")


def test_command_runs_in_the_content_with_its_status(mounter: Person, mountable: Path) -> None:
    before = mountable.read_bytes()
    words = ["--command", "cat etc/settings; pwd; echo $SINGULARITY_ROOTFS; exit 9"]
    result = mounter("export", *words, mountable)
    assert result.status == 9
    assert result.lines[0] == "setting=1"
    assert result.lines[1] == result.lines[2]
    result = mounter("export", "--command", "echo x > etc/settings", mountable)
    assert "Read-only file system" in result.err
    assert mountable.read_bytes() == before


def test_command_reads_what_comes_through_a_pipe(mounter: Person, mountable: Path) -> None:
    assert mounter("export", "--command", "cat", mountable, stdin=b"input").stdout == b"input"


def test_with_command_a_file_means_nothing(mounter: Person, mountable: Path) -> None:
    result = mounter("export", "-f", "out.tar", "--command", "echo said", mountable)
    assert (result.status, result.out) == (0, "said\n")
    assert "WARNING: --file out.tar means nothing here" in result.err
    assert not (mounter.directory / "out.tar").exists()


def test_an_archive_is_not_for_terminals(mounter: Person, mountable: Path) -> None:
    ours, theirs = os.openpty()
    with mounter.start("export", mountable, stdout=theirs) as process:
        assert process.wait(timeout=60) == 1
        assert process.stderr is not None
        assert b"nothing for a terminal" in process.stderr.read()
    os.close(ours)
    os.close(theirs)
