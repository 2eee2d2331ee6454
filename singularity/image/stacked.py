"""File systems laid over each other as overlayfs does it: an image, and overlays in it or that a launch adds."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from singularity.errors import FileError
from singularity.image import base
from singularity.image.identify import Format, Image
from singularity.image.lookup import Lookup, Node, opened
from singularity.image.tree import Kind


class Stacked(Lookup):
    """Layers from the top down; a character device 0:0 hides what lies below it."""

    def __init__(self, layers: Sequence[Lookup], *, lowest: int = 1) -> None:
        """The last `lowest` layers are the image: others lie over it."""
        self._layers = layers
        self._image = layers[-lowest:]

    def at(self, path: str) -> tuple[Node, Lookup] | None:
        """The file at a path, and the layer that it is of."""
        for layer in self._layers:
            node = layer.find(path)
            if node is not None:
                return None if node.kind is Kind.CHARACTER_DEVICE and node.device == 0 else (node, layer)
            if len(self._layers) > 2 and _hides(layer, path):  # with two, whoever comes from above has seen that
                return None
        return None

    def find(self, path: str) -> Node | None:
        """What is there."""
        found = self.at(path)
        return found[0] if found else None

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        way = path.rstrip("/")
        return [name for name in {n for layer in self._layers for n in layer.names(path)} if self.at(f"{way}/{name}")]

    def open(self, path: str) -> BinaryIO:
        """The content of a file."""
        found = self.at(path)
        if found is None or found[0].kind is not Kind.FILE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found[1].open(path)

    def layer_of(self, path: str) -> int:
        """Which layer the file at a path is of, 0 the topmost; -1 where there is none."""
        found = self.at(path)
        return next((number for number, each in enumerate(self._layers) if found and found[1] is each), -1)

    def in_overlay(self, path: str) -> bool:
        """Whether the file at a path is in a layer that lies over the image."""
        found = self.at(path)
        return found is not None and not any(found[1] is each for each in self._image)


def _hides(layer: Lookup, path: str) -> bool:
    """Whether something in a layer takes the place of a directory above a path that it has not."""
    above = path.rpartition("/")[0]
    while above:
        node = layer.find(above)
        if node is not None:
            return node.kind is not Kind.DIRECTORY
        above = above.rpartition("/")[0]
    return False


class _Upper(Lookup):
    """An overlay keeps its files below a directory `upper`."""

    def __init__(self, whole: Lookup) -> None:
        self._whole = whole

    def find(self, path: str) -> Node | None:
        return self._whole.find("/upper" + (path if path != "/" else ""))

    def names(self, path: str) -> list[str]:
        return self._whole.names("/upper" + (path if path != "/" else ""))

    def open(self, path: str) -> BinaryIO:
        return self._whole.open(f"/upper{path}")


def overlay(whole: Lookup) -> Lookup:
    """The files that a file system brings as an overlay."""
    return _Upper(whole) if whole.find("/upper") else whole


@contextmanager
def shown(image: Image) -> Iterator[Lookup]:
    """The files of an image as a launch without options shows them: overlays that are in it on top, bases below.

    Of archives there are none: whoever has one makes an image of it first. Raises ImageError and FileError, that also
    for the host's own root directory, of which no end would be found.
    """
    if image.root.format is Format.DIRECTORY and image.path.resolve() == Path("/"):
        raise FileError(f"{image.path}: the host's root directory, not an image")
    with ExitStack() as stack:
        *uppers, lowest = base.chain(image)
        above = [overlay(stack.enter_context(opened(each.path, each.root))) for each in uppers]
        root, *overlays = [stack.enter_context(opened(lowest.path, each)) for each in (lowest.root, *lowest.overlays)]
        layers = [*above, *(overlay(each) for each in reversed(overlays)), root]
        yield Stacked(layers, lowest=len(above) + 1) if layers[1:] else root
