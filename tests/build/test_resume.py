"""A build goes on where its inputs begin to differ from those of an earlier one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from builds import Build

pytestmark = pytest.mark.needs("busybox", "mksquashfs", "root", "overlay")
Definition = Callable[[str], Path]

STEPS = """\
%files
    input /input
%post
    echo "post ran" >&2
    cat /input >/posted
%appinstall tool
    echo "appinstall ran" >&2
%labels
    A b
%test
    echo "test ran" >&2
"""


@pytest.fixture
def layers(private_home: Path) -> Path:
    """Where layers are kept."""
    return private_home / "cache" / "cache" / "build"


@pytest.fixture(autouse=True)
def inputs(build: Build) -> None:
    build.write("input", "one\n")


def ran(errors: str) -> list[str]:
    """The sections whose scripts ran."""
    return [line.split()[0] for line in errors.splitlines() if line.endswith(" ran") and not line.startswith("+")]


def cached(errors: str) -> list[str]:
    return [
        line.removeprefix("INFO:    Using the cache: ")
        for line in errors.splitlines()
        if line.startswith("INFO:    Using the cache: ")
    ]


def kept(layers: Path) -> list[str]:
    """What the layers in the cache are, and nothing else may be there."""
    abouts = [json.loads((path / "about.json").read_text()) for path in layers.iterdir()]
    return sorted(about["what"] for about in abouts)


def test_a_second_build_runs_nothing_but_the_test(build: Build, definition: Definition, layers: Path) -> None:
    path = definition(STEPS)
    assert ran(build.ok("build", "a.sif", path).stderr) == ["post", "appinstall", "test"]
    second = build.ok("build", "b.sif", path).stderr
    assert ran(second) == ["test"]
    assert cached(second) == ["%files", "%post", "%appinstall tool"]
    assert kept(layers) == [
        "copy files %files",
        "make what launches and scripts expect",
        "run in the image %appinstall tool",
        "run in the image %post",
    ]
    assert (build.root_of("b.sif") / "posted").read_text() == "one\n"
    assert build.leftovers() == []


def test_after_a_failure_only_what_failed_is_done_again(build: Build, definition: Definition) -> None:
    build.fails("build", "a.sif", definition(STEPS.replace("%appinstall tool\n", "%appinstall tool\n    false\n")))
    done = build.ok("build", "a.sif", definition(STEPS))
    assert ran(done.stderr) == ["appinstall", "test"]
    assert (build.root_of("a.sif") / "posted").read_text() == "one\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda build: build.write("x.def", "# more\n" + (build.directory / "x.def").read_text()), ["test"]),
        (lambda build: os.utime(build.directory / "input"), ["test"]),
        (lambda build: build.write("input", "two\n"), ["post", "appinstall", "test"]),
        (lambda build: (build.directory / "input").chmod(0o700), ["post", "appinstall", "test"]),
        (lambda build: build.write("base/etc/new", "x"), ["post", "appinstall", "test"]),
        (lambda build: os.utime(build.directory / "base/bin/busybox"), ["post", "appinstall", "test"]),
        (lambda build: replaced(build, "cat /input", "cat  /input"), ["post", "appinstall", "test"]),
        (lambda build: replaced(build, "%post\n", "%post -u\n"), ["post", "appinstall", "test"]),
        (lambda build: replaced(build, "input /input", "input /two\n    input /input"), ["post", "appinstall", "test"]),
        (lambda build: replaced(build, "    echo \"appinstall", "    echo  \"appinstall"), ["appinstall", "test"]),
        (lambda build: replaced(build, "A b", "A c"), ["test"]),
    ],
)  # fmt: skip
def test_each_input_matters(
    build: Build, definition: Definition, change: Callable[[Build], object], expected: list[str]
) -> None:
    path = definition(STEPS)
    build.ok("build", "a.sif", path)
    change(build)
    done = build.ok("build", "--force", "a.sif", path)
    assert ran(done.stderr) == expected
    assert (build.root_of("a.sif") / "posted").read_bytes() == (build.directory / "input").read_bytes()


def replaced(build: Build, old: str, new: str) -> None:
    path = build.directory / "x.def"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_the_image_is_the_same_with_and_without_the_cache(build: Build, definition: Definition, base: Path) -> None:
    """With layers kept, taken, thrown away, and without any: the same bytes under SOURCE_DATE_EPOCH."""
    (base / "opt" / "gone").mkdir(parents=True)
    (base / "opt" / "gone" / "file").write_text("x")
    os.link(base / "etc" / "passwd", base / "etc" / "other-name")
    build.write("base/bin/mv", "").unlink()
    (base / "bin" / "mv").symlink_to("busybox")
    text = STEPS.replace(
        "%appinstall",
        "    rm -r /opt/gone\n    mkdir /opt/gone\n    rm /etc/passwd\n    mv /bin/env /bin/moved\n%appinstall",
    )
    path = definition(text)
    images = []
    for number, words in enumerate(([], [], ["--no-cache"], ["--disable-cache"])):
        build.ok("build", *words, f"{number}.sif", path, SOURCE_DATE_EPOCH="1700000000")
        images.append((build.directory / f"{number}.sif").read_bytes())
    assert all(image == images[0] for image in images)
    root = build.root_of("0.sif")
    assert os.listdir(root / "opt" / "gone") == []
    assert not (root / "etc" / "passwd").exists()
    assert (root / "etc" / "other-name").exists()


def test_no_cache_builds_anew_and_what_it_built_is_used_next(build: Build, definition: Definition) -> None:
    path = definition(STEPS)
    build.ok("build", "a.sif", path)
    time.sleep(1.1)  # squashfs has whole seconds
    assert ran(build.ok("build", "--no-cache", "b.sif", path).stderr) == ["post", "appinstall", "test"]
    assert ran(build.ok("build", "c.sif", path).stderr) == ["test"]
    first, second, third = ((build.root_of(f"{name}.sif") / "posted").stat().st_mtime for name in "abc")
    assert first < second == third


def test_a_layer_made_anew_takes_what_lies_on_it_along(build: Build, definition: Definition, layers: Path) -> None:
    """What was made on the old layer is never put on the new one."""
    path = definition(STEPS)
    build.ok("build", "a.sif", path)
    (post,) = [place for place in layers.iterdir() if "%post" in (place / "about.json").read_text()]
    shutil.rmtree(post)
    assert ran(build.ok("build", "b.sif", path).stderr) == ["post", "appinstall", "test"]
    assert len(kept(layers)) == 4


def test_disable_cache_keeps_nothing(build: Build, definition: Definition, layers: Path) -> None:
    path = definition(STEPS)
    for name in ("a.sif", "b.sif"):
        assert ran(build.ok("build", "--disable-cache", name, path).stderr) == ["post", "appinstall", "test"]
    assert not layers.exists()
    assert build.leftovers() == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "about.json").unlink(),
        lambda place: (place / "about.json").write_text("{"),
        lambda place: (place / "about.json").write_text(json.dumps({"format": 1})),
        lambda place: os.truncate(place / "layer" / "posted", 0),
        lambda place: (place / "layer" / "posted").unlink(),
        lambda place: shutil.rmtree(place / "layer"),
        lambda place: (place / "layer" / "more").write_text("x"),
    ],
)
def test_a_damaged_layer_is_dropped_and_never_used(
    build: Build, definition: Definition, layers: Path, damage: Callable[[Path], object]
) -> None:
    """R-F5."""
    path = definition(STEPS)
    build.ok("build", "a.sif", path)
    (post,) = [place for place in layers.iterdir() if "%post" in (place / "about.json").read_text()]
    damage(post)
    assert ran(build.ok("build", "b.sif", path).stderr) == ["post", "appinstall", "test"]
    assert (build.root_of("b.sif") / "posted").read_text() == "one\n"
    assert ran(build.ok("build", "c.sif", path).stderr) == ["test"]


def test_layers_that_no_build_uses_go_after_a_month(build: Build, definition: Definition, layers: Path) -> None:
    build.ok("build", "a.sif", definition(STEPS))
    old = set(layers.iterdir())
    for place in old:
        os.utime(place, (time.time() - 31 * 86400,) * 2)
    build.ok("build", "b.sif", definition("%post\n    true\n"))
    assert kept(layers) == ["make what launches and scripts expect", "run in the image %post"]


def test_a_script_on_the_host_always_runs_and_counts_by_what_it_leaves(build: Build, definition: Definition) -> None:
    sections = (
        "%pre\n    echo pre ran >&2\n%setup\n    echo setup ran >&2\n    cat outside >$SINGULARITY_ROOTFS/inside\n"
    )
    path = definition(sections + STEPS)
    build.write("outside", "1")
    build.ok("build", "a.sif", path)
    assert ran(build.ok("build", "b.sif", path).stderr) == ["pre", "setup", "test"]
    build.write("outside", "2")
    assert ran(build.ok("build", "c.sif", path).stderr) == ["pre", "setup", "post", "appinstall", "test"]
    assert (build.root_of("c.sif") / "inside").read_text() == "2"


def test_an_earlier_stage_is_an_input_of_what_is_copied_from_it(build: Build, base: Path) -> None:
    del base
    text = """\
