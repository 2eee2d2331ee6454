"""Which files are stored uncompressed: what programs start with, whatever the image's links say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from builds import Build

from singularity.build import layout, main_programs, pack, startup_trace
from singularity.definition.model import Script, Stage
from singularity.image.root import Root

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root file system with one dynamic program and what it needs, as merged-usr systems lay it out."""
    libraries = tmp_path / "usr" / "lib" / "x"
    libraries.mkdir(parents=True)
    (tmp_path / "usr" / "bin").mkdir()
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "bin").symlink_to("usr/bin")
    output = subprocess.check_output(["ldd", "/bin/ls"], text=True)
    for word in {word for word in output.split() if word.startswith("/")}:
        target = tmp_path / word.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(word, target)
    shutil.copy("/bin/ls", tmp_path / "usr" / "bin" / "true")
    (tmp_path / "usr" / "bin" / "sh").symlink_to("/bin/true")
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("ldd"), reason="no ldd (package libc-bin)")
def test_the_shell_with_its_loader_and_libraries_always(image: Path) -> None:
    with Root(image) as root:
        found = layout.choose(root, 0).uncompressed
    assert "usr/bin/true" in found
    assert "usr/bin/sh" not in found
    names = {path.rpartition("/")[2].split(".so")[0] for path in found}
    assert {"libc", "libselinux"} <= names or "libc" in names
    assert any(name.startswith("ld-linux") for name in names)
    assert all((image / path).is_file() and not (image / path).is_symlink() for path in found)


def test_further_programs_only_as_far_as_the_size_allows(image: Path) -> None:
    (image / "usr" / "bin" / "cat").write_bytes(b"#!/bin/sh\n" + b"compresses well" * 10_000)
    with Root(image) as root:
        assert "usr/bin/cat" not in layout.choose(root, 1 << 20).uncompressed
        assert "usr/bin/cat" in layout.choose(root, 1 << 30).uncompressed


@pytest.mark.parametrize("watched", [False, True])
def test_what_is_always_stored_so_counts_as_well(image: Path, watched: bool) -> None:
    """All of it together stays below the share: a shell with its libraries leaves the rest of a small image nothing."""
    (image / "usr" / "bin" / "cat").write_bytes(b"compresses well" * 1000)
    with Root(image) as root:
        opened = ["usr/bin/cat"] if watched else []
        assert "usr/bin/cat" not in layout.choose(root, 2 << 20, opened).uncompressed
        assert "usr/bin/cat" in layout.choose(root, 1 << 30, opened).uncompressed


def test_the_interpreter_that_the_runscript_names_comes_before_others(tmp_path: Path) -> None:
    for path in ("opt/python", "usr/bin/tool", "bin/cat"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"compresses well" * 1000)
    (tmp_path / ".singularity.d").mkdir()
    (tmp_path / ".singularity.d/runscript").write_text("#!/opt/python -u\n")
    (tmp_path / ".singularity.d/test").write_text("#!/usr/bin/env tool\n")
    with Root(tmp_path) as root:
        assert layout.choose(root, 1_600_000).uncompressed == ("opt/python",)
        assert layout.choose(root, 1 << 30).uncompressed == ("opt/python", "usr/bin/tool", "bin/cat")


