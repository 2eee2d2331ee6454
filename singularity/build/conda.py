"""What conda, mamba and rattler (pixi) leave in a root file system that is different each day.

Lists of channels lie wherever packages are kept, under eight digits of a digest each, with the time at which they were
fetched; the history of an environment dates what was done to it; Anaconda's conda counts its users by random tokens.

Sources: conda's `History` and `SubdirData`, the conda project's proposal for `.info.json`, rattler's gateway.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from singularity.errors import ImageError
from singularity.foreign_json import parse_json
from singularity.image.root import READ_LIMIT, Root

_LIST = re.compile(
    r"([0-9a-f]{8})\.(?:json|info\.json|state\.json|solv|q|csh|jlap|lock|msgpack\.zst|shards-cache-v1)", re.ASCII
)
_CACHE = "/pkgs/cache"  # of conda and mamba; rattler's is named by whoever uses it
_DATABASE = re.compile(r"repodata_shards\.db(?:-wal|-shm|-journal)?", re.ASCII)
_TOKEN = re.compile(r"aau_token\w*", re.ASCII)
_SHARDS_BEGIN, _SAID_LIMIT = b"SHARD-CACHE-V1", 1 << 20
_PACKAGES = (b".conda", b".tar.bz2")
_WHEN = re.compile(rb"^(==> )(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)( <==)$", re.MULTILINE)


def clear(root: Root, epoch: int) -> None:
    """Removes lists of channels and tokens, which are made anew when they are missing.

    What histories tell was done at `epoch` at the latest, in seconds since 1970. Raises OSError.
    """
    latest = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(epoch)).encode()

    def dated(found: re.Match[bytes]) -> bytes:
        return found[1] + min(found[2], latest) + found[3]

    for path, names in _directories(root):
        for name in _changing(root, path, names):
            root.remove(f"{path}/{name}")
        if path.endswith("/conda-meta") and "history" in names:
            _change(root, f"{path}/history", lambda data: _WHEN.sub(dated, data))
        if path.endswith("/pkgs"):
            for name in {"urls", "urls.txt"} & names:
                _change(root, f"{path}/{name}", _sorted)


def _change(root: Root, path: str, changed: Callable[[bytes], bytes]) -> None:
    """Rewrites a file, but for one that is larger than any of conda's."""
    status = root.status(path)
    if status is not None and status.st_size <= READ_LIMIT:
        root.rewrite(path, changed(root.read(path)))


def _sorted(urls: bytes) -> bytes:
    """A line for each package, which come in the order of their downloads; another program's file stays as it is."""
    lines = urls.splitlines(keepends=True)
    is_condas = all(line.rstrip().partition(b"#")[0].endswith(_PACKAGES) for line in lines)
    return b"".join(sorted(lines)) if is_condas else urls


def _directories(root: Root) -> Iterator[tuple[str, set[str]]]:
    """The path of each directory, and the names of regular files in it."""
    waiting = [""]
    while waiting:
        path, names = waiting.pop(), set()
        with suppress(OSError):  # longer than any path that tools use, or nobody's to read
            fd = root.open(path or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                with os.scandir(fd) as found:
                    for each in found:
                        if each.is_dir(follow_symlinks=False):
                            waiting.append(f"{path}/{each.name}")
                        elif each.is_file(follow_symlinks=False):
                            names.add(each.name)
            finally:
                os.close(fd)
        yield path, names


def _changing(root: Root, path: str, names: set[str]) -> Iterator[str]:
    """Those of the names that belong to lists of channels, and tokens; data of other programs may have such names."""
    if path.endswith(("/etc", "/.conda")):
        yield from filter(_TOKEN.fullmatch, names)
    if path.endswith(_CACHE):
        yield from filter(_DATABASE.fullmatch, names)
    by_digest: dict[str, list[str]] = {}
    for name in names:
        if found := _LIST.fullmatch(name):
            by_digest.setdefault(found[1], []).append(name)
    for belonging in by_digest.values():
        if path.endswith(_CACHE) or any(_is_of_a_list(root, f"{path}/{name}") for name in belonging):
            yield from belonging


def _is_of_a_list(root: Root, path: str) -> bool:
    """Whether a file says itself that it is of a list of a channel."""
    if path.endswith(".shards-cache-v1"):
        with open(root.open(path, os.O_RDONLY), "rb") as file:
            return file.read(len(_SHARDS_BEGIN)) == _SHARDS_BEGIN
    if path.endswith(".info.json"):
        with suppress(OSError, ImageError):
            said = parse_json(root.read(path, limit=_SAID_LIMIT))
            return isinstance(said, dict) and "mtime_ns" in said and "repodata" in str(said.get("url"))
    return False
