"""`singularity copy`: the real cp, and images whose links lead to the host."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from containers import by_two, contents, digest, ext3_image, in_turn
from images import hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from containers import Person

ODD_NAMES = ("with space", 'quote\'s "two"', "line\nbreak", "$(touch evil)", b"\xff\xfe")


@pytest.fixture
def files(person: Person) -> Path:
    """What is copied."""
    tree = person.directory / "files"
    (tree / "deep/er").mkdir(parents=True)
    (tree / "one").write_text("one\n")
    (tree / "deep/er/two").write_text("two\n")
    (tree / "deep/er/two").chmod(0o751)
    (tree / "deep/link").symlink_to("er/two")
    person.give(tree)
    return tree


@pytest.mark.usefixtures("files")
def test_a_file_gets_a_new_name(person: Person, image: Path) -> None:
    before = contents(image)
    result = person("copy", image, "files/one", "/etc/new")
    assert (result.status, result.out, result.err) == (0, "", "")
    found = contents(image)
    new = found.pop("etc/new")
    assert (new.content, new.uid, new.gid, new.mode) == (digest("one\n"), 0, 0, 0o644)
    assert found == before


@pytest.mark.usefixtures("files")
def test_a_directory_takes_files_under_their_names(person: Person, image: Path) -> None:
    person.does("copy", image, "files/one", "files/deep/er/two", "/opt")
    found = contents(image)
    assert found["opt/one"].content == digest("one\n")
    assert (found["opt/two"].content, found["opt/two"].mode) == (digest("two\n"), 0o751)
    assert (found["opt"].uid, found["opt"].gid) == (2000, 2000)


@by_two("person")
@pytest.mark.usefixtures("files")
def test_options_of_cp_are_after_the_image(person: Person, image: Path) -> None:
    result = person.does("copy", image, "-r", "-v", "files", "/srv")
    assert len(result.lines) == 6
    found = contents(image)
    assert found["srv/deep/er/two"].content == digest("two\n")
    person("copy", "-r", image, "files", "/srv").misused("-r")


@pytest.mark.usefixtures("files")
def test_links_are_copied_as_links(person: Person, image: Path) -> None:
    person.does("copy", image, "-a", "files/.", "opt")
    found = contents(image)
    assert (found["opt/deep/link"].kind, found["opt/deep/link"].content) == ("l", "er/two")


@pytest.mark.usefixtures("files")
def test_a_file_is_overwritten_and_keeps_its_owner(person: Person, image: Path) -> None:
    """The set-user-id bit goes, as it does when a program is written to."""
    if not person.keeps_ids:
        pytest.skip("one id: other owners have no number")
    person.does("copy", image, "files/one", "/bin/tool")
    tool = contents(image)["bin/tool"]
    assert (tool.content, tool.uid, tool.gid) == (digest("one\n"), 1234, 56)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("words", [["files/one", "/opt/more"], ["-r", "files/.", "/"]])
def test_a_file_of_several_names_is_overwritten_under_all_of_them(
    person: Person, image: Path, files: Path, words: list[str]
) -> None:
    (files / "opt").mkdir()
    (files / "opt/more").write_text("one\n")
    person.does("copy", image, *words)
    found = contents(image)
    assert found["etc/settings"].content == found["opt/more"].content == digest("one\n")
    person.does("copy", image, "files/deep/er/two", "/etc/settings")
    assert contents(image)["opt/more"].content == digest("two\n"), "they are one file still"


@by_two("person")
def test_what_exists_can_be_kept(person: Person, image: Path, files: Path) -> None:
    before = contents(image)
    (files / "settings").write_text("other\n")
    person("copy", image, "-n", "files/settings", "/etc/")
    assert contents(image) == before
    person.does("copy", image, "--backup", "files/settings", "/etc/")
    found = contents(image)
    assert found["etc/settings~"].content == digest("setting=1\n")
    assert found["etc/settings"].content == digest("other\n")
    assert found["opt/more"].content == digest("setting=1\n")


@pytest.mark.usefixtures("files")
def test_links_of_the_image_to_its_directories_are_followed(person: Person, image: Path) -> None:
    person.does("copy", image, "files/one", "/lib/")
    person.does("copy", image, "files/one", "lib/other")
    found = contents(image)
    assert (found["lib"].kind, found["usr/lib/one"].content) == ("l", digest("one\n"))
    assert found["usr/lib/other"].content == digest("one\n")


@pytest.fixture
def trap(person: Person, tree: Path) -> tuple[Path, Path]:
    """An image whose links lead to a directory of the host that the person may write to, and that directory."""
    host = person.directory / "host"
    (host / "etc").mkdir(parents=True)
    (host / "file").write_text("the host's\n")
    person.give(host)
    root = person.directory.parent / "trap"
    shutil.copytree(tree, root, symlinks=True)
    shutil.rmtree(root / "etc")
    (root / "etc").symlink_to(host / "etc")
    (root / "opt/one").symlink_to(host / "file")
    (root / "opt/out").symlink_to(host)
    (root / "opt/up").symlink_to("../../../../../../../../../.." + str(host))
    image = ext3_image(root, person.directory / "trap.img")
    person.give(image)
    shutil.rmtree(root)
    return image, host


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("person", ["root", "user", "user-without-fuse"], indirect=True)
@pytest.mark.parametrize(
    "words",
    [
        ["files/one", "/etc/new"],
        ["files/one", "/etc"],
        ["files/one", "/opt"],
        ["files/one", "/opt/one"],
        ["-f", "files/one", "/opt"],
        ["-r", "files/deep", "/opt/out"],
        ["-rT", "files/deep", "/opt/out"],
        ["files/one", "/opt/up/new"],
        ["--parents", "files/one", "/opt/out/"],
        ["-r", "etc", "/"],
        ["--parents", "etc/passwd", "/"],
        ["files/one", "../../../../host/new"],
    ],
)
def test_links_of_the_image_never_lead_to_the_host(person: Person, trap: tuple[Path, Path], words: list[str]) -> None:
    """R-B6: whatever cp makes of it, the host's files are as they were."""
    image, host = trap
    (person.directory / "etc").mkdir()
    (person.directory / "etc/passwd").write_text("evil\n")
    person.give(person.directory / "etc")
    for environment in ({}, {"POSIXLY_CORRECT": "1"}):
        person("copy", image, *words, env=environment)
        assert sorted(path.name for path in host.iterdir()) == ["etc", "file"]
        assert list((host / "etc").iterdir()) == []
        assert (host / "file").read_text() == "the host's\n"


