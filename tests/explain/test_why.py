"""What brought a file into an image: by packages, definitions, layers and overlays, and what is not known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from singularity.explain.definitions import Definition

if TYPE_CHECKING:
    from pathlib import Path


def types(place: Path, *words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place)}
    argv = [sys.executable, "-I", "-m", "singularity", *map(str, words)]
    done = subprocess.run(argv, env=environment, cwd=place, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def why(place: Path, image: str, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(types(place, "why", "--json", image, path).stdout)
    return found


DEFINITION = """\
Bootstrap: localimage
From: base
Stage: build

%post
    mkdir -p /opt/tool && echo one > /opt/tool/made

Bootstrap: localimage
From: base

%files from build
    /opt/tool /opt/copied

%files
    data.txt /srv/
    data.txt /etc/renamed

%post
    echo apt-get install -y \\
        upper=1.0
    # lower is in a comment
    mkdir -p /var/lib/thing; echo x > /var/lib/thing/file
    cp /bin/sh /bin/blurb

%runscript
    true
"""
STATUS = """\
Package: upper
Status: install ok installed
Version: 1.0
Depends: middle (>= 1) | other, libc6

Package: middle
Status: install ok installed
Version: 2.0
Depends: lower

Package: lower
Status: install ok installed
Version: 3.0
Source: low (9)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("why")
    (place / "base/bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", place / "base/bin/busybox")
    for name in ("sh", "mkdir", "cp", "cat", "echo", "true"):
        (place / f"base/bin/{name}").symlink_to("busybox")
    for name in ("tmp", "var", "srv", "etc", "opt", "proc", "dev", "sys", "root"):
        (place / "base" / name).mkdir()
    (place / "base/var/lib/dpkg/info").mkdir(parents=True)
    (place / "base/var/lib/dpkg/status").write_text(STATUS)
    for name in ("upper", "lower"):
        (place / f"base/opt/{name}").write_text(name)
        (place / f"base/var/lib/dpkg/info/{name}.list").write_text(f"/.\n/opt\n/opt/{name}\n")
    (place / "data.txt").write_text("data")
    (place / "x.def").write_text(DEFINITION)
    types(place, "build", "--sandbox", "x", "x.def")
    return place


pytestmark = [pytest.mark.needs("root", "busybox", "mksquashfs")]


@pytest.mark.parametrize(
    ("path", "by", "certain", "text"),
    [
        ("/opt/copied/made", "definition", True, "line 12, %files: /opt/tool /opt/copied"),
        ("/srv/data.txt", "definition", True, "line 15, %files: data.txt /srv/"),
        ("/etc/renamed", "definition", True, "line 16, %files: data.txt /etc/renamed"),
        ("/var/lib/thing/file", "definition", False, "line 22, %post: mkdir -p /var/lib/thing;"),
        ("/bin/blurb", "definition", False, "line 23, %post: cp /bin/sh /bin/blurb"),
        ("/.singularity.d/runscript", "definition", True, "line 25, runscript: %runscript"),
        ("/.singularity.d/Singularity", "definition", True, "the definition itself"),
        ("/.singularity.d/actions/exec", "program", True, "every build"),
        ("/opt/upper", "package", True, "deb upper 1.0"),
        ("/opt/upper", "definition", False, "line 19, %post: echo apt-get install -y upper=1.0"),
        ("/opt/lower", "package", True, "deb lower 3.0, built from low 9"),
        ("/opt/lower", "definition", False, "(upper needs middle needs lower)"),
        ("bin/busybox", "base", False, "base, which the build began with"),
    ],
)
def test_what_is_known_of_a_file(place: Path, path: str, by: str, certain: bool, text: str) -> None:
    (step,) = why(place, "x", path)
    assert step["path"] == f"/{path.lstrip('/')}"
    found = [each for each in step["reasons"] if each["by"] == by]
    assert any(text in each["text"] and each["certain"] is certain for each in found), step["reasons"]


def test_links_are_followed_step_by_step(place: Path) -> None:
    (place / "x/opt/loop").unlink(missing_ok=True)
    (place / "x/opt/first").symlink_to("../bin/sh")
    (place / "x/opt/loop").symlink_to("loop")
    assert [each["path"] for each in why(place, "x", "/opt/first")] == ["/opt/first", "/bin/sh", "/bin/busybox"]
    assert why(place, "x", "/opt/../opt/first")[0]["path"] == "/opt/first"
    assert len(why(place, "x", "/opt/loop")) == 40


