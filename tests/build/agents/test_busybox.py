"""`Bootstrap: busybox`: the static busybox of this machine, from a server and from a file."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from repositories import BUSYBOX, loaded_by, run

from singularity.build.agents import busybox
from singularity.definition.parse import parse

if TYPE_CHECKING:
    from builds import Build
    from conftest import Alice
    from repositories import Inside, Server

pytestmark = pytest.mark.needs("busybox", "mksquashfs")

DEFINITION = "BootStrap: busybox\nMirrorURL: {}\n%post\n    id -u\n%runscript\n    exec id\n"


@pytest.fixture
def served(packages_place: Path) -> Path:
    place = packages_place / "busybox"
    if not place.exists():
        shutil.copy2(BUSYBOX, place)
    return place


def test_a_program_from_a_server(builder: Build, server: Server, served: Path, inside: Inside) -> None:
    builder.write("x.def", DEFINITION.format(f"{server.url}/{served.name}"))
    done = builder.ok("build", "x.sif", "x.def")
    assert "0\n" in done.stdout
    assert builder.leftovers() == []
    root = builder.root_of("x.sif")
    applets = set(run(BUSYBOX, "--list").split()) - {"busybox"}
    assert applets <= set(os.listdir(root / "bin"))
    assert os.readlink(root / "bin/ls") == "busybox"
    assert (root / "bin/busybox").read_bytes() == BUSYBOX.read_bytes()
    assert inside(root, "sh", "-c", "echo $((6 * 7))") == "42\n"
    files = {name: (root / "etc" / name).read_text() for name in ("passwd", "group", "hosts")}
    assert files == {
        "passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "group": "root:x:0:\n",
        "hosts": "127.0.0.1 localhost\n",
    }
    assert server.asked == ["/busybox"]


@pytest.mark.parametrize("place", [str(BUSYBOX), f"file://{BUSYBOX}"])
def test_a_program_of_this_machine(build: Build, place: str, inside: Inside) -> None:
    build.write("x.def", DEFINITION.format(place))
    build.ok("build", "x.sif", "x.def")
    assert inside(build.root_of("x.sif"), "cat", "/etc/group") == "root:x:0:\n"


def test_one_id_is_enough(alice: Alice) -> None:
    alice.write("x.def", DEFINITION.format(BUSYBOX))
    dataclasses.replace(alice, listed=False).ok("build", "x.sif", "x.def")
    assert os.readlink(alice.root_of("x.sif") / "bin/sh") == "busybox"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>not found</html>", "no program (not an ELF file)"),
        (b"", "no program (not an ELF file)"),
        (b"\x7fELF\x02\x01" + bytes(10), "no program (not an ELF file)"),
    ],
)
def test_what_is_no_program_is_refused(build: Build, content: bytes, message: str) -> None:
    file = build.directory / "busybox"
    file.write_bytes(content)
    build.write("x.def", DEFINITION.format(file))
    assert build.fails("build", "x.sif", "x.def") == f"{file}: {message}"
    assert build.leftovers() == []


def test_programs_that_an_empty_image_cannot_run_are_refused(build: Build) -> None:
    other = bytearray(BUSYBOX.read_bytes())
    other[18:20] = (0xF3 if other[18] != 0xF3 else 0x3E).to_bytes(2, "little")
    (build.directory / "other").write_bytes(other)
    loader = next(path for path in loaded_by(Path("/bin/sh")) if "ld-" in path.name)
    for place, message in (
        (build.directory / "other", "a program for another architecture"),
        (Path("/bin/sh"), f"/bin/sh: needs {loader.parent}/{loader.name}, which an empty image has not"),
        (Path("/nowhere"), "/nowhere: No such file or directory"),
    ):
        build.write("x.def", DEFINITION.format(place))
        assert message in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


@pytest.mark.needs("gcc")
def test_a_program_that_is_no_busybox_is_refused(build: Build) -> None:
    source = build.write("true.c", "int main(void) { return 0; }\n")
    run("gcc", "-static", "-o", build.directory / "true", source)
    build.write("x.def", DEFINITION.format(build.directory / "true"))
    message = build.fails("build", "x.sif", "x.def")
    assert message == "busybox --list in the image: it lists no sh (is it a busybox?)"
    assert build.leftovers() == []


def test_servers_that_have_nothing(build: Build, server: Server) -> None:
    build.write("x.def", DEFINITION.format(f"{server.url}/nowhere"))
    assert build.fails("build", "x.sif", "x.def") == f"{server.url}/nowhere: not found (StatusCode: 404)"
    build.write("x.def", DEFINITION.format("http://127.0.0.1:1/busybox"))
    assert "http://127.0.0.1:1/busybox: " in build.fails("build", "x.sif", "x.def")
    build.write("x.def", DEFINITION.format("gopher://x/busybox"))
    assert 'x.def:2: MirrorURL: "gopher://x/busybox" is none' in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


def test_what_the_cache_is_told(tmp_path: Path) -> None:
    file = tmp_path / "busybox"
    file.write_bytes(b"one")

    def digest(place: object) -> str | None:
        return busybox.source_digest(parse(DEFINITION.format(place), "x.def").stages[0])

    first = digest(file)
    file.write_bytes(b"two")
    assert first
    assert digest(file) not in (first, "", None)
    assert digest("https://busybox.example/busybox") == ""
