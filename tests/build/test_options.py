"""What the options of `build` change."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from builds import Build

pytestmark = pytest.mark.needs("busybox", "mksquashfs")
Definition = Callable[[str], Path]


def kind(path: Path) -> str:
    """What a file is, by tools that are not ours."""
    head = path.read_bytes()[:2048] if path.is_file() else b""
    if path.is_dir():
        return "directory"
    if head[32:41] == b"SIF_MAGIC":
        return "sif"
    if head[:4] == b"hsqs":
        return "squashfs"
    if head[1024:1028] == bytes.fromhex("e2e1f5e0"):
        return "erofs"
    line = head.find(b"\n") + 1 if head.startswith(b"#!") else 0
    with path.open("rb") as file:
        file.seek(line + 1024 + 56)
        if file.read(2) == b"\x53\xef":
            return "ext3"
    listed = subprocess.run(["tar", "tf", path], capture_output=True, check=False)
    return "tar" if listed.returncode == 0 else "unknown"


@pytest.mark.parametrize(
    ("words", "target", "expected"),
    [
        ([], "x", "sif"),
        ([], "x.img", "sif"),
        ([], "x.sqsh", "squashfs"),
        ([], "x.ext3", "ext3"),
        ([], "x.tar", "tar"),
        ([], "x.tar.gz", "tar"),
        (["--format", "squashfs"], "x.sif", "squashfs"),
        (["--format", "sif"], "x.tar", "sif"),
        (["--format", "sandbox"], "x", "directory"),
        (["--sandbox"], "x.tar", "directory"),
        (["-w"], "x.img", "ext3"),
        pytest.param([], "x.erofs", "erofs", marks=pytest.mark.needs("mkfs.erofs")),
        pytest.param(["--format", "erofs"], "x", "erofs", marks=pytest.mark.needs("mkfs.erofs")),
    ],
)
def test_the_target_is_what_was_asked_for_or_its_suffix_says(
    build: Build, definition: Definition, words: list[str], target: str, expected: str
) -> None:
    build.ok("build", *words, target, definition("%post\n    touch /made\n"))
    assert kind(build.directory / target) == expected
    assert build.leftovers() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-w", "-s"], "TARGET cannot be ext3 and sandbox at once"),
        (["--format", "tar", "-s"], "TARGET cannot be sandbox and tar at once"),
        (["--size", "10"], "--size: only ext3 images have one (--format ext3)"),
        (["--update"], "--update: x.sif is no directory (it goes on with a sandbox that is there)"),
        (["--format", "tar", "--compression", "gzip"], "--compression, --chunks and --mksquashfs-args are for SIF and"),
        (["--erofs", "--compression", "gzip"], "are for SIF and squashfs files, not for EROFS"),
        (["--erofs", "--sandbox"], "--erofs is for SIF files (TARGET becomes sandbox)"),
        (["--encrypt"], "--encrypt: no key"),
        (["--encrypt", "--sandbox"], "--encrypt is for SIF files with squashfs"),
        (["--provenance", "--sandbox"], "--provenance is for SIF files"),
        (["--bind", "nowhere:/x"], "--bind: nowhere: No such file or directory"),
        (["--bind", "/etc:etc"], "--bind: etc is no absolute path in the image"),
        (["--bind", "/etc:/"], "--bind: nothing can be bound on / of the image"),
        (["--bind", "/etc:/x:wo"], "--bind /etc:/x:wo: not understood (SOURCE[:TARGET[:ro]])"),
        (["--mount", "type=tmpfs,destination=/x"], '--mount type=tmpfs,destination=/x: "type=tmpfs" is not understood'),
        (["--mount", "type=bind,source=/etc"], "it needs source=PATH and destination=PATH"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    build: Build, definition: Definition, words: list[str], message: str
) -> None:
    assert message in build.fails("build", *words, "x.sif", definition("").name, status=1)


def test_a_foreign_architecture_is_refused_where_nothing_runs_its_programs(
    build: Build, definition: Definition
) -> None:
    foreign = "s390x" if os.uname().machine != "s390x" else "riscv64"
    if Path(f"/proc/sys/fs/binfmt_misc/qemu-{foreign}").exists():
        pytest.skip("this machine runs programs of the other architecture")
    message = build.fails("build", "--arch", foreign, "x.sif", definition(""))
    assert re.fullmatch(
        rf"--arch {foreign}: this machine runs programs for \w+ only \(install qemu-user-static, .*", message
    )
    assert 'no architecture "vax"' in build.fails("build", "--arch", "vax", "x.sif", definition(""))
    own = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    build.ok("build", "--arch", own, "x.sif", definition(""))


def test_accepted_options_change_nothing(build: Build, definition: Definition) -> None:
    words = ["--json", "--userns", "--no-https", "--docker-login", "--authfile", "x", "--library", "https://example"]
    build.ok("build", *words, "x.sif", definition(""))


@pytest.mark.needs("root")
def test_scripts_see_what_is_bound_and_the_image_keeps_no_trace(
    build: Build, definition: Definition, base: Path
) -> None:
    data = build.directory / "data, one"
    data.mkdir()
    (data / "file").write_text("of the host\n")
    build.write("single", "one file\n")
    (base / "etc" / "there").write_text("of the image\n")
    script = """\
