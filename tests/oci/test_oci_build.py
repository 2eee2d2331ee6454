"""`build` from images of the OCI formats, as it is typed: header and source word, root and ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import ordinary_user
import pytest
from builders import layer
from builders import run as run_tool

if TYPE_CHECKING:
    from builders import Layout

pytestmark = pytest.mark.needs("busybox", "mksquashfs")
CONTENT = {
    "Entrypoint": ["/bin/sh", "-c", 'echo "$GREETING|$*"', "name"],
    "Cmd": ["default argument"],
    "Env": ["PATH=/bin:/odd $PATH", 'GREETING=it\'s "quoted" $HOME \\n'],
    "Labels": {"org.opencontainers.image.title": "a title", "other": "x"},
    "WorkingDir": "/data",
}


@pytest.fixture
def image(layout: Layout) -> Layout:
    """A busybox, and a second layer over it."""
    lower = layer(("bin", None), ("bin/busybox", Path("/bin/busybox").read_bytes()), ("etc", None), ("etc/old", b"o"))
    links = [(f"bin/{name}", "busybox") for name in ("sh", "echo", "cat", "ls", "id")]
    layout.add(layout.image([lower, layer(*links, ("etc/.wh.old", b""), ("data", None))], config=CONTENT), "t")
    return layout


def build(*words: str | Path, cwd: Path, user: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-m", "singularity", *map(str, words)]
    if user:
        argv = [sys.executable, ordinary_user.__file__, "--", "sh", "-c", f'cd {cwd} && exec "$@"', "sh", *argv]
    (cwd / "tmp").mkdir(exist_ok=True)
    (cwd / "tmp").chmod(0o777)
    environment = {**os.environ, "TMPDIR": str(cwd / "tmp"), **more}
    if user:
        environment["SINGULARITY_CACHEDIR"] = str(cwd / "cache-of-the-user")
    return subprocess.run(
        argv, cwd="/" if user else cwd, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def made(*words: str | Path, cwd: Path, user: bool = False) -> None:
    done = build("build", *words, cwd=cwd, user=user)
    assert done.returncode == 0, done.stderr


def dumped(file: Path, number: int) -> bytes:
    argv = [sys.executable, "-I", "-m", "singularity", "sif", "dump", str(number), str(file)]
    return subprocess.run(argv, check=True, capture_output=True).stdout


def started(root: Path, *arguments: str) -> str:
    """What the runscript prints, in the root and with its environment scripts, by the image's own shell."""
    script = 'for s in /.singularity.d/env/*.sh; do . $s; done; exec /.singularity.d/runscript "$@"'
    argv = ["/usr/sbin/chroot", str(root), "/bin/sh", "-c", script, "sh", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env={"HOME": "/root"}).stdout


@pytest.mark.needs("root")
@pytest.mark.parametrize("form", ["word", "header"])
def test_a_layout_becomes_a_sandbox_that_runs_as_its_configuration_says(
    image: Layout, tmp_path: Path, form: str
) -> None:
    source = f"oci:{image.path}:t"
    if form == "header":
        source = str(tmp_path / "x.def")
        Path(source).write_text(f"Bootstrap: oci\nFrom: {image.path}:t\n\n%post\n    test ! -e /etc/old\n")
    made("--sandbox", tmp_path / "box", source, cwd=tmp_path)
    root = tmp_path / "box"
    assert not (root / "etc/old").exists()
    assert started(root) == 'it\'s "quoted" $HOME \\n|default argument\n'
    assert started(root, "a b", "c") == 'it\'s "quoted" $HOME \\n|a b c\n'
    labels = json.loads((root / ".singularity.d/labels.json").read_text())
    assert labels["org.opencontainers.image.title"] == "a title"
    assert "org.label-schema.build-date" in labels
    assert json.loads((root / ".singularity.d/oci-config.json").read_text()) == CONTENT
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_definition_goes_before_what_the_image_brings(image: Layout, tmp_path: Path) -> None:
    (tmp_path / "x.def").write_text(
        f"Bootstrap: oci\nFrom: {image.path}\n%runscript\n    echo mine\n%environment\n    export GREETING=hi\n"
        "%labels\n    more label\n"
    )
    made("--sandbox", tmp_path / "box", tmp_path / "x.def", cwd=tmp_path)
    place = tmp_path / "box/.singularity.d"
    assert (place / "runscript").read_text() == "#!/bin/sh\n\n    echo mine\n"
    assert "GREETING" in (place / "env/10-docker2singularity.sh").read_text()
    labels = json.loads((place / "labels.json").read_text())
    assert (labels["more"], labels["other"]) == ("label", "x")


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_an_archive_becomes_a_sif_file_with_the_configuration_in_it(
    image: Layout, tmp_path: Path, transport: str
) -> None:
    archive = tmp_path / "image.tar"
    target = f"{transport}:{archive}:example.org/x:t"
    run_tool("skopeo", "copy", "-q", "--insecure-policy", f"oci:{image.path}:t", target, cwd=tmp_path)
    made("x.sif", f"{transport}:image.tar", cwd=tmp_path)
    listed = build("sif", "list", "x.sif", cwd=tmp_path).stdout.splitlines()[3:]
    assert [line.rpartition("|")[2].split()[0] for line in listed] == [
        "FS",
        "Def.FILE",
        "JSON.Generic",
        "JSON.Generic",
    ]
    assert dumped(tmp_path / "x.sif", 2).decode() == f"Bootstrap: {transport}\nFrom: image.tar\n"
    assert json.loads(dumped(tmp_path / "x.sif", 4))["Cmd"] == ["default argument"]
    assert build("inspect", "x.sif", cwd=tmp_path).stdout.startswith("org.label-schema.build-arch: ")
    environment = json.loads(build("inspect", "-j", "-e", "x.sif", cwd=tmp_path).stdout)["data"]["attributes"]
    assert "/.singularity.d/env/10-docker2singularity.sh" in environment["environment"]


