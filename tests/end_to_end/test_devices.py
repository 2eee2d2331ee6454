"""--device: what a site's specifications say of a device comes into the container, and no program of theirs is run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import machine
import pytest
from images import tool

if TYPE_CHECKING:
    from pathlib import Path

    from images import Images
    from launching import Launcher

YAML = """
cdiVersion: 0.6.0
kind: example.com/gpu
containerEdits:
  env: [EXAMPLE=all, "GREETING=a,b \\"c\\""]
  mounts:
    - {hostPath: PLACE/libexample.so.1.2, containerPath: /usr/lib/libexample.so.1.2, options: [ro, nosuid, nodev, bind]}
  hooks:
    - hookName: createContainer
      path: /usr/bin/nvidia-cdi-hook
      args: [nvidia-cdi-hook, update-ldcache, --folder, /usr/lib]
    - hookName: createContainer
      path: /usr/bin/nvidia-ctk
      args: [nvidia-ctk, hook, create-symlinks, --link, "libexample.so.1::/usr/lib/libexample.so"]
    - {hookName: createContainer, path: PLACE/evil, args: [evil, now]}
devices:
  - name: "0"
    containerEdits:
      deviceNodes:
        - {path: /dev/example0, hostPath: /dev/null}
  - name: all
    containerEdits:
      deviceNodes:
        - {path: /dev/example0, hostPath: /dev/null}
        - {path: /dev/example1, hostPath: /dev/zero}
"""


@pytest.fixture
def specifications(directory: Path) -> Path:
    """A directory with one in YAML, whose library has another name inside than its file's."""
    machine.require("gcc")
    (directory / "empty.c").write_text("int example(void) { return 7; }\n")
    library = directory / "libexample.so.1.2"
    tool("gcc", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libexample.so.1", "-o", library, directory / "empty.c")
    (directory / "evil").write_text(f"#!/bin/sh\ntouch {directory}/evil-ran\n")
    (directory / "evil").chmod(0o755)
    place = directory / "cdi"
    place.mkdir(mode=0o755)
    (place / "example.yaml").write_text(YAML.replace("PLACE", str(directory)))
    return place


def test_a_device_brings_what_its_specification_says(
    launch: Launcher, images: Images, specifications: Path, directory: Path
) -> None:
    script = (
        "echo $EXAMPLE; echo $GREETING; ls /usr/lib;"
        "cat /usr/lib/libexample.so /.singularity.d/libs/libexample.so.1 | wc -c;"
        "head -c 2 /dev/example1 | wc -c; cat /dev/example0"
    )
    words = ["exec", "--contain", "--cdi-dirs", specifications, "--device", "example.com/gpu=all"]
    result = launch(*words, images.sandbox, "sh", "-c", script).warned("evil now is not run")
    size = (directory / "libexample.so.1.2").stat().st_size
    assert result.lines == [
        "all", 'a,b "c"', "libexample.so", "libexample.so.1", "libexample.so.1.2", str(2 * size), "2"
    ]  # fmt: skip
    assert not (directory / "evil-ran").exists()
    env = ["--env", "EXAMPLE=mine"]
    assert launch(*words, *env, images.sandbox, "sh", "-c", "echo $EXAMPLE").out == "mine\n"
    shown = launch(*words, "--dry-run", images.sandbox, "true").out
    assert "/dev/null -> /dev/example0 [rw,nosuid] (--device)" in shown
    one = launch(*words[:-1], "example.com/gpu=0", images.sandbox, "sh", "-c", "ls /dev/example1")
    assert one.status != 0, str(one)


def test_json_is_read_and_a_later_directory_goes_first(
    launch: Launcher, images: Images, specifications: Path, directory: Path
) -> None:
    later = directory / "later"
    later.mkdir(mode=0o755)
    document: dict[str, Any] = {
        "cdiVersion": "0.5.0",
        "kind": "example.com/gpu",
        "devices": [{"name": "0", "containerEdits": {"env": ["EXAMPLE=later"]}}],
    }
    (later / "a.json").write_text(json.dumps(document))
    words = [
        "exec",
        f"--cdi-dirs={specifications},{later}",
        "--device=example.com/gpu=0",
        images.sandbox,
        "sh",
        "-c",
        "echo $EXAMPLE",
    ]
    assert launch(*words).ok().out == "later\n"
    (later / "b.json").write_text(json.dumps(document))
    launch(*words).refused("a.json", "b.json")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("example.com/gpu=7", ["example.com/gpu=7", "no specification in", "example.com/gpu=0"]),
        ("example.com/nic=0", ["no specification in"]),
        ("gpu0", ["VENDOR/CLASS=NAME"]),
    ],
)
def test_a_device_that_nobody_knows_is_one_line(
    launch: Launcher, images: Images, specifications: Path, device: str, words: list[str]
) -> None:
    launch("exec", "--cdi-dirs", specifications, "--device", device, images.sandbox, "true").refused(*words)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.json", "{", ["x.json", "line 1"]),
        ("x.yaml", "a: [", ["x.yaml", "line 1"]),
        ("x.json", '{"kind": "example.com/x", "devices": {}}', ["x.json", "devices: a list is wanted"]),
        ("x.yaml", 'a: !!int ""', ["x.yaml", "no YAML"]),
        ("x.yaml", 'a: !!bool ""', ["x.yaml", "no YAML"]),
        ("x.yaml", "a: !!timestamp x", ["x.yaml", "no YAML"]),
    ],
)
def test_a_specification_that_makes_no_sense_is_left_out(
    launch: Launcher, images: Images, specifications: Path, name: str, text: str, words: list[str]
) -> None:
    (specifications / "example.yaml").unlink()
    (specifications / name).write_text(text)
    result = launch("exec", "--cdi-dirs", specifications, "--device", "example.com/x=0", images.sandbox, "true")
    assert result.status == 255, str(result)
    warning = result.err.splitlines()[0]
    assert warning.startswith("WARNING: "), str(result)
    assert all(word in warning for word in words), warning


@pytest.mark.parametrize(("name", "text"), [("x.json", "A=b\\u0000B/etc:/srv"), ("x.yaml", "A=\\ud800")])
def test_words_of_a_specification_end_at_their_ends(
    launch: Launcher, images: Images, specifications: Path, name: str, text: str
) -> None:
    """No word brings along another one, which nobody has read there, or one that no program can be given."""
    edits = f'{{"name": "0", "containerEdits": {{"env": ["{text}"]}}}}'
    (specifications / name).write_text(f'{{"kind": "example.com/x", "devices": [{edits}]}}')
    result = launch("exec", "--cdi-dirs", specifications, "--device", "example.com/x=0", images.sandbox, "true")
    result.refused(name, "containerEdits.env: a list of words is wanted")


def test_containlibs_shows_libraries(launch: Launcher, images: Images, specifications: Path, directory: Path) -> None:
    del specifications
    words = ["exec", "--containlibs", directory / "libexample.so.1.2", images.sandbox, "ls", "/.singularity.d/libs"]
    assert launch(*words).ok().out == "libexample.so.1.2\n"