%post
    cat /data/file /single /etc/there >/seen
    echo written >/data/new
    if echo x >/single; then exit 9; fi
    if echo x >/mnt/deep/er/file; then exit 9; fi
%test
    test -e /data/file
"""
    single = build.directory / "single"
    words = ["--bind", f"{data}:/data".replace(",", "\\,"), "-B", f"single:/single:ro,{single}:/etc/there"]
    words += ["--mount", f'type=bind,"source={data}",destination=/mnt/deep/er,ro']
    build.ok("build", *words, "x.sif", definition(script))
    root = build.root_of("x.sif")
    assert (root / "seen").read_text() == "of the host\none file\none file\n"
    assert (data / "new").read_text() == "written\n"
    assert single.read_text() == "one file\n"
    assert (root / "etc" / "there").read_text() == "of the image\n"
    assert not (root / "data").exists()
    assert not (root / "single").exists()
    assert list((root / "mnt").iterdir()) == []


@pytest.mark.needs("root")
def test_binds_resolve_their_targets_inside_the_image(build: Build, definition: Definition, base: Path) -> None:
    """R-B6."""
    outside = build.directory / "outside"
    outside.mkdir()
    (base / "link").symlink_to(outside)
    build("build", "--bind", "/etc/hostname:/link/hostname", "x.sif", definition("%post\n    true\n"))
    assert list(outside.iterdir()) == []


@pytest.mark.needs("root", "overlay")
def test_what_a_test_writes_is_thrown_away_when_asked(build: Build, definition: Definition) -> None:
    path = definition("%post\n    touch /made\n%test\n    test -e /made\n    rm /made\n    touch /tested\n")
    for words in ([], ["--disable-cache"], ["--sandbox"]):
        target = f"x{len(words)}{'-'.join(words)}"
        build.ok("build", "--writable-tmpfs", *words, target, path)
        root = build.directory / target if "--sandbox" in words else build.root_of(target)
        assert (root / "made").exists()
        assert not (root / "tested").exists()


@pytest.mark.needs("root")
def test_an_update_runs_the_sections_on_the_directory_that_is_there(build: Build, definition: Definition) -> None:
    build.ok("build", "--sandbox", "box", definition("%post\n    touch /first\n%labels\n    A one\n"))
    build.write("more.def", "%post\n    touch /second\n    test -e /first\n%labels\n    B two\n")
    build.ok("build", "--update", "box", "more.def")
    assert (build.directory / "box" / "first").exists()
    assert (build.directory / "box" / "second").exists()
    labels = build.ok("inspect", "box").stdout
    assert "A: one" in labels
    assert "B: two" in labels
    build.write("bad.def", "Bootstrap: localimage\nFrom: nowhere\n%post\n    touch /third\n    false\n")
    assert build.fails("build", "--update", "--sandbox", "box", "bad.def") == "bad.def:5: %post failed with status 1"
    assert not (build.directory / "box" / "third").exists()
    build.write("more.def", "Bootstrap: localimage\nFrom: nowhere\n%post\n    touch /third\n")
    build.ok("build", "-u", "-s", "box", "more.def")
    assert (build.directory / "box" / "third").exists()
    assert build.leftovers() == []
    assert "a section before any header" in build.fails("build", "x.sif", build.write("none.def", "%post\n    true\n"))


def test_files_that_nobody_may_read_are_mended_when_asked(build: Build, definition: Definition, base: Path) -> None:
    build.write("base/secret", "x").chmod(0)
    (base / "closed").mkdir(mode=0o500)
    build.ok("build", "a.sif", definition(""))
    build.ok("build", "--fix-perms", "b.sif", definition(""))
    build.ok("build", "--fix-perms", "--sandbox", "c", definition(""))
    for root, file, directory in (
        (build.root_of("a.sif"), 0, 0o500),
        (build.root_of("b.sif"), 0o600, 0o700),
        (build.directory / "c", 0o600, 0o700),
    ):
        assert stat.S_IMODE((root / "secret").stat().st_mode) == file
        assert stat.S_IMODE((root / "closed").stat().st_mode) == directory
    assert stat.S_IMODE((base / "secret").stat().st_mode) == 0


def test_nv_without_a_driver_is_a_warning(build: Build, definition: Definition) -> None:
    if any(name.startswith("nvidia") for name in os.listdir("/dev")):
        pytest.skip("this machine has the driver")
    done = build.ok("build", "--nv", "x.sif", definition("%post\n    echo $LD_LIBRARY_PATH >/libs\n"))
    assert "WARNING: --nv: no files and no devices of such a driver on this host" in done.stderr


# --dry-run, which is also how definitions are checked.


@pytest.mark.needs("root", "overlay")
def test_a_dry_run_says_what_comes_from_the_cache(build: Build, definition: Definition, private_home: Path) -> None:
    path = definition("%files\n    input\n%post\n    cat /input\n%appinstall tool\n    true\n")
    build.write("input", "x")

    def notes() -> list[bool | None]:
        document = json.loads(build.ok("build", "--dry-run=json", "x.sif", path).stdout)
        return [step["cache"] for step in document["steps"]]

    assert notes() == [False] * 7
    assert not (private_home / "cache").exists()
    build.ok("build", "x.sif", path)
    assert notes() == [False, True, True, True, True, False, False]
    text = build.ok("build", "--dry-run", "x.sif", path.name).stdout.splitlines()
    assert text[2:5] == [
        " 3. copy files %files  (x.def:4; from the cache)",
        "      input",
        " 4. run in the image %post  (x.def:5; from the cache)",
    ]
    build.write("input", "y")
    assert notes() == [False, True, False, False, False, False, False]
    for option in ("--no-cache", "--disable-cache"):
        assert "from the cache" not in build.ok("build", option, "--dry-run", "x.sif", path.name).stdout


def test_a_dry_run_shows_stages_copies_and_scripts(build: Build, base: Path) -> None:
    del base
    build.write(
        "x.def",
        "Bootstrap: localimage\nFrom: base\nStage: one\n%post\n    true\n\n"
        "Bootstrap: localimage\nFrom: base\n%files from one\n    /a /b\n%test -u\n    false\n",
    )
    assert build.ok("build", "--dry-run", "x.tar", "x.def").stdout.splitlines() == [
        "Stage 1: one",
        " 1. bootstrap with localimage  (x.def:1)",
        " 2. make what launches and scripts expect  (default)",
        " 3. run in the image %post  (x.def:4)",
        " 4. write /.singularity.d  (default)",
        "Stage 2",
        " 5. bootstrap with localimage  (x.def:7)",
        " 6. make what launches and scripts expect  (default)",
        " 7. copy files %files from stages  (x.def:10)",
        "      /a -> /b",
        " 8. write /.singularity.d  (default)",
        " 9. test %test  (x.def:11)",
        "10. pack x.tar  (a tar archive)",
    ]
    document = json.loads(build.ok("build", "--dry-run=json", "x.tar", "x.def").stdout)
    assert document["format"] == "tar"
    assert document["stages"][0] == {
        "name": "one",
        "agent": "localimage",
        "header": {"bootstrap": "localimage", "from": "base", "stage": "one"},
    }
    by_name = {step["what"]: step for step in document["steps"]}
    assert by_name["%files from stages"]["copies"] == [{"source": "/a", "target": "/b", "stage": "one"}]
    assert by_name["%test"]["script"] == "    false\n"
    assert by_name["%test"]["arguments"] == ["-u"]
    assert build.leftovers() == []


def test_what_is_missing_on_the_host_is_said_before_the_work(build: Build, definition: Definition) -> None:
    lines = "Bootstrap: localimage\nFrom: nowhere.sif\n%files\n    x.def /a\n    data*.csv /b\n    deep/** /c\n"
    path = definition(f"%post\n    echo working\n\n{lines}")
    done = build.ok("build", "--dry-run", "x.sif", path.name)
    assert done.stderr.splitlines() == [
        "WARNING: x.def:7: From: nowhere.sif: No such file or directory",
        "WARNING: x.def:10: %files: data*.csv: no such file",
    ]
    assert "5. bootstrap with localimage  (x.def:6)" in done.stdout
    done = build("build", "x.sif", path.name)
    assert (done.returncode, done.stdout) == (255, "")
    assert done.stderr == "FATAL:   x.def:7: From: nowhere.sif: No such file or directory\n"
    path = definition(f"%setup\n    cp -r base nowhere.sif; touch data1.csv\n{lines.replace('deep/**', 'data1.csv')}")
    build.ok("build", "x.sif", path.name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Bootstrap: scratch\n%pots\n", 'x.def:2: unknown section "%pots" (did you mean "%post"?)'),
        ("Bootstrap: localimage\n", "x.def:1: bootstrap agent localimage needs From (From: PATH"),
        ("Bootstrap: localimagge\n", 'x.def:1: unknown bootstrap agent "localimagge" (did you mean "localimage"?)'),
        ("Bootstrap: scratch\n%files from x\n    y\n", 'x.def:3: %files: no earlier stage "x"'),
    ],
)
def test_a_dry_run_refuses_what_a_build_would(build: Build, text: str, message: str) -> None:
    build.write("x.def", text)
    assert build.fails("build", "--dry-run", "x.sif", "x.def").startswith(message)


def test_an_image_that_is_only_converted_has_one_step(build: Build, definition: Definition) -> None:
    build.ok("build", "x.sif", definition(""))
    done = build.ok("build", "--dry-run", "y.sqfs", "x.sif")
    assert done.stdout == " 1. convert x.sif to y.sqfs  (an image as it is: nothing to unpack)\n"
    build.ok("build", "y.sqfs", "x.sif")
    assert kind(build.directory / "y.sqfs") == "squashfs"


@pytest.mark.parametrize("target", ["x.tar", "x.ext3", "x.sqfs"])
def test_every_format_can_be_built_on(build: Build, definition: Definition, target: str) -> None:
    build.ok("build", target, definition("%post\n    touch /made\n"))
    build.write("y.def", f"Bootstrap: localimage\nFrom: {target}\n%post\n    test -e /made\n    touch /again\n")
    build.ok("build", "y.sif", "y.def")
    assert (build.root_of("y.sif") / "again").exists()
    build.ok("build", "--sandbox", "box", target)
    assert (build.directory / "box" / "made").exists()


# Checkpoints.

PARTS = """\
%post
    echo one ran >&2
    export CARRIED="with 'quotes'
