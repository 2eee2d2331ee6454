"""Images of the OCI formats and overlays as the installed program runs them: by root, and by a user in both modes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import ordinary_user
import pytest
from builders import Layout, by_umoci, configure, layer

from singularity.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs("installation", "root", "busybox", "mksquashfs", "mke2fs")
USERS = {
    "root": ([], []),
    "setuid": ([sys.executable, ordinary_user.__file__, "--"], []),
    "user namespace": ([sys.executable, ordinary_user.__file__, "--"], ["--userns"]),
}
CONTENT = {
    "Entrypoint": ["/bin/echo", "a $X", 'it\'s "q" \\n', ""],
    "Cmd": ["two words"],
    "Env": ["PATH=/bin", "GREETING=x$Y 'z'"],
}


@pytest.fixture(scope="module")
def images(storage: Path) -> Iterator[Path]:
    """`shell.sif` has a shell, `bare.sif` nothing but one program."""
    place = storage / "oci-launches"
    place.mkdir()
    busybox = Path("/bin/busybox").read_bytes()
    before = Path.cwd()
    os.chdir(place)
    for name, members in {
        "shell": [
            ("bin/busybox", busybox),
            *((f"bin/{each}", "busybox") for each in ("sh", "echo", "touch", "ls", "cat")),
        ],
        "bare": [("bin/echo", busybox)],
    }.items():
        layout = Layout(place / name)
        layout.add(layout.image([layer(*members)], config=CONTENT))
        assert main(["build", f"{name}.sif", f"oci:{name}"]) == 0
    yield place
    os.chdir(before)


AWKWARD = ("a b", "", "$HOME", 'it\'s "q"', "back\\slash\\n", "new\nline", "`id`", "$(id)", "*", "-n")
ENTRY = ["/bin/show", "$X", "two\nOCI_CMD='no'\nlines", "it's"]


@pytest.fixture(scope="module", params=["with a shell", "without a shell"])
def built(request: pytest.FixtureRequest, storage: Path) -> Path:
    """An image of a builder: `show` prints its words, each in brackets, and then its variables."""
    place = storage / str(request.param).replace(" ", "-")
    place.mkdir()

    def fill(root: Path) -> None:
        for name in ("bin", "etc", "home/app", "srv"):
            (root / name).mkdir(parents=True)
        source = place / "show.c"
        source.write_text(SHOW)
        subprocess.run(["gcc", "-static", "-O1", "-o", str(root / "bin/show"), str(source)], check=True)
        if request.param == "with a shell":
            shutil.copy("/bin/busybox", root / "bin/busybox")
            (root / "bin/sh").symlink_to("busybox")
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1234:2345::/home/app:/bin/sh\n")

    layout = by_umoci(place, fill)
    words = [f"--config.entrypoint={word}" for word in ENTRY]
    words += ["--config.cmd=default", "--config.cmd=last $word"]
    words += ["--config.env=PATH=/bin:/o $x", "--config.env=ODD=$Y 'q' \"d\" \\n `id`", "--config.env=NL=a\nb"]
    words += ["--config.env=EMPTY=", "--config.env=TWICE=1", "--config.env=TWICE=2"]
    words += ["--config.user=app", "--config.workingdir=/srv/new", '--config.label=a b=c "d"\ne']
    words += ["--config.exposedports=8080/tcp"]
    configure(layout, *words)
    assert main(["build", str(place / "x.sif"), f"oci:{layout}:t"]) == 0
    return place / "x.sif"


SHOW = """
#include <stdio.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv)
{
    char here[4096];
    for (int i = 1; i < argc; i++)
        printf("<%s>", argv[i]);
    printf("%c%u:%u %s", 0, getuid(), getgid(), getcwd(here, sizeof here));
    for (char **at = environ; *at != NULL; at++)
        printf("%c%s", 0, *at);
    return 0;
}
"""


def shown(*words: str) -> str:
    return "".join(f"<{word}>" for word in words)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.needs("umoci", "overlay", "userns")
def test_an_image_of_a_builder_runs_as_docker_runs_it(built: Path, user: str) -> None:
    """Words, variables, directory and user to the letter, where the image has a shell and where it has none."""
    machine.require("fuse")
    words, who, *variables = typed(user, "run", "--compat", built).split("\0")
    assert words == shown(*ENTRY[1:], "default", "last $word")
    assert who == "1234:2345 /srv/new"
    found = dict(variable.split("=", 1) for variable in variables)
    wanted = {"PATH": "/bin:/o $x", "ODD": "$Y 'q' \"d\" \\n `id`", "NL": "a\nb", "EMPTY": "", "TWICE": "2"}
    assert {name: found.get(name) for name in wanted} == wanted
    assert (found["HOME"], found["PWD"]) == ("/home/app", "/srv/new")
    assert typed(user, "run", "--compat", built, *AWKWARD).split("\0")[0] == shown(*ENTRY[1:], *AWKWARD)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.needs("umoci", "userns")
def test_arguments_are_literal_with_no_eval_and_the_caller_stays_herself(
    built: Path, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.require("fuse")
    monkeypatch.setenv("EMPTY", "outside")
    words, who, *variables = typed(user, "run", "--no-eval", built, *AWKWARD).split("\0")
    assert words == shown(*ENTRY[1:], *AWKWARD)
    assert not who.startswith("1234:")
    found = dict(variable.split("=", 1) for variable in variables)
    assert found["ODD"] == "$Y 'q' \"d\" \\n `id`"
    assert found["EMPTY"] == ""
    assert found["PATH"].startswith("/bin:/o $x:")


def typed(user: str, verb: str, *words: str | Path) -> str:
    prefix, options = USERS[user]
    program = str((machine.prefix() or Path()) / "bin/singularity")
    argv = [*prefix, program, verb, *options, *map(str, words)]
    done = subprocess.run(argv, cwd="/", capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("image", ["shell.sif", "bare.sif"])
def test_the_runscript_does_the_same_with_and_without_a_shell(images: Path, image: str, user: str) -> None:
    if user == "user namespace":
        machine.require("userns", "fuse")
    path = images / image
    assert typed(user, "run", path) == 'a $X it\'s "q" \\n  two words\n'
    assert typed(user, "run", path, "$GREETING", "b") == "a $X it's \"q\" \\n  x$Y 'z' b\n"
    assert typed(user, "run", "--no-eval", path, "$GREETING") == 'a $X it\'s "q" \\n  $GREETING\n'


@pytest.mark.parametrize("user", USERS)
@pytest.mark.needs("overlay")
def test_an_overlay_keeps_what_a_container_writes(images: Path, user: str) -> None:
    machine.require("fuse", *(["userns"] if user == "user namespace" else []))
    place = images / user.replace(" ", "-")
    place.mkdir()
    place.chmod(0o777)
    overlay = place / "o.img"
    make = [sys.executable, "-I", "-m", "singularity", "overlay", "create", "-S", "--create-dir", "/made", str(overlay)]
    subprocess.run([*USERS[user][0], *make], check=True, cwd="/")
    typed(user, "exec", "--overlay", overlay, images / "shell.sif", "touch", "/made/kept", "/also")
    listed = typed(user, "exec", "--overlay", f"{overlay}:ro", images / "shell.sif", "ls", "/made", "/also")
    assert listed.split() == ["/also", "/made:", "kept"]
    assert "also" not in typed(user, "exec", images / "shell.sif", "ls", "/")


@pytest.mark.needs("overlay", "fuse")
def test_an_overlay_partition_is_written_and_guarded(images: Path, tmp_path: Path) -> None:
    image = tmp_path / "x.sif"
    image.write_bytes((images / "shell.sif").read_bytes())
    assert main(["overlay", "create", "-S", str(image)]) == 0
    typed("root", "exec", "--writable", image, "touch", "/kept")
    assert "kept" in typed("root", "exec", image, "ls", "/").split()
    program = str((machine.prefix() or Path()) / "bin/singularity")
    words = ["exec", "--writable", str(image), "sh", "-c", "echo ready; exec cat"]
    with subprocess.Popen([program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        for edit in (["del", "2"], ["setprim", "3"]):
            assert main(["sif", *edit, str(image)]) == 255
        running.communicate()
    assert main(["sif", "del", "2", str(image)]) == 0
    assert "kept" in typed("root", "exec", image, "ls", "/").split()