@pytest.mark.needs("mksquashfs")
@pytest.mark.parametrize("arguments", [(), ("-mem", "64M"), ("-b", "64K")])
def test_large_copies_of_a_file_are_what_they_were(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """mksquashfs of Debian 12 spoils them behind an offset, with the memory that is usual here."""
    root = tmp_path / "root"
    root.mkdir()
    data = b"".join(b"%d" % number * 7 for number in range(900_000))  # 40 MB that can be compressed
    for name in ("a", "b", "c"):
        (root / name).write_bytes(data if name != "b" else data[:1000])
    pack.pack(root, tmp_path / "x.sif", architecture="amd64", arguments=arguments, overwrite=False)
    from singularity.image import contents
    from singularity.image.identify import identify

    with contents.tree(identify(tmp_path / "x.sif")) as tree:
        assert {each.member.path: b"".join(each.data) == data for each in tree if each.member.path in (b"a", b"c")} == {
            b"a": True,
            b"c": True,
        }


def test_names_that_mksquashfs_would_misread_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh)||name(*").write_bytes(b"x")
    (tmp_path / "bin" / "sh").symlink_to("sh)||name(*")
    with Root(tmp_path) as root:
        assert layout.choose(root, 1 << 30).uncompressed == ()


def test_an_image_without_programs_is_packed_all_the_same(tmp_path: Path) -> None:
    with Root(tmp_path) as root:
        assert layout.choose(root, 0).uncompressed == ()


def test_what_launches_read_stays_out_of_shared_blocks(tmp_path: Path) -> None:
    own = [".singularity.d/env/90-environment.sh", ".singularity.d/runscript"]
    for path in ("etc/passwd", "usr/share/zoneinfo/UTC", *own):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x\n")
    (tmp_path / "etc" / "localtime").symlink_to("/usr/share/zoneinfo/UTC")
    with Root(tmp_path) as root:
        found = layout.read_by_launches(root)
    assert found == ["etc/passwd", "usr/share/zoneinfo/UTC", *own]


def test_what_a_start_opens_comes_first_and_in_that_order(image: Path) -> None:
    for name in ("b", "a", "unread"):
        (image / "usr" / name).write_bytes(b"compresses well" * 100)
    opened: list[str] = []
    with startup_trace.recording(image, opened):
        for name in ("b", "a", "b"):
            (image / "usr" / name).read_bytes()
        (image / "usr" / "written").write_bytes(b"x")
    assert opened == ["usr/b", "usr/a"]
    with Root(image) as root:
        found = layout.choose(root, 1 << 30, opened)
    places = [found.sorted.index(f"usr/{name}") for name in ("b", "a")]
    assert places == sorted(places)
    assert "usr/unread" not in found.sorted


def test_the_interpreters_of_the_scripts_are_started(tmp_path: Path) -> None:
    stage = Stage(
        header={},
        line=1,
        runscript=Script(body='#!/bin/bash\nexec python3.11 /opt/x.py "$@"\n', line=1, lines=(2, 3)),
        test=Script(body="exec /opt/own-program\n", line=5, lines=(6,)),
    )
    started: list[list[str]] = []

    def run(argv: Sequence[str], _: int) -> int:
        started.append(list(argv))
        return 0

    assert startup_trace.opened_by(tmp_path, startup_trace.commands_of(stage), run, 9) == []
    assert started == [["/bin/bash", "-c", ":"], ["python3.11", "-c", "pass"], ["/bin/sh", "-c", ":"]]


def test_nothing_is_watched_where_nothing_is_to_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watching takes a look at every directory."""
    asked: list[Path] = []
    monkeypatch.setattr(startup_trace, "Watch", asked.append)
    commands = startup_trace.commands_of(Stage(header={}, line=1))
    assert startup_trace.opened_by(tmp_path, commands, lambda *_: 0, 9) == []
    assert asked == []


def python(root: Path, prefix: str, *modules: str) -> None:
    """What looks like a Python with modules."""
    place = root / prefix / "lib/python3.13/site-packages"
    place.mkdir(parents=True)
    (root / prefix / "bin").mkdir(exist_ok=True)
    (root / prefix / "bin/python3").touch()
    for name in modules:
        if name.endswith("/"):
            (place / name).mkdir()
            (place / name / "__init__.py").touch()
        else:
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).touch()


def starts(root: Path) -> list[Sequence[str]]:
    with Root(root) as opened:
        return list(main_programs.starts(opened, ()))


def test_without_a_word_the_images_interpreters_and_their_modules_are_started(tmp_path: Path) -> None:
    """Those of /opt first, of modules those that somebody asked for; of no use are packagers, tests and data."""
    python(tmp_path, "opt/venv", "b/", "a.py", "asked/", "asked-1.dist-info/REQUESTED", "data/x.txt", "_c.so", "pip/")
    python(tmp_path, "usr", "fast.cpython-313-x86_64-linux-gnu.so", "fast-1.dist-info/RECORD", "tests/", "not-name/")
    (tmp_path / "usr/bin/perl").touch()
    (tmp_path / "bin").symlink_to("usr/bin")
    with Root(tmp_path) as root:
        found = [(argv[0], *argv[3:]) for argv in main_programs.starts(root, ())]
        known = [(argv[0], *argv[3:]) for argv in main_programs.starts(root, {"usr/bin/python3"})]
    venv, system = "/opt/venv/bin/python3", "/usr/bin/python3"
    of_venv = [(venv,), (venv, "asked"), (venv, "a"), (venv, "b")]
    assert found == [*of_venv, (system,), (system, "fast"), ("/usr/bin/perl",)]
    assert known == [*of_venv, ("/usr/bin/perl",)]


def test_modules_that_load_the_rest_when_asked_are_asked_after_all_others(tmp_path: Path) -> None:
    """The first start of each is what most programs do."""
    python(tmp_path, "usr", "other.py")
    lazy = tmp_path / "usr/lib/python3.13/site-packages/lazy"
    lazy.mkdir()
    (lazy / "__init__.py").write_text(
        "import importlib\n__all__ = ['part']\ndef __getattr__(name): return importlib.import_module(f'lazy.{name}')\n"
    )
    (lazy / "part.py").touch()
    asked: list[str] = []

    def run(argv: Sequence[str], _: int) -> int:
        asked.append(argv[-1])
        environment = {"PYTHONPATH": str(lazy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, *argv[1:]], env=environment, check=False).returncode

    found = startup_trace.opened_by(tmp_path, starts(tmp_path), run, 60)
    assert asked == ["pass", "lazy", "other", "lazy"]
    names = [path.rpartition("site-packages/")[2] for path in found]
    assert names.index("lazy/__init__.py") < names.index("other.py") < names.index("lazy/part.py")


def test_starts_end_when_their_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python(tmp_path, "usr", "a.py", "b.py")
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    given: list[int] = []

    def run(_: Sequence[str], seconds: int) -> int:
        given.append(seconds)
        return 0

    startup_trace.opened_by(tmp_path, starts(tmp_path), run, 10)
    assert given == [6, 2]


@pytest.mark.needs("mksquashfs")
def test_each_directory_is_listed_once(image: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All that is to be known of every file is asked in one walk: large trees make it felt."""
    directory = image / "opt" / "many"
    directory.mkdir(parents=True)
    listed: list[str] = []

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.scandir" and str(arguments[0]) == str(directory):
            listed.append(event)

    sys.addaudithook(listen)
    pack.pack(image, tmp_path_factory.mktemp("packed") / "x.sqfs", arguments=[], overwrite=False)
    assert listed == ["os.scandir"]


@pytest.mark.needs("mksquashfs")
def test_what_comes_first_lies_together_and_as_it_is(image: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The data of large files stand in the file one after another, byte for byte; small ones share a block."""
    for name, times in (("one", 10_000), ("two", 10_000), ("small", 100), ("also-small", 100), ("not-read", 100)):
        (image / "usr" / name).write_bytes(f"{name} compresses well ".encode() * times)
    (image / "large").touch()
    os.truncate(image / "large", 256 << 20)  # what makes the cost small
    target = tmp_path_factory.mktemp("packed") / "x.sqfs"
    first = ["usr/two", "usr/small", "usr/one", "usr/also-small"]
    pack.pack(image, target, arguments=["-noF"], overwrite=False, read_first=first)
    data = target.read_bytes()
    two, one, small, also, other = (
        data.find((image / "usr" / name).read_bytes()) for name in ("two", "one", "small", "also-small", "not-read")
    )
    assert 0 < two < one
    assert one == two + (image / "usr/two").stat().st_size
    assert also == small + (image / "usr/small").stat().st_size
    assert other not in (also + (image / "usr/also-small").stat().st_size, -1)


def test_thousands_of_files_are_told_apart_in_a_few_comparisons() -> None:
    """Each of them is asked of every file."""
    numbers = [*range(100, 5000, 3)]
    tests = list(pack._tests(numbers))
    assert max(map(len, tests)) < 16_000
    words = [test.replace("||", " or ").replace("&&", " and ") for test in tests]
    words = [re.sub(r"inode\(([<>]?)(\d+)\)", lambda found: f"(n{found[1] or '=='}{found[2]})", each) for each in words]
    compiled = [compile(each, "", "eval") for each in words]
    for n in (*numbers[::50], 99, 101, 5000, 1 << 40):
        chosen = any(eval(each, {"n": n}) for each in compiled)  # noqa: S307 - words of our own
        assert chosen == (n in numbers)
    deepest = max(len(re.findall("<", test[: test.find(f"inode({numbers[0]})")])) for test in tests[:1])
    assert deepest <= 8


@pytest.mark.needs("root", "mksquashfs", "busybox")
def test_what_is_started_can_change_nothing_and_reach_nobody(tmp_path: Path) -> None:
    """It may be an image from elsewhere, and nobody asked for it to be run."""
    root, build = tmp_path / "root", Build(tmp_path)
    (root / "bin").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    shutil.copy2("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "grep", "id", "touch", "sleep"):
        (root / "bin" / name).symlink_to("busybox")
    for name in ("tmp", "etc", "opt"):
        (root / name).mkdir()
        (root / name).chmod(0o777)
    (root / "opt/large").touch()
    os.truncate(root / "opt/large", 256 << 20)
    for name in ("read", "never"):
        (root / "opt" / name).write_bytes(b"compresses well" * 20_000)
    (root / "bin/python3").write_text(
        '#!/bin/sh\n[ "$(id -u)" = 65534 ] && ! touch /etc/x && touch /tmp/x &&'
        ' ! grep -Ev "[|]|lo:" /proc/net/dev'
        " && cat /opt/read > /dev/null; sleep 100; cat /opt/never"
    )
    (root / "bin/python3").chmod(0o755)
    said = build.ok("-v", "build", "--watch-starts=2", "x.sif", "root").stderr
    stored = next(line for line in said.splitlines() if "Stored uncompressed" in line)
    assert "opt/read" in stored
    assert "opt/never" not in stored
    assert "Watched a start of /usr/local/bin/python3" not in said
    assert "Watched a start of /bin/python3 (status 137)" in said
    assert list((root / "tmp").iterdir()) == list((root / "etc").iterdir()) == []
    said = build.ok("-v", "build", "--force", "--watch-starts=0", "x.sif", "root").stderr
    assert "Watched" not in said
    said = build.ok("-v", "build", "--force", "x.sif", "root", SOURCE_DATE_EPOCH="1").stderr
    assert "Watched" not in said