and lines"
    cd /etc
    umask 027
    # singularity: checkpoint
    echo two ran >&2
    echo "$PWD $CARRIED" >/seen
    touch /made
    #singularity:checkpoint
    echo three ran >&2
"""


def ran(errors: str) -> list[str]:
    return [line.split()[0] for line in errors.splitlines() if line.endswith(" ran") and not line.startswith("+")]


@pytest.mark.needs("root", "overlay")
def test_a_script_goes_on_at_its_last_checkpoint(build: Build, definition: Definition) -> None:
    build.ok("build", "a.sif", definition(PARTS))
    root = build.root_of("a.sif")
    assert (root / "seen").read_text() == "/etc with 'quotes'\nand lines\n"
    assert stat.S_IMODE((root / "made").stat().st_mode) == 0o640
    assert [path.name for path in root.iterdir() if path.name.startswith(".post")] == []
    path = definition(f"{PARTS}    false\n")
    for _ in range(2):
        done = build("build", "b.sif", path)
        assert ran(done.stderr) == ["three"]
        assert "x.def:15: %post failed with status 1" in done.stderr
    assert ran(build.ok("build", "b.sif", definition(PARTS.replace("echo two", "echo  two"))).stderr) == [
        "two",
        "three",
    ]
    plan = build.ok("build", "--dry-run", "--no-cache", "c.sif", path.name).stdout
    assert " 4. run in the image %post (part 2 of 3)  (x.def:10)\n" in plan


def test_a_script_that_ends_early_has_ended(build: Build, definition: Definition) -> None:
    sections = "%post\n    echo one ran >&2\n    exit 0\n    # singularity: checkpoint\n    echo two ran >&2\n"
    path = definition(sections)
    assert ran(build.ok("build", "a.sif", path).stderr) == ["one"]
    build.ok("build", "b.sif", path)


def test_checkpoints_are_comments_to_other_programs(build: Build, definition: Definition) -> None:
    build.write("base/bin/count", '#!/bin/sh\ngrep -c checkpoint "$1"\n').chmod(0o755)
    done = build.ok("build", "x.sif", definition("%post -c /bin/count\n    a\n    # singularity: checkpoint\n    b\n"))
    assert done.stdout == "1\n"


# The line of a failure.


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("    true\n    false\n    true\n", "5"),
        ("    x=1 \\\n      y=2\n    test $x = 2\n", "6"),
        ("    if true; then\n        false\n    fi\n    true\n", "4-6"),
        (
            "    true\n    for x in a b; do\n        if test $x = b; then\n            false\n        fi\n    done\n",
            "5-9",
        ),
        ("    true\n    ls /bin \\\n      /nowhere \\\n      /tmp\n    true\n", "5-7"),
        ("    true &&\n      true |\n      false\n    exit 3\n", "4-6"),
        ("    # no end \\\n    false\n", "5"),
        ("    echo a \\\\\n    false\n", "5"),
        ("    f() { false; }\n    true\n    f\n    true\n", "6"),
        ("    cat <<E >/x\na\nb\nE\n    false\n", "8"),
        ("    trap 'true' EXIT\n    set +x\n    exit 4\n    true\n", "6"),
        ("    echo 'set -e' >/x; . /x\n    nowhere\n", "5"),
        ("    (\n", "4"),
        ("    true\n" * 300 + "    false\n", "304"),
        (f"    : {'x' * 10_000}\n    false\n", "5"),
        ("    read line || true\n    false\n", "5"),
    ],
)
@pytest.mark.parametrize("shell", ["busybox", "dash", "bash"])
def test_a_failure_names_the_line_that_was_reached(
    build: Build, definition: Definition, body: str, line: str, shell: str
) -> None:
    """With the shells that images have: Debian's dash does not know the numbers of its lines."""
    if shell != "busybox":
        install(build.directory / "base", shell)
    message = build.fails("build", "x.sif", definition(f"%post\n{body}").name)
    assert re.match(rf"x\.def:{line}: %post failed with status \d+$", message)


def install(root: Path, shell: str) -> None:
    """Puts a shell of this machine, with its libraries, into a root file system as /bin/sh."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in [program, *re.findall(r"(/\S+) \(0x", listed)]:
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    (root / "bin" / "sh").unlink()
    (root / "bin" / "sh").symlink_to(program)


@pytest.mark.parametrize("section", ["%setup", "%test", "%appinstall tool"])
def test_other_scripts_name_their_lines_too(build: Build, definition: Definition, section: str) -> None:
    message = build.fails("build", "x.sif", definition(f"%help\n  x\n{section}\n    true\n    false\n    true\n").name)
    assert message == f"x.def:7: {section} failed with status 1"