RUNSCRIPT_WORDS = (["singularity", "/"], ["-a", "more/one", "singularity", "//"], ["singularity", "/singularity"])


@pytest.mark.parametrize("words", RUNSCRIPT_WORDS, ids=" ".join)
def test_a_new_runscript_goes_through_the_link(person: Person, tree: Path, files: Path, words: list[str]) -> None:
    """Version 2 has its runscript at /singularity, where images of today have a link to it."""
    root = person.directory.parent / "linked"
    shutil.copytree(tree, root, symlinks=True)
    (root / ".singularity.d").mkdir()
    (root / ".singularity.d/runscript").write_text("old\n")
    (root / "singularity").symlink_to(".singularity.d/runscript")
    image = ext3_image(root, person.directory / "linked.img")
    shutil.rmtree(root)
    (person.directory / "singularity").write_text("new\n")
    files.rename(person.directory / "more")
    person.give(image, person.directory / "singularity")
    person.does("copy", image, *words)
    found = contents(image)
    assert found[".singularity.d/runscript"].content == digest("new\n")
    assert (found["singularity"].kind, found["singularity"].content) == ("l", ".singularity.d/runscript")
    assert ("one" in found) == ("more/one" in words)


@by_two("person")
@pytest.mark.usefixtures("files")
def test_the_status_and_the_words_are_those_of_cp(person: Person, image: Path) -> None:
    result = person("copy", image, "nothing", "/etc")
    assert result.status == 1
    assert "cannot stat 'nothing'" in result.err
    result = person("copy", image, "--no-such-option", "files/one", "/etc")
    assert result.status == 1
    assert "no-such-option" in result.err


@by_two("person")
def test_missing_words_are_wrong_usage(person: Person, image: Path) -> None:
    person("copy").misused("IMAGE is missing")
    person("copy", image).misused("SOURCE and DESTINATION are missing")
    person("copy", image, "file").misused("DESTINATION is missing")


@by_two("person")
@pytest.mark.usefixtures("files")
def test_a_missing_directory_of_the_image_is_one_line(person: Person, image: Path) -> None:
    person("copy", image, "files/one", "/no/such/directory").refused("/no/such: no such directory in the image")


