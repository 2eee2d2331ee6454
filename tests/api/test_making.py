"""`build`, `pull` and `push`: what is told meanwhile, what comes of them, and that whoever calls stays as he is."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest

import singularity
from singularity import (
    BuildError,
    Definition,
    DefinitionError,
    FileError,
    ImageError,
    Progress,
    RegistryError,
    UsageError,
)

if TYPE_CHECKING:
    from servers import Registry

pytestmark = [pytest.mark.needs("mksquashfs"), pytest.mark.usefixtures("directory")]


@pytest.fixture
def definition(tool: Path) -> Definition:
    return Definition(Bootstrap="localimage", From=str(tool))


def test_a_build_tells_how_far_it_is_and_logs_what_it_says(
    definition: Definition, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "singularity")
    told: list[Progress] = []
    definition.post = "echo from the script\n"
    image = singularity.build(definition, "new.sif", on_progress=told.append, output=singularity.DEVNULL)
    assert image.definition == definition
    assert {each.step for each in told if each.steps} >= {1, told[1].steps}
    assert any(each.total and each.done is not None for each in told)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("singularity.")]
    assert any(line.startswith("Build complete: new.sif") for line in said)
    assert any(each.text == "Running %post" for each in told)


def test_output_of_scripts_goes_where_it_is_sent(
    definition: Definition, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    definition.post = "echo from the script; echo errors >&2\n"
    with (directory / "log").open("wb") as log:
        singularity.build(definition, "one.sif", output=log)
    assert "from the script\n" in (directory / "log").read_text()
    singularity.build(definition, "two.sif", disable_cache=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "from the script\n" in captured.err
    with pytest.raises(ValueError, match="nobody would read"):
        singularity.build(definition, "x.sif", output=singularity.PIPE)


def test_options_are_those_of_the_command(definition: Definition, tool: Path) -> None:
    definition.labels = {"Version": "{{ VERSION }}"}
    image = singularity.build(definition, "new.sif", build_arg={"VERSION": "1,2"}, reproducible=True)
    assert image.labels["Version"] == "1,2"
    with pytest.raises(FileError, match="exists"):
        singularity.build(definition, "new.sif", build_arg="VERSION=2")
    assert singularity.build(definition, "new.sif", build_arg="VERSION=2", force=True).labels["Version"] == "2"
    assert singularity.build(tool, "box", sandbox=True).format == "sandbox"
    assert singularity.build(Path(tool), "x.squashfs").format == "squashfs"
    with pytest.raises(UsageError, match="--size"):
        singularity.build(tool, "x.sif", size=5)
    with pytest.raises(TypeError, match="did you mean 'build_arg'"):
        singularity.build(definition, "x.sif", build_args="A=1")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="True or False"):
        singularity.build(definition, "x.sif", force="yes")  # type: ignore[arg-type]


def test_failures_are_of_their_kind(definition: Definition, tool: Path) -> None:
    with pytest.raises(FileError, match=r"none\.def"):
        singularity.build("none.def", "x.sif")
    with pytest.raises(DefinitionError, match=r"^image\.def:2: From: /none"):
        singularity.build(Definition(Bootstrap="localimage", From="/none"), "x.sif")
    definition.post = "exit 9\n"
    with pytest.raises(BuildError, match=r"^image\.def:5: %post failed with status 9"):
        singularity.build(definition, "x.sif", output=singularity.DEVNULL)
    with pytest.raises(FileError, match=r"/none/x\.sif|/none"):
        singularity.build(tool, "/none/x.sif")
    assert not Path("x.sif").exists()


def test_whoever_calls_stays_as_he_is(definition: Definition) -> None:
    """With threads, handlers of signals, a directory and variables of his own."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    before = [os.readlink(f"/proc/self/ns/{name}") for name in ("user", "mnt")], os.getcwd(), dict(os.environ)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    roots = logging.getLogger().handlers[:]
    try:
        definition.post = "true\n"
        singularity.build(definition, "new.sif", output=singularity.DEVNULL)
    finally:
        stop.set()
        thread.join()
    assert before == ([os.readlink(f"/proc/self/ns/{name}") for name in ("user", "mnt")], os.getcwd(), dict(os.environ))
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    assert roots == logging.getLogger().handlers


def test_what_on_progress_raises_ends_the_build(definition: Definition, directory: Path) -> None:
    class Enough(Exception):  # noqa: N818
        pass

    def watch(progress: Progress) -> None:
        if progress.text == "Running %post":
            raise Enough

    definition.post = "sleep 600\n"
    machine.adopt_orphans()
    with pytest.raises(Enough):
        singularity.build(definition, "new.sif", on_progress=watch, tmpdir=directory)
    assert os.listdir(directory) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_ends_with_whoever_called(tool: Path, directory: Path, number: signal.Signals) -> None:
    text = (
        "import sys, singularity\nd = singularity.Definition(Bootstrap='localimage', From=sys.argv[1])\n"
        "d.post = 'sleep 600'\n"
        "singularity.build(d, 'new.sif', tmpdir='.', on_progress=lambda p: print(p.text, flush=True))\n"
    )
    before = machine.children()
    with subprocess.Popen(
        [sys.executable, "-c", text, tool], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as program:
        assert program.stdout is not None
        for line in program.stdout:
            if line == b"Running %post\n":
                break
        time.sleep(0.2)
        os.kill(program.pid, number)
    deadline = time.monotonic() + 15
    while (left := machine.children() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, [machine.command_of(each) for each in left]
    assert os.listdir(directory) == []


def test_a_worker_that_is_killed_is_told(definition: Definition) -> None:
    def watch(progress: Progress) -> None:
        if progress.text == "Running %post":
            for child in machine.children():
                if "worker" in machine.command_of(child):
                    os.kill(child, signal.SIGKILL)

    definition.post = "sleep 2\n"
    with pytest.raises(singularity.SingularityError, match="killed by SIGKILL"):
        singularity.build(definition, "new.sif", on_progress=watch, output=singularity.DEVNULL)


def test_to_a_layout_and_back(tool: Path) -> None:
    digest = singularity.push(tool, "oci:layout:1.0")
    assert digest.startswith("sha256:")
    assert singularity.push(tool, "oci:layout:1.0") == digest
    image = singularity.pull("oci:layout:1.0", "back.sif")
    assert image.labels["Colour"] == "blue"
    assert singularity.pull("oci:layout:1.0", dir="there").path == Path("there/layout_1.0.sif")
    with pytest.raises(FileError, match="will not overwrite"):
        singularity.pull("oci:layout:1.0", "back.sif")
    assert singularity.pull("oci:layout:1.0", "back.sif", force=True).path == Path("back.sif")
    assert singularity.pull("oci:layout:1.0", "-x.sif").path == Path("-x.sif")
    for wrong in ("back.sif", "dokcer://x"):
        with pytest.raises(ImageError):
            singularity.pull(wrong)


@pytest.mark.usefixtures("no_proxy")
def test_to_a_registry_and_back(tool: Path, plain_registry: Registry) -> None:
    name = f"{plain_registry.host}/api/tool:1"
    told: list[Progress] = []
    for scheme in ("docker", "oras"):
        digest = singularity.push(tool, f"{scheme}://{name}", no_https=True)
        assert digest.startswith("sha256:")
        image = singularity.pull(f"{scheme}://{name}", f"{scheme}.sif", no_https=True, on_progress=told.append)
        assert image.files.read_text("/etc/os-release") == 'NAME="Image of a test"\n'
    assert any(each.text for each in told)
    with pytest.raises(RegistryError):
        singularity.pull(f"docker://{plain_registry.host}/api/none:1", no_https=True)
