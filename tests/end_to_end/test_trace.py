"""`--trace` and `build --only`: names that launches use are noted, images are made of those, what they lack is told."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
import pytest
from images import write
from launching import Mode
from python_image import PYTHON
from python_image import tool as tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from images import Images
    from launching import Launcher, Result

pytestmark = [pytest.mark.needs("fuse", "userns", "mksquashfs", "busybox"), pytest.mark.modes("suid", "userns", "root")]
ODD = [b"new\nline", b'quo"te', b"back\\slash", b"no UTF-8: \xff\xfe", "ünï".encode(), b"\x1b[31mred", b"z" * 255]
BROUGHT_BACK = "(build again with --keep '{0}', or with a trace of this)"


def removed(path: str) -> str:
    return f"WARNING: {path}: not in this image since build --only removed it {BROUGHT_BACK.format(path)}"


@pytest.fixture(scope="module")
def big(storage: Path, images: Images) -> Path:
    """A SIF file with a %test, a link, a file of two names, and files that nobody uses."""
    place = storage / "traced"
    tree = images.modern_tree(place / "tree")
    data = tree / "opt/of-tool"
    data.mkdir()
    write(data / "used", "used\n")
    write(data / "asked", "only asked for its size\n")
    os.link(data / "used", data / "second")
    (data / "link").symlink_to("used")
    for number in range(3):
        write(data / f"unused{number}", "unused\n")
    for name in ODD:
        Path(os.fsdecode(os.fsencode(data) + b"/" + name)).write_bytes(name)
    write(tree / ".singularity.d/test", "#!/bin/sh\ncat /opt/of-tool/used\n", 0o755)
    return built(tree, place / "big.sif")


def built(tree: Path, target: Path) -> Path:
    prefix = machine.prefix()
    assert prefix is not None
    words = ["--quiet", "build", "--watch-starts", "0"]
    subprocess.run([prefix / "bin/singularity", *words, target, tree], check=True)
    return target


@dataclass(frozen=True)
class Place:
    """The caller's home directory, where the traces and images of a test are."""

    launch: Launcher

    def __call__(self, name: str) -> Path:
        """As the caller names a file in it."""
        return self.launch.home_inside / name

    def seen(self, name: str) -> Path:
        """As this process does."""
        return self.launch.home / name

    def runs(self, name: str = "trace.json") -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.seen(name).read_text().splitlines()]

    def traced(self, image: Path, *words: str, verb: str = "exec", options: Sequence[str] = ()) -> Result:
        return self.launch(verb, *options, "--trace", self("trace.json"), image, *words)

    def build(self, *words: str | Path, image: Path) -> Result:
        """A smaller image, `slim.sif`; it ends well."""
        trace, target = self("trace.json"), self("slim.sif")
        result = self.launch("build", "--force", "--only", trace, *words, target, image)
        assert result.status == 0, str(result)
        return result

    def run_of(self, number: int = 0) -> dict[str, Any]:
        """A run that nobody waits for, or who has been killed."""
        end = time.monotonic() + 10
        while time.monotonic() < end and not self.seen("trace.json").stat().st_size:
            time.sleep(0.02)
        return self.runs()[number]


@pytest.fixture
def place(launch: Launcher) -> Place:
    return Place(launch)


def test_names_that_are_used_are_noted_and_runs_add_up(launch: Launcher, big: Path, place: Place) -> None:
    script = "cat /opt/of-tool/link; test -s /opt/of-tool/asked; test -e /opt/of-tool/none; exit 3"
    assert place.traced(big, "sh", "-c", script).status == 3
    (run,) = place.runs()
    assert (run["image"], run["complete"]) == (str(big), True)
    assert {"/bin/sh", "/bin/busybox", "/opt/of-tool/link", "/opt/of-tool/used"} <= set(run["read"])
    assert {"/opt/of-tool", "/opt/of-tool/asked"} <= set(run["found"])
    assert not [each for each in run["read"] + run["found"] if "unused" in each or "none" in each]
    assert run["read"].index("/bin/sh") < run["read"].index("/opt/of-tool/link")  # in order
    assert place.seen("trace.json").stat().st_mode & 0o777 == 0o666 & ~umask()  # as the caller has his files
    launch("exec", big, "ls", "/opt/of-tool", env={"SINGULARITY_TRACE": str(place("trace.json"))}).ok()
    assert "/opt/of-tool" in place.runs()[1]["read"]  # listed


