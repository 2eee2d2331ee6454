"""The layers of an image as one stream of what they leave of each other, without a root file system on disk.

Two readings. The first needs only the layers' indexes: their members are laid over each other in a tree of names, as
`layers` does it in a directory, and what is left in the end is known. The second reads the layers again, the lowest
first, and lets through what is left, under the name that it has in the end. All directories go out before the first
file, with what the last layer that speaks of them says.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import replace

from singularity.console import VERBOSE
from singularity.errors import ImageError
from singularity.image.tree import Entry, Kind, Tree
from singularity.oci import members
from singularity.oci.image import Image, Layer
from singularity.oci.index import LayerIndex, index_layer
from singularity.oci.names import Fate, Left, Names

logger = logging.getLogger(__name__)

_LINK_MODE = 0o777


def merged(
    image: Image,
    indexed: Callable[[Layer], LayerIndex] = index_layer,
    read: Callable[[Layer], AbstractContextManager[Tree]] = members.read,
) -> Generator[Entry, None, None]:
    """The root file system of an image; each path once, and hard links behind what they are names of.

    `indexed` gives the index of a layer: it may have been made before, and is asked for at once, while the layers are
    `read` when the stream is. Raises ImageError, FileError and ToolError. What was yielded counts only when the stream
    has come to its end: the layers' digests are checked on the way.
    """
    names = Names()
    for number, layer in enumerate(image.layers, 1):
        logger.log(VERBOSE, "Layer %d of %d: %s", number, len(image.layers), layer.name)
        try:
            names.lay(indexed(layer))
        except ImageError as error:
            raise _named(error, layer) from error
    return _emit(image, names.left(), read)


def _named(error: ImageError, layer: Layer) -> ImageError:
    text = str(error)
    return error if text.startswith(f"{layer.name}") else ImageError(f"{layer.name}: {text}")


def _emit(
    image: Image, left: Left, read: Callable[[Layer], AbstractContextManager[Tree]]
) -> Generator[Entry, None, None]:
    for directory in left.directories:
        yield Entry(directory)
    number = 0
    for layer, fates in zip(image.layers, left.fates, strict=True):
        count = 0
        with read(layer) as tree:
            for fate, entry in zip(fates, tree, strict=False):
                count += 1
                if fate == Fate.KEPT:
                    yield entry if entry.member.kind is not Kind.LINK else _as_on_disk(entry)
                elif fate == Fate.RENAMED:
                    yield from _by_other_names(entry, left.renamed[number + count - 1])
            count += sum(1 for _ in tree)
        if count != len(fates):
            raise ImageError(f"{layer.name}: {count} members, but its index has {len(fates)}")
        number += count


def _as_on_disk(link: Entry) -> Entry:
    """A symbolic link, whose mode no file system lets choose."""
    return link if link.member.mode == _LINK_MODE else Entry(replace(link.member, mode=_LINK_MODE))


def _by_other_names(entry: Entry, names: list[bytes]) -> Generator[Entry, None, None]:
    first, *others = names
    member = entry.member if entry.member.kind is not Kind.LINK else _as_on_disk(entry).member
    yield Entry(replace(member, path=first), entry.data)
    link = replace(member, kind=Kind.HARD_LINK, target=first, size=0, segments=None, device=0, xattrs={})
    for name in others:
        yield Entry(replace(link, path=name))
