"""A notebook is executed by nbclient, with ipykernel inside of an image that `singularity install --jupyter` knows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from images import BUSYBOX, tool

if TYPE_CHECKING:
    from launching import Launcher

SYSTEM = Path(sys.base_prefix)
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

def cells(*texts):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])

notebook = cells("import os; x = 6 * 7", "print(x, open('/etc/image-name').read().strip(), os.environ['SET_INSIDE'])")
NotebookClient(notebook, kernel_name=sys.argv[1], timeout=60).execute()
print(notebook.cells[1].outputs[0].text, end="")
slow = cells("import time; time.sleep(600)")
try:
    NotebookClient(slow, kernel_name=sys.argv[1], timeout=2, interrupt_on_timeout=True).execute()
except CellExecutionError as error:
    print(error.ename)
"""


def pip(*words: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "install", "--ignore-installed", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"packages of Python cannot be fetched: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def client(storage: Path) -> Path:
    """A Python of the host that has nbclient."""
    place = storage / "client"
    tool(SYSTEM / "bin/python3", "-m", "venv", "--without-pip", place)
    pip("--prefix", place, "nbclient", "nbformat")
    return place / "bin/python"


@pytest.fixture(scope="module")
def notebooks(storage: Path) -> Path:
    """A sandbox of this machine's Python, with ipykernel: a spec as pip puts it there, and a variable of its own."""
    tree = storage / "notebooks-1.0"
    for name in ("dev", "etc", "proc", "sys", "tmp", "root", "home", "usr/bin", "usr/lib", "usr/lib64"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    for name in ("busybox", "sh", "env", "cat"):
        shutil.copy(BUSYBOX, tree / "usr/bin" / name)
    (tree / "etc/image-name").write_text("notebooks\n")
    shutil.copy(SYSTEM / "bin" / VERSION, tree / "usr/bin")
    (tree / "usr/bin/python").symlink_to(VERSION)
    (tree / "usr/bin/python3").symlink_to(VERSION)
    ignored = shutil.ignore_patterns("test", "__pycache__", "site-packages", "dist-packages", "config-*", "idlelib")
    shutil.copytree(SYSTEM / "lib" / VERSION, tree / "usr/lib" / VERSION, ignore=ignored, symlinks=True)
    local = tree / "usr/local"
    pip("--prefix", local, "ipykernel")
    (local / "lib" / VERSION / "dist-packages").symlink_to("site-packages")  # as Debian's Python looks for them
    needs = [tree / "usr/bin" / VERSION, *tree.rglob("*.so"), *tree.rglob("*.so.*")]
    found = "\n".join(tool("ldd", path) for path in needs if path.is_file() and path.read_bytes()[:4] == b"\x7fELF")
    for library in set(re.findall(r"(?:=> |^\t)(/(?:usr/)?lib\S*) \(0x", found, re.MULTILINE)):
        copy = tree / library.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            shutil.copy(library, copy)
    spec = local / "share/jupyter/kernels/python3/kernel.json"
    spec.write_text(
        json.dumps({**json.loads(spec.read_text()), "env": {"SET_INSIDE": "yes", "SINGULARITY_BIND": "/nosuch"}})
    )
    return tree


@pytest.mark.modes("suid", "userns")
def test_a_notebook_runs_in_the_image(
    launch: Launcher, notebooks: Path, client: Path, home: Path, directory: Path
) -> None:
    result = launch("install", notebooks, "--jupyter", "--", "--contain")
    assert result.status == 0, str(result)
    spec = json.loads((home / ".local/share/jupyter/kernels/notebooks-1.0/kernel.json").read_text())
    assert spec["display_name"] == "Python 3 (ipykernel) (notebooks/1.0)"
    assert "env" not in spec, "what the image says would be in force outside"
    script = directory / "run.py"
    script.write_text(NOTEBOOK)
    done = launch.command(str(client), str(script), "notebooks-1.0", timeout=120, env={"IPYTHONDIR": "/tmp/ipython"})
    assert done.status == 0, str(done)
    assert done.out == "42 notebooks yes\nKeyboardInterrupt\n"
    launch("install", notebooks, "--jupyter", "--as", "python3").refused("would hide python3")
    assert launch("uninstall", "notebooks").status == 0
    assert not (home / ".local/share/jupyter/kernels").exists() or os.listdir(home / ".local/share/jupyter") == [
        "runtime"
    ]