@pytest.fixture
def special(person: Person, tree: Path) -> Path:
    """An image with a device, a pipe and a link to nothing."""
    root = person.directory.parent / "special"
    shutil.copytree(tree, root, symlinks=True)
    os.mknod(root / "opt/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(root / "opt/pipe")
    (root / "opt/nothing").symlink_to("/etc/no-such-file")
    image = ext3_image(root, person.directory / "special.img")
    person.give(image)
    shutil.rmtree(root)
    return image


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("person", ["root", "user", "user-without-fuse"], indirect=True)
def test_devices_and_links_to_nothing_stay_what_they_are(person: Person, special: Path) -> None:
    before = contents(special)
    result = person("copy", special, "files/one", "/opt/null")
    assert (result.status, result.err.count("\n")) == (1, 1)
    person("copy", special, "files/one", "/opt/nothing").refused("/opt/nothing: a link to nothing in the image")
    assert contents(special) == before
    person.does("copy", special, "files/one", "/lib/new")
    assert contents(special)["opt/pipe"] == before["opt/pipe"]


def test_a_file_is_no_directory(anyone: Callable[[str], Person], container: Path) -> None:
    root = anyone("root")
    shutil.copy(container, root.directory / "box.img")
    (root.directory / "one").write_text("1")
    root("copy", "box.img", "one", "/etc/settings/").refused("/etc/settings/: not a directory in the image")


@in_turn("person", "name", ODD_NAMES)
def test_odd_names_are_names(person: Person, image: Path, name: str | bytes) -> None:
    path = os.path.join(os.fsencode(person.directory), os.fsencode(name))
    Path(os.fsdecode(path)).write_text("odd\n")
    person.does("copy", image, os.fsdecode(name), "/etc")
    person.does("copy", image, os.fsdecode(name), f"/opt/{os.fsdecode(name)}")
    found = contents(image)
    assert found[f"etc/{os.fsdecode(name)}"].content == digest("odd\n")
    assert found[f"opt/{os.fsdecode(name)}"].content == digest("odd\n")
    assert not (person.directory / "evil").exists()


def test_sources_are_read_as_the_caller(person: Person, image: Path) -> None:
    if person.is_root:
        pytest.skip("root reads everything")
    secret = person.directory / "secret"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    result = person("copy", image, "secret", "/etc/stolen")
    assert result.status == 1
    assert "Permission denied" in result.err
    assert "etc/stolen" not in contents(image)


def test_a_directory_takes_copies_too(mounter: Person, tree: Path) -> None:
    box = mounter.directory / "box"
    shutil.copytree(tree, box, symlinks=True)
    (mounter.directory / "one").write_text("one\n")
    mounter.give(box, mounter.directory / "one")
    mounter.does("copy", "box", "one", "/lib/")
    assert (box / "usr/lib/one").read_text() == "one\n"
    assert ((box / "usr/lib/one").stat().st_uid, (box / "usr/lib/one").stat().st_gid) == mounter.ids


@by_two("person")
@pytest.mark.usefixtures("files")
def test_images_whose_content_is_fixed_are_refused(person: Person, tree: Path) -> None:
    from images import squashfs

    path = squashfs(tree, person.directory / "fixed.sqfs")
    person.give(path)
    person("copy", path, "files/one", "/etc").refused("cannot be changed", "build")


@by_two("person")
@pytest.mark.usefixtures("files")
def test_an_image_in_use_is_refused(person: Person, image: Path) -> None:
    with image.open("rb") as file:
        hold(file, writable=False)
        person("copy", image, "files/one", "/etc").refused("in use")


@pytest.mark.usefixtures("files")
def test_two_at_once_lose_nothing(person: Person, image: Path) -> None:
    """One waits for the other, or is refused with a line."""
    commands = [person.start("copy", image, "files/one", f"/etc/{name}") for name in ("a", "b")]
    results = []
    for command in commands:
        _, said = command.communicate(timeout=60)
        assert command.returncode == 0 or b"in use" in said
        results.append(command.returncode)
    found = contents(image)
    assert 0 in results
    assert [f"etc/{name}" in found for name in ("a", "b")] == [status == 0 for status in results]


def test_a_full_image_is_one_line_of_cp(person: Person, image: Path) -> None:
    (person.directory / "large").write_bytes(os.urandom(30 << 20))
    person.give(person.directory / "large")
    result = person("copy", image, "large", "/etc")
    assert result.status != 0
    assert "no space left" in result.err.lower() or "make it larger" in result.err
    assert contents(image)["etc/settings"].content == digest("setting=1\n")


@pytest.mark.parametrize("delay", [0.05, 0.3, 0.6])
def test_killed_it_leaves_a_whole_image(person: Person, image: Path, delay: float) -> None:
    large = person.directory / "large"
    large.mkdir()
    for number in range(200):
        (large / str(number)).write_bytes(os.urandom(30000))
    person.give(large)
    with person.start("copy", image, "-r", "large", "/opt", stdin=subprocess.DEVNULL) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (machine.children() or machine.loops_of(person.directory)):
        time.sleep(0.05)
    assert contents(image)["bin/tool"].mode == 0o4755
    shutil.rmtree(person.temporary)  # what a killed command kept for itself, and the next one would remove
    person.temporary.mkdir()
    person.give(person.temporary)
