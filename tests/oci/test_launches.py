"""Images of the OCI formats and overlays as the installed program runs them: by root, and by a user in both modes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import ordinary_user
import pytest
from builders import Layout, layer

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
    "Entrypoint": ["/bin/echo", "a $X", 'it\'s "q" \\n'],
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
    assert typed(user, "run", path) == 'a $X it\'s "q" \\n two words\n'
    assert typed(user, "run", path, "$GREETING", "b") == "a $X it's \"q\" \\n x$Y 'z' b\n"
    assert typed(user, "run", "--no-eval", path, "$GREETING") == 'a $X it\'s "q" \\n $GREETING\n'


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
        for edit in (["del", "1"], ["setprim", "3"]):
            assert main(["sif", *edit, str(image)]) == 255
        running.communicate()
    assert main(["sif", "del", "1", str(image)]) == 0
    assert "kept" in typed("root", "exec", image, "ls", "/").split()
