"""The members of one layer: its blob read, decompressed, and checked on the way, before and after."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from singularity.content.digest import Checked, buffered
from singularity.errors import ImageError
from singularity.image.archive import tar
from singularity.image.archive.compression import decompressed
from singularity.image.tree import Tree
from singularity.oci.image import Layer


@contextmanager
def read(layer: Layer, *, content: bool = True) -> Iterator[Tree]:
    """The members of a layer, to be read to the end: what is wrong with a digest is known at the end of the block.

    Without `content` only the digest of what is stored is looked at, for a reading that another one follows.
    A damaged blob is told as that, not by what its reader stumbles over. Raises ImageError, FileError and ToolError.
    """
    try:
        yield from _read(layer, content)
    except ImageError:
        stored = layer.open()
        try:
            stored.finish()
        finally:
            stored.close()
        raise


def _read(layer: Layer, content: bool) -> Iterator[Tree]:
    stored = layer.open()
    try:
        with decompressed(cast("BinaryIO", stored), layer.name, aside=True) as stream:
            wanted = layer.content if content and layer.content != layer.stored else None
            checked = Checked(stream, wanted, f"{layer.name}, decompressed")
            yield tar.read(buffered(checked), layer.name, marked=False)
            checked.finish()
        stored.finish()
    finally:
        stored.close()