@pytest.mark.needs("root", "userns")
def test_an_ordinary_user_builds_the_same(image: Layout, storage: Path) -> None:
    """But for times: what subordinate ids make of owners is as root has it in the image."""
    place = storage / "oci-build"
    place.mkdir()
    shutil.copytree(image.path, place / "layout")
    for path in (place, *place.rglob("*")):
        os.chown(path, 10001, 10001)
    done = build("build", "user.sif", "oci:layout:t", cwd=place, user=True)
    assert done.returncode == 0, done.stderr
    made("root.sif", "oci:layout:t", cwd=place)
    listed = []
    for name in ("user.sif", "root.sif"):
        offset = build("sif", "list", name, cwd=place).stdout.splitlines()[3].split("|")[3].split("-")[0].strip()
        text = run_tool("unsquashfs", "-o", offset, "-lln", name, cwd=place)
        listed.append([" ".join([*line.split()[:2], *line.split()[5:]]) for line in text.splitlines()])
    assert listed[0] == listed[1]
    assert len(listed[0]) > 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("oci:none:t", "none: No such file or directory"),
        ("oci:layout:other", 'layout: no image "other" in it (name one: t)'),
        ("oci-archive:layout", "layout: a directory, not an archive (oci is for directories)"),
        ("docker-archive:other.def", "checksum is no number"),
    ],
)
def test_what_cannot_be_built_from_is_one_line(image: Layout, tmp_path: Path, words: str, message: str) -> None:
    assert image.path == tmp_path / "layout"
    (tmp_path / "other.def").write_text("Bootstrap: scratch\n" + "# more\n" * 200)
    done = build("build", "x.sif", words, cwd=tmp_path)
    fatal = [line for line in done.stderr.splitlines() if line.startswith("FATAL:   ")]
    assert done.returncode == 255
    assert len(fatal) == 1
    assert message in fatal[0]
    assert not (tmp_path / "x.sif").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_header_without_a_source_is_refused(tmp_path: Path) -> None:
    for agent in ("oci", "oci-archive", "docker-archive"):
        (tmp_path / "x.def").write_text(f"Bootstrap: {agent}\n")
        done = build("build", "x.sif", "x.def", cwd=tmp_path)
        assert f"x.def:1: bootstrap agent {agent} needs From (From: " in done.stderr


def test_a_changed_image_is_built_again_and_an_unchanged_one_is_not(image: Layout, tmp_path: Path) -> None:
    """The build cache asks what the source is now."""
    words = ("--force", "--sandbox", tmp_path / "box", f"oci:{image.path}:t")
    made(*words, cwd=tmp_path)
    image.manifests.clear()
    image.add(image.image([layer(("changed", b"c"))], config=CONTENT), "t")
    made(*words, cwd=tmp_path)
    assert (tmp_path / "box/changed").exists()
    assert not (tmp_path / "box/bin/busybox").exists()
