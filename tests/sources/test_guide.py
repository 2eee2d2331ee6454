"""What docs/registries.md says about running, pulling and the cache, as it is typed, with images of a registry here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from builders import Layout, layer
from test_transports import SIF_LAYER, artifact

if TYPE_CHECKING:
    from servers import Registry

GUIDE = (Path(__file__).resolve().parents[2] / "docs/registries.md").read_text()
pytestmark = [
    pytest.mark.needs("installation", "root", "busybox", "mksquashfs"),
    pytest.mark.usefixtures("no_proxy"),
]


def lines(heading: str) -> list[str]:
    section = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_every_line_works(plain_registry: Registry, storage: Path, tmp_path: Path) -> None:
    place = storage / "guided"
    layout = Layout(place / "layout")
    busybox = Path("/bin/busybox").read_bytes()
    links = [(f"bin/{name}", "busybox") for name in ("sh", "tool", "true")]
    for architecture in ("amd64", "arm64"):
        tool = ("bin/tool", b"#!/bin/sh\necho 1.2\n")
        members = [("bin", None), ("bin/busybox", busybox), *(each for each in links if each[0] != tool[0])]
        data = layer(*members, tool)
        layout.add(layout.image([data], config={"Cmd": ["/bin/true"]}, architecture=architecture), architecture)
        plain_registry.fill(f"oci:{layout.path}:{architecture}", f"guide/{architecture}:1")
    program = (machine.prefix() or Path()) / "bin/singularity"
    environment = {
        **os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "SINGULARITY_NOHTTPS": "1",
        "SINGULARITY_CACHEDIR": str(place / "cache"),
    }  # fmt: skip
    (place / "images").mkdir()
    subprocess.run([program, "build", "base.sif", f"oci:{layout.path}:amd64"], cwd=place, env=environment, check=True)
    artifact(plain_registry, "guide/sif:1", ((place / "base.sif").read_bytes(), SIF_LAYER))
    typed = [*lines("Running and pulling"), *lines("The cache")]
    assert len(typed) >= 10
    for line in typed:
        machine_ = "arm64" if "arm64" in line else "amd64"
        here = re.sub(r"docker://\S+", f"docker://{plain_registry.host}/guide/{machine_}:1", line)
        here = re.sub(r"oras://\S+", f"oras://{plain_registry.host}/guide/sif:1", here)
        here = here.replace("tool --version", "sh /bin/tool").replace("/srv/cache", "site")
        done = subprocess.run(
            ["sh", "-c", here], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (here, done.stderr)
    assert (place / "site/oci-tmp").is_dir()
    assert (place / "images/arm64_1.sif").exists()
    assert not (tmp_path / "home-of-the-test/cache").exists()