def test_it_is_told_in_lines(place: Path) -> None:
    said = types(place, "why", "x", "/bin/busybox").stdout
    assert said.splitlines()[0].startswith("/bin/busybox: file, mode 0755, owner 0:0, ")
    assert "  base?: it may be of base" in said
    assert said.endswith("  not known for certain\n")
    (place / "bare/bin").mkdir(parents=True, exist_ok=True)
    (place / "bare/bin/sh").touch()
    assert "not known: the image keeps nothing that says it" in types(place, "why", "bare", "/bin/sh").stdout


def test_what_is_not_there_is_said(place: Path) -> None:
    assert "/nope: not in x" in types(place, "why", "x", "/nope", status=255).stderr
    assert types(place, "why", "x", status=1).stderr.count("\n") == 1
    assert types(place, "why", "missing.sif", "/bin/sh", status=255).stderr.count("\n") == 1


def test_a_layer_and_its_history_are_named(place: Path) -> None:
    """Two layers, made as an OCI layout by hand: the upper has one file anew."""
    layout = _layout(place / "layout", [{"etc/lower": "1", "etc/both": "1"}, {"etc/both": "2"}])
    for path, number, step in (("/etc/both", 2, "RUN upper"), ("/etc/lower", 1, "RUN lower")):
        (found,) = why(place, f"oci:{layout}:t", path)
        (reason,) = [each for each in found["reasons"] if each["by"] == "layer"]
        assert reason["text"].startswith(f"layer {number} of 2, sha256:")
        assert reason["text"].endswith(step)


def _layout(path: Path, layers: list[dict[str, str]]) -> Path:
    import hashlib
    import io
    import tarfile

    (path / "blobs/sha256").mkdir(parents=True)

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    stored = []
    for files in layers:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
        stored.append(blob(archive.getvalue(), "application/vnd.oci.image.layer.v1.tar"))
    history = [{"created_by": "RUN  lower"}, {"created_by": "ENV x", "empty_layer": True}, {"created_by": "RUN upper"}]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    config = {"architecture": machine, "os": "linux", "history": history}
    config["rootfs"] = {"type": "layers", "diff_ids": [each["digest"] for each in stored]}
    described = blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "config": described, "layers": stored}
    entry = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return path


def test_a_file_of_an_overlay_is_said_to_be(place: Path) -> None:
    types(place, "build", "--force", "o.sif", "x")
    (place / "over/upper/etc").mkdir(parents=True)
    (place / "over/upper/etc/extra").write_text("x")
    subprocess.run(["mksquashfs", place / "over", place / "over.sqfs", "-quiet", "-no-progress"], check=True)
    add = ["--datatype", "4", "--partfs", "1", "--parttype", "4", "--partarch", "2", "--groupid", "1"]
    types(place, "sif", "add", *add, "o.sif", "over.sqfs")
    assert why(place, "o.sif", "/etc/extra")[0]["reasons"][0]["by"] == "overlay"
    assert "overlay" not in [each["by"] for each in why(place, "o.sif", "/etc/renamed")[0]["reasons"]]


# ---- definitions by themselves ----
DOCKERFILE = """\
FROM golang:1 AS build
RUN go build -o /out/tool ./...
FROM debian:12
COPY --from=build /out/tool /usr/local/bin/
COPY ["a file", "/opt/here"]
RUN apt-get update && \\
    apt-get install -y curl
"""


def test_dockerfiles_are_understood() -> None:
    found = Definition("Dockerfile", DOCKERFILE)
    assert [(each.number, each.base) for each in found.copied("/usr/local/bin/tool")] == [(4, "debian:12")]
    assert [each.number for each in found.copied("/usr/local/bin/other")] == []
    assert [each.number for each in found.copied("/opt/here")] == [5]
    assert [each.number for each in found.names("curl")] == [6]
    assert [each.number for each in found.names("cur")] == []
    assert (found.base or ("", 0))[0] == "debian:12"


@pytest.mark.parametrize("text", ["", "\0", "%post\n" * 9, "FROM", "Bootstrap", "x" * 100_000, "%files\n a b c d\n"])
def test_a_definition_that_makes_no_sense_says_nothing(text: str) -> None:
    found = Definition("d", text)
    assert list(found.copied("/etc/x")) == []
    assert found.speaks_of("/etc/x") == []


def test_the_line_of_an_agent_is_that_of_its_header() -> None:
    text = "# a comment\nBootstrap: debootstrap  # of this machine\nOSVersion: bookworm\nMirrorURL: http://x/debian\n"
    assert Definition("x.def", text).base == ("debootstrap bookworm", 2)
