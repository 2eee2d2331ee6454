"""Stacks of layers by chance: few names, so that members of different layers meet in all the ways there are."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

NAMES = ("a", "b", "c")
TARGETS = ("a", "b", "/a", "a/b", "../b", "..", "/", "c/../a", ".", "gone", "/b/c", "../../../a")
KINDS = (
    *("file",) * 4,
    *("directory",) * 4,
    *("link",) * 2,
    *("hard link",) * 2,
    *("whiteout",) * 2,
    "opaque",
    "pipe",
    "device",
)


def layer(chance: random.Random) -> bytes:
    """A tar archive of some members; what is made of it may well be an error."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for _ in range(chance.randint(0, 7)):
            info, data = _member(chance)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


FILES = ("a/one", "a/d/two", "a/d/e/three", "b/four", "b/d/five")
PLACES = ("a", "/a", "a/d", "/a/d/e", "../..", "/", "./a/../b", "b", "/b/d", "b/up/a", "l", "/m/d", "gone")


def linked(chance: random.Random) -> list[bytes]:
    """Layers whose whiteouts, opaque markers and files lie behind links of those below: `l`, `m`, `a/up`, `b/up`."""
    stack = []
    for number in range(3):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name in FILES if not number else ():
                archive.addfile(tarfile.TarInfo(name))
            for name in ("l", "m", "a/up", "b/up"):
                if not number or not chance.randint(0, 5):
                    link = tarfile.TarInfo(name)
                    link.type, link.linkname = tarfile.SYMTYPE, chance.choice(PLACES)
                    archive.addfile(link)
            for _ in range(chance.randint(1, 4) if number else 0):
                above = "/".join(chance.choices(("l", "m", "a", "b", "a/up", "b/up", "d"), k=chance.choice((1, 1, 2))))
                name = chance.choice(("one", "two", "four", "d", "e", "a", "up", "l"))
                archive.addfile(tarfile.TarInfo(f"{above}/{chance.choice(('.wh.' + name, '.wh..wh..opq'))}"))
                if not chance.randint(0, 2):
                    archive.addfile(tarfile.TarInfo(f"{chance.choice(('a', 'b', 'a/d'))}/new{number}"))
        stack.append(out.getvalue())
    return stack


def _path(chance: random.Random) -> str:
    return "/".join(chance.choice(NAMES) for _ in range(chance.choice((1, 1, 2, 2, 3))))


def _member(chance: random.Random) -> tuple[tarfile.TarInfo, bytes]:
    path = _path(chance)
    kind = chance.choice(KINDS)
    info = tarfile.TarInfo(path)
    info.mtime = chance.randint(0, 1 << 31)
    info.mode = chance.randint(0, 0o7777)
    info.uid, info.gid = chance.randint(0, 99), chance.randint(0, 99)
    above, _, name = path.rpartition("/")
    match kind:
        case "file":
            data = path.encode() * chance.randint(0, 3)
            info.size = len(data)
            if not chance.randint(0, 3):
                info.pax_headers = {"SCHILY.xattr.user.note": chance.choice("xyz")}
            return info, data
        case "directory":
            info.type = tarfile.DIRTYPE
            info.name = chance.choice((path, path, path, "./"))
        case "link":
            info.type, info.linkname = tarfile.SYMTYPE, chance.choice(TARGETS)
        case "hard link":
            info.type, info.linkname = tarfile.LNKTYPE, _path(chance)
        case "whiteout":
            info.name = f"{above}/.wh.{name}"
        case "opaque":
            info.name = f"{chance.choice((above, path))}/.wh..wh..opq"
        case "pipe":
            info.type = tarfile.FIFOTYPE
        case _:
            info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, chance.randint(1, 9)
    return info, b""