Bootstrap: localimage
From: base
Stage: one
%post
    echo one ran >&2
    echo made >/made
%labels
    A b

Bootstrap: localimage
From: base
%files from one
    /made
%post
    echo two ran >&2
"""
    build.write("x.def", text)
    assert ran(build.ok("build", "a.sif", "x.def").stderr) == ["one", "two"]
    build.write("x.def", text.replace("A b", "A c"))
    assert ran(build.ok("build", "b.sif", "x.def").stderr) == []
    assert (build.root_of("b.sif") / "made").read_text() == "made\n"
    build.write("x.def", text.replace("echo made", "echo other"))
    assert ran(build.ok("build", "c.sif", "x.def").stderr) == ["one", "two"]
    assert (build.root_of("c.sif") / "made").read_text() == "other\n"


def test_an_image_file_is_unpacked_once(build: Build, definition: Definition, layers: Path) -> None:
    build.ok("build", "base.sif", definition(""))
    assert not layers.exists()
    build.write("y.def", f"Bootstrap: localimage\nFrom: base.sif\n{STEPS}")
    build.ok("build", "a.sif", "y.def")
    done = build.ok("build", "b.sif", "y.def")
    assert cached(done.stderr)[0] == "localimage"
    build.ok("build", "--force", "base.sif", definition("%labels\n    New yes\n"))
    assert ran(build.ok("build", "c.sif", "y.def").stderr) == ["post", "appinstall", "test"]
    assert "New: yes" in build.ok("inspect", "c.sif").stdout


def test_a_directory_is_never_written_to(build: Build, definition: Definition, base: Path) -> None:
    before = sorted(str(path) for path in base.rglob("*"))
    times = [path.lstat().st_mtime_ns for path in sorted(base.rglob("*"))]
    build.ok("build", "a.sif", definition("%post\n    rm /etc/passwd\n    chmod 700 /bin\n    touch /new\n"))
    assert sorted(str(path) for path in base.rglob("*")) == before
    assert [path.lstat().st_mtime_ns for path in sorted(base.rglob("*"))] == times
    assert not (build.root_of("a.sif") / "etc" / "passwd").exists()


def test_a_sandbox_comes_from_the_cache_too(build: Build, definition: Definition) -> None:
    path = definition(STEPS)
    build.ok("build", "--sandbox", "a", path)
    assert ran(build.ok("build", "--sandbox", "b", path).stderr) == ["test"]
    names = [sorted(str(p.relative_to(build.directory / n)) for p in (build.directory / n).rglob("*")) for n in "ab"]
    assert names[0] == names[1]
    (build.directory / "b" / "posted").write_text("changed\n")
    build.ok("build", "--sandbox", "c", path)
    assert (build.directory / "c" / "posted").read_text() == "one\n"
    assert build.leftovers() == []


# Several builds, and builds that are stopped.


def start(build: Build, *words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        build.argv("build", *words),
        cwd=build.directory,
        env=build.env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_builds_at_once_share_what_they_make(build: Build, definition: Definition, layers: Path) -> None:
    path = definition(STEPS.replace("cat /input", "sleep 1\n    cat /input"))
    running = [start(build, f"{number}.sif", path) for number in range(3)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert len(kept(layers)) == 4
    assert ran(build.ok("build", "last.sif", path).stderr) == ["test"]
    assert len({(build.root_of(f"{number}.sif") / "posted").read_text() for number in range(3)}) == 1


@pytest.fixture
def killed(build: Build, definition: Definition) -> Path:
    """A definition whose build was killed in its second script."""
    path = definition(STEPS.replace("%appinstall tool\n", "%appinstall tool\n    echo waiting\n    sleep 305\n"))
    process = start(build, "a.sif", path)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.kill()
    return path


def test_a_killed_build_keeps_what_it_had_finished(
    build: Build, definition: Definition, killed: Path, layers: Path
) -> None:
    """R-F1, R-F3: nothing is mounted any more (see conftest.py); its working directories go with the next build."""
    del killed
    assert not (build.directory / "a.sif").exists()
    places = [*build.temporary.iterdir(), *layers.glob("singularity-work-*")]
    assert len(places) == 2
    for place in places:
        os.utime(place, (0, 0))
    done = build.ok("build", "a.sif", definition(STEPS))
    assert ran(done.stderr) == ["appinstall", "test"]
    assert build.leftovers() == []
    assert len(kept(layers)) == 4


def test_a_layer_in_use_is_not_removed(build: Build, definition: Definition, layers: Path) -> None:
    slow = definition(STEPS.replace("%appinstall tool\n", "%appinstall tool\n    echo waiting\n    sleep 2\n"))
    process = start(build, "a.sif", slow)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        for place in layers.iterdir():
            if not place.name.startswith("singularity-"):
                os.utime(place, (0, 0))
        build.ok("build", "b.sif", definition("%post\n    true\n"))
        build.ok("build", "--no-cache", "c.sif", definition(STEPS))
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    assert (build.root_of("a.sif") / "posted").read_text() == "one\n"
    build.ok("build", "d.sif", definition(STEPS))
    assert all("what" in (place / "about.json").read_text() for place in layers.iterdir())


def test_layers_are_listed_and_removed_unless_in_use(build: Build, definition: Definition, layers: Path) -> None:
    slow = definition(STEPS.replace("%appinstall tool\n", "%appinstall tool\n    echo waiting\n    sleep 2\n"))
    process = start(build, "a.sif", slow)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        done = build.ok("cache", "clean", "--force", "--type", "build")
        assert done.stderr.count("INFO:    In use: build cache entry: ") == 3
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    listed = build.ok("cache", "list", "-v").stdout
    assert "x.def: run in the image %post\n" in listed
    assert "There are 4 build layer(s) using " in listed
    assert build.ok("cache", "clean", "--force").stderr.count("INFO:    Removing build cache entry: ") == 4
    assert list(layers.iterdir()) == []


def test_what_a_failed_section_has_left_stays_to_be_looked_at(build: Build, definition: Definition) -> None:
    build("build", "--no-cleanup", "a.sif", definition("%post\n    touch /first\n    false\n"))
    (place,) = build.temporary.iterdir()
    assert (place / "root" / "first").exists()
    assert (place / "root" / "bin" / "busybox").exists()
    shutil.rmtree(place)


def test_a_build_without_rights_in_the_cache_goes_on(build: Build, definition: Definition) -> None:
    """A cache that cannot be made is no reason to build nothing."""
    build.write("no-directory", "")
    done = build.ok("--verbose", "build", "a.sif", definition(STEPS), SINGULARITY_CACHEDIR="no-directory")
    assert "VERBOSE: Nothing is kept for the next build" in done.stderr
    assert ran(done.stderr) == ["post", "appinstall", "test"]
    assert (build.root_of("a.sif") / "posted").read_text() == "one\n"
