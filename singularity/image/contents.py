"""What is in an image, of whatever format, as a stream: nothing is mounted or unpacked, and no privilege is needed."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from singularity.errors import FileError, ImageError
from singularity.image.identify import Format, Image, Partition
from singularity.image.tree import Entry, Tree


@contextmanager
def tree(image: Image) -> Iterator[Tree]:
    """The files of an image's root file system, overlays left out, bases below it; read once, before the block ends.

    Whoever needs them as they are at one moment locks the image first (`opened`). Raises ImageError with the image's
    name for what is damaged, FileError when it cannot be read, ToolError when what decompresses it is missing.
    """
    if image.root.format is Format.DIRECTORY:
        from singularity.image import directory

        yield directory.read(image.path)
    elif image.root.format.is_archive:
        from singularity.image.archive import reader as archive

        with archive.opened(image.path, str(image.path)) as found:
            yield found
    else:
        from singularity.image import base, layered

        with layered.tree(base.chain(image)) as found:
            yield found


@contextmanager
def partition(path: Path, part: Partition) -> Iterator[Tree]:
    """The files of one file system in an image file. Raises as `tree`."""
    from singularity.image.erofs import reader as erofs_reader
    from singularity.image.ext import reader as ext_reader
    from singularity.image.squashfs import reader as squashfs_reader

    readers = {Format.EXT: ext_reader.read, Format.SQUASHFS: squashfs_reader.read, Format.EROFS: erofs_reader.read}
    with FileError.about(path):
        file = path.open("rb")
    with file, closing(_named(readers[part.format](file, part.offset, part.size), path)) as found:
        yield found


def _named(found: Tree, path: Path) -> Generator[Entry, None, None]:
    """A tree whose complaints say which image they are about."""
    with ImageError.named(path):
        for entry in found:
            yield Entry(entry.member, _named_data(entry.data, path)) if entry.data else entry


def _named_data(data: Iterable[bytes], path: Path) -> Iterator[bytes]:
    with ImageError.named(path):
        yield from data