def test_any_name_is_noted_as_it_is(big: Path, place: Place) -> None:
    place.traced(big, "sh", "-c", "cat /opt/of-tool/* >/dev/null").ok()
    noted = {os.fsencode(each) for each in place.runs()[0]["read"]}
    assert {b"/opt/of-tool/" + name for name in ODD} <= noted


@pytest.mark.parametrize(
    "options", [["-C"], ["--writable-tmpfs"], ["--pid"], ["--fakeroot"], ["--join=yes"], ["--linger", "9s"]]
)
def test_whatever_else_is_asked_for(big: Path, place: Place, options: list[str]) -> None:
    assert place.traced(big, "cat", "/opt/of-tool/used", options=options).out == "used\n"
    assert "/opt/of-tool/used" in place.run_of()["read"]  # of a container that is shared nobody waits for the end


def test_eight_at_once_add_eight_lines(launch: Launcher, big: Path, place: Place) -> None:
    words = launch.argv("exec", "--trace", place("trace.json"), big, "cat", "/opt/of-tool/used")
    started = [launch.start(*words) for _ in range(8)]
    assert [process.communicate()[0] for process in started] == [b"used\n"] * 8
    assert len(place.runs()) == 8


@pytest.mark.parametrize("options", [[], ["--pid"]])
def test_who_is_killed_leaves_a_whole_line(launch: Launcher, big: Path, place: Place, options: list[str]) -> None:
    words = launch.argv("exec", *options, "--trace", place("trace.json"), big, "sh", "-c", "echo up; exec sleep 600")
    with launch.start(*words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        os.killpg(process.pid, signal.SIGKILL)
    assert "/bin/sh" in place.run_of()["read"]


@pytest.mark.needs("root")
def test_a_full_disk_is_told_and_adds_nothing(big: Path, place: Place) -> None:
    target = place.seen("trace.json")
    target.write_text('{"singularity-trace": 1, "read": [], "found": [], "complete": true}\n')
    target.chmod(0o666)
    before = target.read_text()
    limit = [
        "sh",
        "-c",
        'ulimit -f 1; exec "$0" "$@"',
    ]  # of 512 bytes, as if the disk were full
    words = place.launch.argv("exec", "--trace", place("trace.json"), big, "sh", "-c", "cat /bin/* >/dev/null; exit 4")
    result = place.launch.command(*limit, *words)
    assert result.status == 4
    assert f"ERROR:   --trace {place('trace.json')}: nothing is added: File too large" in result.err
    assert target.read_text() == before


def test_what_cannot_be_traced_is_refused(launch: Launcher, images: Images, big: Path, place: Place) -> None:
    for image in (images.sandbox, images.extfs()):
        place.traced(image, "true").refused("is no SIF or squashfs file", "makes one")
    assert not place.seen("trace.json").exists()
    place.seen("other.json").write_text('{"mine": true}\n')
    place.seen("other.json").chmod(0o666)
    launch("exec", "--trace", place("other.json"), big, "true").refused("other.json: no trace")
    assert place.seen("other.json").read_text() == '{"mine": true}\n'
    launch("exec", "--trace", place("."), big, "true").refused("cannot be written")
    launch("exec", "--trace", place("no/such"), big, "true").refused("cannot be written", "No such file")


@pytest.fixture
def slim(big: Path, place: Place) -> Path:
    place.traced(big, "sh", "-c", "cat /opt/of-tool/link; test -s /opt/of-tool/asked").ok()
    place.traced(big, verb="test").ok()
    assert place.build(image=big).out == "used\n"  # %test was run
    return place("slim.sif")


@pytest.mark.modes("userns")
def test_a_trace_that_others_lay_out_or_lock_holds_nobody_up(big: Path, place: Place) -> None:
    """A link to nothing makes no file elsewhere; who may read a trace may lock it, and delays launches for seconds."""
    place.seen("trace.json").symlink_to("elsewhere")
    place.traced(big, "true").refused("trace.json")
    assert not place.seen("elsewhere").exists()
    place.seen("trace.json").unlink()
    place.traced(big, "true").ok()
    with place.seen("trace.json").open("rb") as reader:
        for byte in ((1 << 61) + 1, 1 << 61):  # launcher/trace.h
            fcntl.fcntl(reader, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
        result = place.traced(big, "true")
    assert (result.status, len(place.runs())) == (0, 1)
    assert "nothing is added: somebody keeps it locked" in result.err


def test_an_image_of_what_was_used(launch: Launcher, slim: Path) -> None:
    """What was asked for is whole, names of one file stay together, the rest is gone."""
    kept = launch("exec", slim, "sh", "-c", "cd /opt/of-tool; echo *; cat link second asked").ok()
    assert kept.lines == ["asked link second used", "used", "used", "only asked for its size"]
    assert launch("exec", slim, "sh", "-c", "cat /etc/passwd").ok().out.startswith("root:")


def test_who_misses_a_removed_name_is_told_once(launch: Launcher, slim: Path) -> None:
    script = "cat /opt/of-tool/unused1; cat /opt/of-tool/unused1; cat /opt/none; exit 0"
    missing = launch("exec", slim, "sh", "-c", script)
    assert missing.err.splitlines().count(removed("/opt/of-tool/unused1")) == 1
    assert "none: not in this image" not in missing.err
    program = launch("exec", slim, "sha256sum")
    assert removed("/bin/sha256sum") in program.err
    assert program.status == 127
    launch("why", slim, "/opt/of-tool/unused1").refused("build --only removed /opt/of-tool/unused1")
    checked = launch("check", slim, "--", "sha256sum")
    assert (checked.status, "build --only removed /bin/sha256sum" in " ".join(checked.out.split())) == (1, True)


@pytest.mark.modes("suid")
def test_the_setuid_mode_is_left_for_that_unless_it_is_asked_for(launch: Launcher, slim: Path) -> None:
    script = "cat /opt/of-tool/unused1"
    assert removed("/opt/of-tool/unused1") in launch("exec", slim, "sh", "-c", script).err
    assert "mode: user namespace (the image server tells" in launch("exec", "--dry-run", slim, "true").ok().out
    kept = launch("exec", "--userns=false", slim, "sh", "-c", script)
    assert "removed it" not in kept.err
    refusing = launch.configured("allow user ns = no\n")
    kept = refusing("exec", slim, "sh", "-c", script)
    assert (kept.status, "removed it" in kept.err) == (1, False)


def test_the_test_decides(launch: Launcher, big: Path, place: Place) -> None:
    place.traced(big, "sh", "-c", "true").ok()
    place.seen("slim.sif").write_text("what was there")
    words = ["build", "--force", "--only", place("trace.json")]
    told = launch(*words, place("slim.sif"), big)
    assert (told.status, "%test of the new image failed with status 1" in told.err) == (255, True)
    assert removed("/opt/of-tool") in told.err
    assert place.seen("slim.sif").read_text() == "what was there"
    place.build("--notest", image=big)
    assert launch("test", place("slim.sif")).status == 1
    assert place.build("--keep", "/opt/*/link", image=big).out == "used\n"


def test_patterns_keep_what_they_name(launch: Launcher, big: Path, place: Place) -> None:
    place.traced(big, "sh", "-c", "true").ok()
    words = ["--keep", "/opt/*/unused[12]", "--keep", "/opt/of-tool/link", "--keep", "/none"]
    assert "WARNING: --keep /none: nothing in the image is called so" in place.build(*words, image=big).err
    listed = launch("exec", place("slim.sif"), "sh", "-c", "cd /opt/of-tool; echo *").ok().out.split()
    assert listed == ["link", "second", "unused1", "unused2", "used"]


def test_what_makes_no_sense_is_told(launch: Launcher, images: Images, big: Path, place: Place) -> None:
    trace, target, text = place("trace.json"), place("new.sif"), place.seen("trace.json")
    launch("build", "--keep", "x", target, big).misused("--keep is for --only")
    launch("build", "--only", trace, target, big).refused("No such file")
    for content, why in (
        ("", "no run in it"),
        ("{}\n", "trace.json:1: no trace"),
        ('{"singularity-trace": 2, "read": [], "found": []}\n', "of another version"),
        ('{"singularity-trace": 1, "read": ["x"], "found": [], "complete": true}\n', "a name in it is no path"),
        ('{"singularity-trace": 1, "complete": true}\n', "a name in it is no path"),
    ):
        text.write_text(content)
        text.chmod(0o666)
        launch("build", "--only", trace, target, big).refused(why)
    text.unlink()
    place.traced(big, "true").ok()
    launch("build", "--only", trace, "--sandbox", place("box"), big).misused("--only makes SIF files")
    launch("build", "--only", trace, "--encrypt", target, big).misused("cannot be encrypted at once")
    launch("build", "--only", trace, target, images.sandbox).refused("is no image file")
    assert not place.seen("new.sif").exists()


def test_a_run_that_was_cut_off_does_not_count(big: Path, place: Place) -> None:
    for _ in range(2):
        place.traced(big, "sh", "-c", "true").ok()
        os.truncate(place.seen("trace.json"), place.seen("trace.json").stat().st_size - 30)
    place.traced(big, verb="test").ok()
    told = place.build(image=big)
    assert told.err.count("a run that was cut off while it was written down does not count") == 2


def test_a_run_that_goes_on_is_waited_for(launch: Launcher, big: Path, place: Place) -> None:
    """A program that outlives its launch, which writes its line after it."""
    place.traced(big, verb="test").ok()
    place.traced(big, "sh", "-c", "(sleep 2; cat /opt/of-tool/unused2) >/dev/null 2>&1 &").ok()
    assert len(place.runs()) == 1
    place.build(image=big)
    assert launch("exec", place("slim.sif"), "sh", "-c", "cat /opt/of-tool/unused2").ok().out == "unused\n"


@pytest.fixture(scope="module")
def hostile(storage: Path, images: Images) -> dict[str, Path]:
    """Images whose lists of removed names are none that we would write."""
    tree = images.modern_tree(storage / "hostile-tree")
    names = b"".join(b"/bin/name%d\n" % number for number in range(300_000))
    lists = {
        "odd": b"\n/\n//\nrelative\n/bin/\n/bin/gone\x1b[31m\n/" + b"x" * 5000 + b"/y\n/bin/sh/below\n/bin/nothing",
        "long": names,
        "too long": names + b"\n" * (16 << 20),
    }
    made = {}
    for name, text in lists.items():
        (tree / ".singularity.d/removed").write_bytes(text)
        made[name] = built(tree, storage / f"removed {name}.sif")
    return made


def test_a_hostile_list_harms_nobody(launch: Launcher, hostile: dict[str, Path]) -> None:
    script = 'cat "/bin/gone\x1b[31m" /bin/nothing /bin/name7; exec true'
    for name, image in hostile.items():
        result = launch("exec", image, "sh", "-c", script)
        assert result.status == 0
        told = {"odd": [r"/bin/gone\x1b[31m", "/bin/nothing"], "long": ["/bin/name7"]}.get(name, [])
        lines = [line for line in result.err.splitlines() if line.startswith("WARNING")]
        assert lines == [removed(each) for each in told], name
    script = "for i in $(seq 60); do cat /bin/name$i; done 2>/dev/null; true"
    many = launch("exec", hostile["long"], "sh", "-c", script)
    assert many.err.count("not in this image since build --only removed it") == 20


@pytest.fixture(scope="module")
def python(storage: Path, tool: Path) -> Path:
    """With directories of packages, in one of which is one."""
    tree = storage / "python-tree"
    prefix = machine.prefix()
    assert prefix is not None
    subprocess.run([prefix / "bin/singularity", "--quiet", "build", "--sandbox", tree, tool], check=True)
    for name in ("python3/dist-packages", f"{PYTHON.name}/site-packages"):
        write(tree / PYTHON.parent.parent.relative_to("/") / "lib" / name / "package_of_a_test/__init__.py", "")
    return built(tree, storage / "python.sif")


def test_a_program_of_python_needs_a_small_part(launch: Launcher, python: Path, place: Place) -> None:
    """And is told of modules, which it looks for in lists of directories, in every mode."""
    program = ["python3", "-c", "import json, csv; print(json.dumps([1]))"]
    place.traced(python, *program).ok()
    place.build("--notest", image=python)
    assert launch("exec", place("slim.sif"), *program).ok().out == "[1]\n"
    assert place.seen("slim.sif").stat().st_size * 2 < python.stat().st_size
    for options in ([], ["--userns=false"]) if launch.mode is Mode.SUID else ([],):
        text = "try:\n  import package_of_a_test\nexcept ImportError: print('none')\nimport json.tool"
        result = launch("exec", *options, place("slim.sif"), "python3", "-c", text)
        assert result.out == "none\n"
        told = [line for line in result.err.splitlines() if line.startswith("WARNING: /usr")]
        assert [line.split(":")[1].rpartition("/")[2] for line in told] == ["package_of_a_test", "tool.py"], result


def test_a_squashfs_file_is_traced_and_made(launch: Launcher, images: Images, place: Place) -> None:
    place.traced(images.squashfs(), "cat", "/opt/data").ok()
    words = ["build", "--only", place("trace.json"), "--notest", place("slim.sqfs"), images.squashfs()]
    assert launch(*words).status == 0
    assert launch("exec", place("slim.sqfs"), "cat", "/opt/data").ok().out == "data of the image\n"
    assert "No such file" in launch("exec", place("slim.sqfs"), "cat", "/opt/script").err


def umask() -> int:
    now = os.umask(0o22)
    os.umask(now)
    return now
