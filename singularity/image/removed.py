"""The names that `build --only` has left out of an image: a file in it, a path a line, sorted by directory.

Of a directory that is left out whole there is its own name alone. The image server reads the list
(`launcher/serve/removed.c`), and tells whoever looks for one of the names; that there is a list, the front door sees by
an object of the SIF file (`launcher/front/image_look.c`).
"""

from collections.abc import Collection, Iterable
from contextlib import suppress

from singularity.image.metadata import DIRECTORY, Files
from singularity.image.root import Root

FILE = f"{DIRECTORY}/removed"
OBJECT_NAME = b"removed-names.json"
_SIZE_LIMIT, _COUNT_LIMIT = 16 << 20, 1 << 18  # bytes and lines that the server reads


def read(root: Files) -> tuple[str, ...]:
    """The paths; none where the image has no such list. What is no path is left out."""
    with suppress(OSError):
        lines = root.read(FILE).decode("utf-8", "surrogateescape").split("\n")
        return tuple(each for each in lines if each.startswith("/"))
    return ()


def write(root: Root, paths: Iterable[str]) -> int:
    """Writes the list; how many have no place in it: names with a line break, and the deepest of too many."""
    found = list(paths)
    fitting: list[tuple[str, str]] = []
    size = 0
    for path in sorted((each for each in found if "\n" not in each), key=lambda each: (each.count("/"), each)):
        size += len(path.encode("utf-8", "surrogateescape")) + 1
        if len(fitting) == _COUNT_LIMIT or size > _SIZE_LIMIT:
            break
        above, _, name = path.rpartition("/")
        fitting.append((above, name))
    text = "".join(f"{above}/{name}\n" for above, name in sorted(fitting))
    root.write(FILE, text.encode("utf-8", "surrogateescape"))
    return len(found) - len(fitting)


def advice(path: str) -> str:
    """What brings a removed file back."""
    quoted = path.replace("'", "'\\''")  # a name is the image's, and somebody's shell gets it
    return f"build --only removed {path}: build again with --keep '{quoted}', or with a trace of a run that uses it"


def why_missing(paths: Collection[str], path: str) -> str:
    """The entry of the list that is why nothing is at `path`; empty where it says nothing of it."""
    while path:
        if path in paths:
            return path
        path = path.rpartition("/")[0]
    return ""
