"""Run by a Python that has py-rattler: makes a channel of conda packages and installs an environment from it.

conda_environment.py WORK TARGET: packages go below WORK; TARGET is the environment's prefix.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import conda_channel
import rattler

PYTHON = Path("/usr/lib/python3.11")


def python_tree(tree: Path) -> Path:
    """Debian's Python, whose programs find their library beside themselves; one script names the prefix."""
    (tree / "bin").mkdir(parents=True)
    (tree / "lib").mkdir()
    subprocess.run(["cp", "-aL", "/usr/bin/python3.11", tree / "bin/python3.11"], check=True)
    subprocess.run(["cp", "-a", PYTHON, tree / "lib/python3.11"], check=True)
    for link, target in (("python3", "python3.11"), ("python", "python3")):
        (tree / "bin" / link).symlink_to(target)
    script = tree / "bin/pydoc3"
    script.write_text(f"#!{conda_channel.PREFIX}/bin/python3.11\nimport pydoc\npydoc.cli()\n")
    script.chmod(0o755)
    for path in [each for each in (tree / "lib").rglob("*") if each.is_symlink() and not each.exists()]:
        path.unlink()  # what leads out of the package
    return tree


def numpy_tree(tree: Path) -> Path:
    place = tree / "lib/python3/dist-packages"  # where Debian's Python looks
    words = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "install", *words, "--target", place, "numpy"], check=True)
    return tree


async def install(channel: Path, target: Path, work: Path) -> None:
    gateway = rattler.Gateway(cache_dir=work / "repodata")
    platforms = ["linux-64", "noarch"]
    records = await rattler.solve([channel.as_uri()], ["python", "numpy"], gateway=gateway, platforms=platforms)
    await rattler.install(records, target_prefix=target, cache_dir=work / "cache", show_progress=False)


def main() -> None:
    work, target = (Path(word).absolute() for word in sys.argv[1:])
    channel = work / "channel"
    conda_channel.package(channel, "python", "3.11.2", python_tree(work / "python"))
    conda_channel.package(channel, "numpy", "2.0", numpy_tree(work / "numpy"), ["python"])
    conda_channel.index(channel)
    asyncio.run(install(channel, target, work))


if __name__ == "__main__":
    main()
