"""An image with this machine's Python, made of its files in a second."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import machine
import pytest
from images import applets

PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="session")
def tool(storage: Path) -> Path:
    """A SIF file with this machine's Python, busybox, scripts and an /etc/os-release."""
    machine.require("busybox", "mksquashfs")
    place = storage / "tool"
    root, sif = place / "root", place / "tool.sif"
    if sif.exists():  # whoever imports this has a fixture of his own
        return sif
    for name in (
        "etc",
        "proc",
        "dev",
        "sys",
        "tmp",
        "var/tmp",
        "root",
        "home",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "opt",
    ):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    shutil.copy("/bin/busybox", root / "usr/bin/busybox")
    for name in set(applets()) - {"busybox"}:
        (root / "usr/bin" / name).symlink_to("busybox")
    shutil.copy(PYTHON, root / "usr/bin/python3")
    modules = PYTHON.parent.parent / "lib" / PYTHON.name
    ignored = shutil.ignore_patterns("__pycache__", "test", "site-packages", "dist-packages", "config-*", "idlelib")
    shutil.copytree(modules, root / modules.relative_to("/"), symlinks=True, ignore=ignored)
    for file in (PYTHON, *modules.glob("lib-dynload/*.so")):
        listed = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"/\S+", listed):
            target = root / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy(library, target)
    (root / "etc/os-release").write_text('NAME="Image of a test"\n')
    definition = place / "tool.def"
    definition.write_text(
        f"Bootstrap: localimage\nFrom: {root}\n\n%labels\nColour blue\n\n%environment\nexport FROM_IMAGE=1\n\n"
        '%runscript\necho "ran $*"\n\n%startscript\necho started\nexec sleep 600\n'
    )
    subprocess.run([sys.executable, "-m", "singularity", "--quiet", "build", sif, definition], check=True)
    shutil.rmtree(root)
    sif.chmod(0o755)
    return sif
