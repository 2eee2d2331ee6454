"""Run by a Python that has py-rattler: makes a channel of conda packages and installs an environment from it.

conda_environment.py WORK TARGET: packages go below WORK; TARGET is the environment's prefix.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import rattler

PREFIX = "/opt/anaconda1anaconda2anaconda3"  # as conda's own builds write it, for the installer to replace
PYTHON = Path("/usr/lib/python3.11")


def package(channel: Path, name: str, version: str, tree: Path, depends: list[str]) -> None:
    """A package in the format `.tar.bz2`, with its list of files; those that hold PREFIX say so."""
    paths = []
    for path in sorted(tree.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        entry: dict[str, object] = {"_path": str(path.relative_to(tree)), "path_type": "hardlink"}
        if path.is_symlink():
            entry["path_type"] = "softlink"
        else:
            data = path.read_bytes()
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
            if PREFIX.encode() in data:
                entry |= {"prefix_placeholder": PREFIX, "file_mode": "text"}
        paths.append(entry)
    index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": depends}
    index |= {"subdir": "linux-64", "arch": "x86_64", "platform": "linux", "license": "MIT"}
    (tree / "info").mkdir()
    (tree / "info/index.json").write_text(json.dumps(index))
    (tree / "info/paths.json").write_text(json.dumps({"paths": paths, "paths_version": 1}))
    (tree / "info/files").write_text("".join(f"{each['_path']}\n" for each in paths))
    (channel / "linux-64").mkdir(parents=True, exist_ok=True)
    with tarfile.open(channel / f"linux-64/{name}-{version}-0.tar.bz2", "w:bz2", compresslevel=1) as archive:
        for path in sorted(tree.iterdir()):
            archive.add(path, path.name)


def index(channel: Path) -> None:
    found = {}
    for file in sorted((channel / "linux-64").glob("*.tar.bz2")):
        with tarfile.open(file) as archive:
            member = archive.extractfile("info/index.json")
            assert member
            about = json.load(member)
        data = file.read_bytes()
        found[file.name] = {**about, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    for name, packages in (("linux-64", found), ("noarch", {})):
        (channel / name).mkdir(exist_ok=True)
        document = {"info": {"subdir": name}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
        (channel / name / "repodata.json").write_text(json.dumps(document))


def python_tree(tree: Path) -> Path:
    """Debian's Python, whose programs find their library beside themselves; one script names the prefix."""
    (tree / "bin").mkdir(parents=True)
    (tree / "lib").mkdir()
    subprocess.run(["cp", "-aL", "/usr/bin/python3.11", tree / "bin/python3.11"], check=True)
    subprocess.run(["cp", "-a", PYTHON, tree / "lib/python3.11"], check=True)
    for link, target in (("python3", "python3.11"), ("python", "python3")):
        (tree / "bin" / link).symlink_to(target)
    script = tree / "bin/pydoc3"
    script.write_text(f"#!{PREFIX}/bin/python3.11\nimport pydoc\npydoc.cli()\n")
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
    package(channel, "python", "3.11.2", python_tree(work / "python"), [])
    package(channel, "numpy", "2.0", numpy_tree(work / "numpy"), ["python"])
    index(channel)
    asyncio.run(install(channel, target, work))


if __name__ == "__main__":
    main()
