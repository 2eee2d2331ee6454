"""Layers as builders write them that cannot be had here: an OCI layout is written anew in one of FORMS.

kaniko takes snapshots of the whole file system; Google's and Bazel's tools write names without their directories, or
absolute ones; jib, ko and others their own kinds of tar; gzip and zstd streams come in pieces, or from other programs.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

from builders import CONFIG, MANIFEST, Blob, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
_PIECE = 1 << 16

Member = tuple[tarfile.TarInfo, bytes]


def write(form: str, source: Path, target: Path) -> None:
    """Writes the image of a layout with its layers in this form, as the image `t` of a new one."""
    (target / "blobs").parent.mkdir()
    manifest = _document(source, json.loads((source / "index.json").read_text())["manifests"][0]["digest"])
    config = _document(source, manifest["config"]["digest"])
    layers = [gzip.decompress(_blob(source, each["digest"])) for each in manifest["layers"]]
    change, compress, kind = FORMS[form]
    layers = change(layers)
    layout = Layout(target)
    stored = [layout.put(Blob(kind, compress(each))).descriptor() for each in layers]
    config["rootfs"]["diff_ids"] = [Blob("", each).digest for each in layers]
    config["history"] = [{"created_by": form} for _ in layers]
    described = layout.document(CONFIG, config).descriptor()
    about = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": stored}
    layout.add(layout.document(MANIFEST, about), "t")


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def _document(layout: Path, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_blob(layout, digest))
    return found


# ---- archives --------------------------------------------------------------------------------------------------------
def _read(layer: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(layer), errors="surrogateescape") as archive:
        return [(each, (archive.extractfile(each) or io.BytesIO()).read() if each.isreg() else b"") for each in archive]


def _written(members: Iterable[Member], kind: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind, errors="surrogateescape") as archive:
        for info, data in members:
            if kind != tarfile.PAX_FORMAT:
                info.mtime = int(info.mtime)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _renamed(change: Callable[[str], str]) -> Callable[[list[bytes]], list[bytes]]:
    def rename(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.pax_headers = {name: text for name, text in info.pax_headers.items() if name not in ("path", "linkpath")}
        info.name = change(info.name)
        if info.islnk():
            info.linkname = change(info.linkname)
        return info

    return lambda layers: [_written((rename(info), data) for info, data in _read(layer)) for layer in layers]


def _as(kind: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda layers: [_written(_fitting(_read(layer), kind), kind) for layer in layers]


def _fitting(members: list[Member], kind: int) -> Iterable[Member]:
    """Without what ustar cannot say: its makers would have stopped."""
    for info, data in members:
        try:
            info.tobuf(kind, errors="surrogateescape")
        except ValueError:
            continue
        yield info, data


def _no_directories(layers: list[bytes]) -> list[bytes]:
    return [_written(each for each in _read(layer) if not each[0].isdir()) for layer in layers]


def _snapshots(layers: list[bytes], *, opaque: bool = False) -> list[bytes]:
    """As kaniko writes them: in each layer all that is there by then, by name, and whiteouts for what is gone.

    `opaque`: a directory is said to be new as a whole, behind its files, as AUFS did.
    """
    there: dict[str, Member] = {}
    made = []
    for layer in layers:
        gone: set[str] = set()
        for info, data in _read(layer):
            name = info.name.strip("/")
            parent, _, last = name.rpartition("/")
            if last == ".wh..wh..opq":
                gone |= _taken(there, parent, itself=False)
            elif last.startswith(".wh."):
                gone |= _taken(there, f"{parent}/{last[4:]}".strip("/"))
            else:
                gone |= set() if info.isdir() else _taken(there, name)
                there[name] = (info, data)
        whiteouts = _opaque(there) if opaque and made else _whiteouts(gone, there)
        made.append(_written([*_in_order(there), *whiteouts] if opaque else [*whiteouts, *_in_order(there)]))
    return made


def _taken(there: dict[str, Member], path: str, *, itself: bool = True) -> set[str]:
    """Takes away a path with all below it; what that was."""
    names = {name for name in there if name.startswith(f"{path}/") or (itself and name == path)}
    for name in names:
        del there[name]
    return names


def _opaque(there: dict[str, Member]) -> Iterable[Member]:
    for name, (info, _) in sorted(there.items()):
        if info.isdir() and "/" not in name:
            yield tarfile.TarInfo(f"{name}/.wh..wh..opq"), b""


def _whiteouts(gone: set[str], there: dict[str, Member]) -> Iterable[Member]:
    for name in sorted(gone):
        parent, _, last = name.rpartition("/")
        if name not in there and (not parent or (parent in there and there[parent][0].isdir())):
            yield tarfile.TarInfo(f"{parent}/.wh.{last}".strip("/")), b""


def _in_order(there: dict[str, Member]) -> Iterable[Member]:
    """By name, hard links behind the file that they are names of."""
    yield from (there[name] for name in sorted(there) if not there[name][0].islnk())
    links = [name for name in sorted(there) if there[name][0].islnk()]
    yield from (there[name] for name in links if there[name][0].linkname.strip("/") in there)


def _with_empty_layers(layers: list[bytes]) -> list[bytes]:
    """As builders write for lines that change nothing: an archive without members, before, between and behind."""
    empty = bytes(1024)
    return [empty, *[each for layer in layers for each in (layer, empty)]]


def _same(layers: list[bytes]) -> list[bytes]:
    return layers


# ---- compression -----------------------------------------------------------------------------------------------------
def _by(*words: str) -> Callable[[bytes], bytes]:
    return lambda data: subprocess.run(words, input=data, capture_output=True, check=True).stdout


def _plain_gzip(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def _in_pieces(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Many complete streams one behind the other."""
    return lambda data: b"".join(compress(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE))


FORMS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], Callable[[bytes], bytes], str]] = {
    "snapshots": (_snapshots, _plain_gzip, _GZIP),
    "absolute": (_renamed(lambda name: f"/{name}"), _plain_gzip, _GZIP),
    "dotted": (_renamed(lambda name: f"./{name}"), _plain_gzip, _GZIP),
    "no-directories": (_no_directories, _plain_gzip, _GZIP),
    "gnu": (_as(tarfile.GNU_FORMAT), _plain_gzip, _GZIP),
    "ustar": (_as(tarfile.USTAR_FORMAT), _plain_gzip, _GZIP),
    "opaque": (functools.partial(_snapshots, opaque=True), _plain_gzip, _GZIP),
    "empty-layers": (_with_empty_layers, _plain_gzip, _GZIP),
    "pigz": (_same, _by("pigz", "-c", "-9"), _GZIP),
    "members": (_same, _in_pieces(_plain_gzip), _GZIP),
    "frames": (_same, _in_pieces(_by("zstd", "-q", "-c", "--no-check")), _ZSTD),
}
