"""`singularity bootstrap`: containers made in images that are there, as the slides show it."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import time
from typing import TYPE_CHECKING

import machine
import pytest
from containers import by_two, contents, digest, ext3_image, in_turn
from images import hold

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from containers import Person
    from repositories import Key

pytestmark = pytest.mark.needs("busybox")

APPLETS = ("sh", "cat", "chmod", "echo", "id", "ls", "mkdir", "sleep", "test", "touch")
ODD_NAMES = ("with space.img", 'quote\'s "two".img', "line\nbreak.img", "$(touch evil).img", "\udcff.img")
HEADER = "Bootstrap: localimage\nFrom: base\n"
STARTED = ["Bootstrap initialization", "Checking bootstrap definition", "Executing Prebootstrap module"]
SKIPPED = "Not bootstrapping the core container"


def core(agent: str) -> str:
    return f"Executing Bootstrap '{agent}' module"


def progress(out: str) -> list[str]:
    """The lines of progress among what sections write."""
    return [line for line in out.splitlines() if "ootstrap" in line or line == "Done."]


@pytest.fixture(params=["root", "user", "user-with-one-id"])
def builder(request: pytest.FixtureRequest, anyone: Callable[[str], Person]) -> Person:
    """Someone with a root file system to start from, in `base`."""
    person = anyone(request.param)
    base = person.directory / "base"
    (base / "bin").mkdir(parents=True)
    shutil.copy2("/bin/busybox", base / "bin/busybox")
    for applet in APPLETS:
        (base / "bin" / applet).symlink_to("busybox")
    (base / "etc").mkdir()
    (base / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    person.give(base)
    return person


@pytest.fixture
def empty(builder: Person) -> Path:
    """What `create` makes."""
    builder.does("create", "-s", "24", "box.img")
    return builder.directory / "box.img"


@pytest.fixture
def full(builder: Person) -> Path:
    """A container of 2.x, with a file of somebody else's."""
    root = builder.directory.parent / "full"
    shutil.copytree(builder.directory / "base", root, symlinks=True)
    (root / "etc/kept").write_text("kept\n")
    for path in [root, *root.rglob("*")]:
        os.chown(path, 0, 0, follow_symlinks=False)
    if builder.keeps_ids:
        os.chown(root / "etc/kept", 1234, 56)
    image = ext3_image(root, builder.directory / "full.img")
    builder.give(image)
    shutil.rmtree(root)
    return image


def define(person: Person, text: str, name: str = "x.def") -> str:
    (person.directory / name).write_text(text)
    person.give(person.directory / name)
    return name


def test_the_lines_of_the_slides_come_in_their_order(builder: Person, empty: Path) -> None:
    definition = define(builder, f"{HEADER}%post\n    echo Hello from inside the container\n    touch /made\n")
    result = builder.does("bootstrap", empty, definition)
    assert progress(result.out) == [*STARTED, core("localimage"), "Executing Postbootstrap module", "Done."]
    assert result.lines.index("Hello from inside the container") > result.lines.index("Executing Postbootstrap module")
    assert "+ echo Hello from inside the container" in result.err
    found = contents(empty)
    assert (found["made"].uid, found["bin/sh"].content) == (0, "busybox")
    assert found[".exec"].content == ".singularity.d/actions/exec"


@by_two("builder")
def test_quiet_hides_the_lines(builder: Person, empty: Path) -> None:
    result = builder.does("bootstrap", empty, define(builder, HEADER), first=["-q"])
    assert (result.out, result.err) == ("", "")


def test_size_owner_and_mode_of_the_image_stay(builder: Person, empty: Path) -> None:
    empty.chmod(0o750)
    before = empty.stat()
    builder.does("bootstrap", empty, define(builder, HEADER))
    after = empty.stat()
    assert after.st_size == before.st_size
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert stat.S_IMODE(after.st_mode) == 0o750


def test_root_leaves_the_image_of_a_user_hers(anyone: Callable[[str], Person], container: Path) -> None:
    root = anyone("root")
    image = root.directory / "hers.img"
    shutil.copy(container, image)
    os.chown(image, 10001, 10001)
    (root.directory / "base/bin").mkdir(parents=True)
    shutil.copy2("/bin/busybox", root.directory / "base/bin/sh")
    root.does("bootstrap", image, define(root, HEADER))
    assert (image.stat().st_uid, image.stat().st_gid) == (10001, 10001)


