"""Images made by the real builders, and root file systems compared file by file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def run(*words: str | Path, cwd: Path) -> str:
    argv = [str(word) for word in words]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_umoci(directory: Path, *changes: Callable[[Path], None]) -> Path:
    """An OCI layout whose image `t` has one layer for each change to the root file system."""
    layout = directory / "layout"
    run("umoci", "init", "--layout", layout, cwd=directory)
    run("umoci", "new", "--image", f"{layout}:t", cwd=directory)
    for number, change in enumerate(changes):
        bundle = directory / f"bundle{number}"
        run("umoci", "unpack", "--image", f"{layout}:t", bundle, cwd=directory)
        change(bundle / "rootfs")
        run("umoci", "repack", "--image", f"{layout}:t", bundle, cwd=directory)
        shutil.rmtree(bundle)
    return layout


def configure(layout: Path, *options: str) -> None:
    run("umoci", "config", "--image", f"{layout}:t", *options, cwd=layout.parent)


def unpacked_by_umoci(layout: Path) -> Path:
    bundle = layout.parent / "reference"
    run("umoci", "unpack", "--image", f"{layout}:t", bundle, cwd=layout.parent)
    return bundle / "rootfs"


def skopeo(source: str, target: str, cwd: Path, *options: str) -> None:
    run("skopeo", "copy", "--quiet", "--insecure-policy", *options, source, target, cwd=cwd)


@dataclass(frozen=True)
class Blob:
    type: str
    data: bytes

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.data).hexdigest()

    def descriptor(self, **more: Any) -> dict[str, Any]:
        return {"mediaType": self.type, "digest": self.digest, "size": len(self.data), **more}


class Layout:
    """An OCI layout written by hand, for what no builder makes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.manifests: list[dict[str, Any]] = []

    def put(self, blob: Blob) -> Blob:
        (self.path / "blobs" / blob.digest.replace(":", "/")).write_bytes(blob.data)
        return blob

    def document(self, kind: str, content: object) -> Blob:
        return self.put(Blob(kind, json.dumps(content).encode()))

    def image(
        self,
        layers: Sequence[bytes],
        *,
        types: Sequence[str] = (),
        stored: Sequence[bytes] = (),
        annotations: Sequence[Mapping[str, str]] = (),
        config: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Blob:
        """An image of these tar archives, which are stored as they are unless `stored` has other bytes for them."""
        blobs = [
            self.put(Blob(types[number] if types else LAYER, stored[number] if stored else data))
            for number, data in enumerate(layers)
        ]
        rootfs = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]}
        about = {"os": "linux", "architecture": "amd64", "config": config or {}, "rootfs": rootfs, **more}
        described = self.document(CONFIG, about).descriptor()
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described}
        said = [{"annotations": each} for each in annotations] or [{} for _ in blobs]
        described_layers = [each.descriptor(**more) for each, more in zip(blobs, said, strict=True)]
        return self.document(MANIFEST, {**manifest, "layers": described_layers})

    def add(self, blob: Blob, tag: str = "", **more: Any) -> None:
        """Lists a document in the layout's index."""
        annotations = {"org.opencontainers.image.ref.name": tag} if tag else {}
        self.manifests.append(blob.descriptor(annotations=annotations, **more))
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests}
        (self.path / "index.json").write_text(json.dumps(index))


def layer(*members: tuple[str, bytes | str | None] | tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    """A tar archive: (name, content) is a file, (name, text) a link, (name, None) a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for each in members:
            if isinstance(each, tarfile.TarInfo):
                archive.addfile(each, io.BytesIO(bytes(each.size)))
                continue
            name, content = each
            info = tarfile.TarInfo(name)
            info.mtime = 1_500_000_000
            info.mode = 0o755 if content is None or name.startswith("bin/") else 0o644
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    return out.getvalue()


def described(root: Path, *, shift: int = 0) -> dict[str, tuple[object, ...]]:
    """Everything about every file of a tree: mode, owner (less `shift`), time, links, device, attributes, content."""
    found: dict[str, tuple[object, ...]] = {}
    names: dict[int, list[str]] = {}
    for path in _walk(root):
        status = path.lstat()
        name = str(path.relative_to(root))
        if not stat.S_ISDIR(status.st_mode):
            names.setdefault(status.st_ino, []).append(name)
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            content = status.st_rdev
        owner = tuple(number - shift if number >= shift else number for number in (status.st_uid, status.st_gid))
        found[name] = (oct(status.st_mode), owner, status.st_mtime_ns, _attributes(path), content)
    for group in names.values():
        for name in group:
            found[name] = (*found[name], tuple(sorted(group)))
    return found


def _walk(root: Path) -> Iterable[Path]:
    for path in sorted(root.iterdir()):
        yield path
        if not path.is_symlink() and path.is_dir():  # a link may lead to a name that is too long
            yield from _walk(path)


def _attributes(path: Path) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
