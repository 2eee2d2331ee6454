"""A channel of conda packages, in both of their formats; made without a program of conda's.

Source: conda's documentation, "Package specification" and "Channels and generating an index".
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PREFIX = "/opt/anaconda1anaconda2anaconda3"  # as conda's own builds write it, for the installer to replace
SUBDIRS = ("linux-64", "noarch")


def package(
    channel: Path, name: str, version: str, tree: Path, depends: Sequence[str] = (), *, form: str = ".tar.bz2"
) -> Path:
    """The package of a tree of files; one whose files are below `site-packages` is of any architecture."""
    noarch = (tree / "site-packages").is_dir()
    paths = [_path(tree, path) for path in sorted(tree.rglob("*")) if path.is_symlink() or not path.is_dir()]
    about: dict[str, Any] = {"name": name, "version": version, "build": "0", "build_number": 0, "license": "MIT"}
    about |= {"subdir": "noarch", "noarch": "python"} if noarch else {"subdir": "linux-64", "arch": "x86_64"}
    documents = {
        "index.json": json.dumps({**about, "depends": list(depends), "platform": None if noarch else "linux"}),
        "paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "files": "".join(f"{each['_path']}\n" for each in paths),
        **({"link.json": json.dumps({"noarch": {"type": "python"}, "package_metadata_version": 1})} if noarch else {}),
    }
    file = channel / about["subdir"] / f"{name}-{version}-0{form}"
    file.parent.mkdir(parents=True, exist_ok=True)
    if form == ".conda":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
            for part, data in (("pkg", _tar(tree, {})), ("info", _tar(None, documents))):
                archive.writestr(f"{part}-{name}-{version}-0.tar.zst", _zstd(data, "-c"))
    else:
        file.write_bytes(bz2.compress(_tar(tree, documents), 1))
    return file


def _path(tree: Path, path: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"_path": str(path.relative_to(tree)), "path_type": "hardlink"}
    if path.is_symlink():
        return entry | {"path_type": "softlink"}
    data = path.read_bytes()
    entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
    return entry | ({"prefix_placeholder": PREFIX, "file_mode": "text"} if PREFIX.encode() in data else {})


def _tar(tree: Path | None, documents: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path in sorted(tree.iterdir()) if tree else ():
            archive.add(path, path.name)
        for name, text in documents.items():
            member = tarfile.TarInfo(f"info/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


def _zstd(data: bytes, *words: str) -> bytes:
    return subprocess.run(["zstd", "-q", *words], input=data, stdout=subprocess.PIPE, check=True).stdout


def _about(file: Path) -> dict[str, Any]:
    if file.suffix == ".conda":
        with zipfile.ZipFile(file) as archive:
            data = _zstd(archive.read(f"info-{file.stem}.tar.zst"), "-dc")
    else:
        data = file.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        member = tar.extractfile("info/index.json")
        assert member
        found: dict[str, Any] = json.load(member)
    return found


def index(channel: Path) -> None:
    """The lists of a channel, as they are and compressed."""
    for name in SUBDIRS:
        (channel / name).mkdir(exist_ok=True)
        found: dict[str, dict[str, Any]] = {".bz2": {}, ".conda": {}}
        for file in sorted((channel / name).glob("*-0.*")):
            data = file.read_bytes()
            said = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            found[file.suffix][file.name] = {**_about(file), **said}
        document = {"info": {"subdir": name}, "packages": found[".bz2"], "packages.conda": found[".conda"]}
        text = json.dumps({**document, "repodata_version": 1}).encode()
        (channel / name / "repodata.json").write_bytes(text)
        (channel / name / "repodata.json.zst").write_bytes(_zstd(text, "-c"))