def test_a_container_keeps_its_core_and_its_sections_run(builder: Person, full: Path) -> None:
    definition = define(builder, f"{HEADER.replace('base', 'nothing')}%post\n    touch /made\n")
    result = builder.does("bootstrap", full, definition)
    assert progress(result.out) == [*STARTED, SKIPPED, "Executing Postbootstrap module", "Done."]
    found = contents(full)
    assert found["etc/kept"].content == digest("kept\n")
    assert (found["etc/kept"].uid, found["etc/kept"].gid) == ((1234, 56) if builder.keeps_ids else (0, 0))
    assert "made" in found


def test_a_definition_without_a_header_changes_a_container(builder: Person, full: Path) -> None:
    result = builder.does("bootstrap", full, define(builder, "%runscript\n    echo new\n"))
    assert SKIPPED in result.lines
    assert contents(full)["singularity"].content == ".singularity.d/runscript"


@pytest.mark.parametrize("word", ["-f", "--force", "SINGULARITY_REBOOTSTRAP"])
def test_force_installs_the_core_over_what_is_there(builder: Person, full: Path, word: str) -> None:
    (builder.directory / "base/etc/passwd").write_text("new\n")
    words = [word] if word.startswith("-") else []
    env = {} if words else {word: "1"}
    result = builder.does("bootstrap", *words, full, define(builder, HEADER), env=env)
    assert core("localimage") in result.lines
    found = contents(full)
    assert found["etc/passwd"].content == digest("new\n")
    assert found["etc/kept"].content == digest("kept\n")


@by_two("builder")
def test_words_after_the_definition_are_those_of_the_test(builder: Person, empty: Path) -> None:
    definition = define(builder, f'{HEADER}%test\n    echo "got $# of them: $2"\n')
    result = builder.does("bootstrap", empty, definition, "one", "two words", "-3")
    assert "got 3 of them: two words" in result.lines


def test_without_a_definition_a_container_is_completed(builder: Person, full: Path) -> None:
    result = builder.does("bootstrap", full)
    assert progress(result.out) == [
        "Bootstrap initialization",
        "No bootstrap definition passed, updating container",
        "Executing Prebootstrap module",
        "Executing Postbootstrap module",
        "Done.",
    ]
    found = contents(full)
    assert {"environment", ".run", ".exec", ".shell", "proc", "sys", "dev", "tmp"} <= set(found)
    assert found["etc/kept"].content == digest("kept\n")
    if builder.name != "root":
        assert (found["etc/kept"].uid, found["tmp"].uid) == (1234 if builder.keeps_ids else 0, 0)


def test_what_is_no_container_cannot_be_completed(builder: Person, empty: Path) -> None:
    result = builder("bootstrap", empty)
    assert result.status == 255
    assert "no /bin/sh in it" in result.err
    assert "bin" not in contents(empty)


@by_two("builder")
def test_an_empty_image_needs_a_header(builder: Person, empty: Path) -> None:
    before = empty.read_bytes()
    result = builder("bootstrap", empty, define(builder, "%post\n    true\n"))
    assert result.status == 255
    assert "no line Bootstrap:" in result.err
    assert empty.read_bytes() == before


def test_a_directory_is_made_where_it_is_missing(builder: Person) -> None:
    definition = define(builder, f"{HEADER}%post\n    touch /made\n")
    builder.does("bootstrap", "box", definition)
    found = contents(builder.directory / "box")
    assert "made" in found
    assert {(each.uid, each.gid) for each in found.values()} == {builder.ids}


def test_a_directory_keeps_what_is_in_it(builder: Person) -> None:
    definition = define(builder, f"{HEADER}%post\n    touch /made\n")
    builder.does("bootstrap", "box", definition)
    (builder.directory / "box/etc/kept").write_text("kept\n")
    (builder.directory / "box/made").unlink()
    builder.give(builder.directory / "box/etc/kept")
    result = builder.does("bootstrap", "box", definition)
    assert SKIPPED in result.lines
    found = contents(builder.directory / "box")
    assert found["etc/kept"].content == digest("kept\n")
    assert "made" in found
    (builder.directory / "box/.exec").unlink()
    builder.does("bootstrap", "box")
    assert ".exec" in contents(builder.directory / "box")


@pytest.mark.parametrize(
    "broken", ["%post\n    false\n    touch /made\n", "%setup\n    exit 3\n", "%test\n    false\n"]
)
def test_a_failing_section_leaves_the_image_as_it_was(builder: Person, full: Path, broken: str) -> None:
    before = full.read_bytes()
    result = builder("bootstrap", full, define(builder, f"{HEADER}{broken}\n"))
    assert result.status == 255
    assert "FATAL:   x.def:4: " in result.err
    assert full.read_bytes() == before


@by_two("builder")
def test_a_missing_definition_is_an_error(builder: Person, empty: Path) -> None:
    """2.2 said so and ended with 0."""
    before = empty.read_bytes()
    result = builder("bootstrap", empty, "none.def")
    assert result.status == 255
    assert "FATAL:   none.def: No such file or directory" in result.err
    assert empty.read_bytes() == before


@by_two("builder")
def test_a_definition_that_makes_no_sense_is_an_error(builder: Person, empty: Path) -> None:
    before = empty.read_bytes()
    result = builder("bootstrap", empty, define(builder, "Bootstrap: nonsense\n"))
    assert result.status == 255
    assert "nonsense" in result.err
    assert empty.read_bytes() == before


@by_two("builder")
def test_an_image_that_is_too_small_stays_as_it_was(builder: Person, empty: Path) -> None:
    with (builder.directory / "base/large").open("wb") as file:
        file.write(os.urandom(30 << 20))
    builder.give(builder.directory / "base/large")
    before = empty.read_bytes()
    result = builder("bootstrap", empty, define(builder, HEADER))
    assert result.status == 255
    assert "MiB" in result.err
    assert empty.read_bytes() == before


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_it_leaves_the_image_as_it_was(builder: Person, full: Path, ending: signal.Signals) -> None:
    before = full.read_bytes()
    definition = define(builder, "%post\n    echo ready\n    sleep 1000\n")
    with builder.start("bootstrap", full, definition) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in (b"ready\n", b""):
            continue
        process.send_signal(ending)
        process.wait(timeout=60)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and machine.children():
        time.sleep(0.05)
    assert full.read_bytes() == before
    if ending == signal.SIGKILL:  # what the next build would remove
        for left in [*builder.temporary.iterdir(), *builder.directory.glob("singularity-work-*")]:
            shutil.rmtree(left)


@by_two("builder")
def test_an_image_in_use_is_refused(builder: Person, full: Path) -> None:
    with full.open("rb") as file:
        hold(file, writable=False)
        result = builder("bootstrap", full, define(builder, "%post\n    true\n"))
    assert result.status == 255
    assert "in use" in result.err


@by_two("builder")
def test_what_cannot_change_is_refused(builder: Person, tree: Path) -> None:
    from images import squashfs

    path = squashfs(tree, builder.directory / "fixed.sqfs")
    builder.give(path)
    result = builder("bootstrap", path, define(builder, HEADER))
    assert result.status == 255
    assert "cannot be changed" in result.err


@in_turn("builder", "name", ODD_NAMES)
def test_odd_names_are_names(builder: Person, name: str) -> None:
    builder.does("create", "-s", "24", name)
    builder.does("bootstrap", name, define(builder, f"{HEADER}%post\n    touch /made\n", f"{name}.def"))
    (builder.directory / name).rename(builder.directory / "plain.img")
    assert "made" in contents(builder.directory / "plain.img")
    assert not (builder.directory / "evil").exists()


@by_two("builder")
def test_wrong_usage_is_said(builder: Person, empty: Path) -> None:
    builder("bootstrap").misused("IMAGE is missing")
    builder("bootstrap", "--nonsense", empty).misused("--nonsense")


@pytest.mark.needs("debootstrap", "gpg")
@pytest.mark.parametrize("name", ["root", "user"])
def test_debian_as_on_the_slides(anyone: Callable[[str], Person], debian_mirror: Path, key: Key, name: str) -> None:
    """`create` and `bootstrap` with a definition of the first years, from a mirror with a suite of a few packages."""
    person = anyone(name)
    text = f"BootStrap: debootstrap\nOSVersion: bookworm\nMirrorURL: file://{debian_mirror}\nInclude: greeter\n"
    text += f'GPG: {key.public}\n\n%post\n    echo "Hello from inside the container"\n    greeter\n'
    person.does("create", "-F", "debian.img")
    result = person.does("bootstrap", "debian.img", define(person, text, "debian.def"))
    assert progress(result.out)[:4] == [*STARTED, core("debootstrap")]
    assert "Hello from inside the container" in result.lines
    assert "greeter 1" in result.lines
    assert result.lines[-1] == "Done."
    found = contents(person.directory / "debian.img")
    assert found["usr/bin/greeter"].gid == 42
    assert found["usr/bin/greeter"].mode == 0o4755
