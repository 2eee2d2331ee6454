"""Archives of every kind that is read, known by their bytes: tar or cpio, plain or compressed, a file or a pipe."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from singularity.errors import FileError, ImageError
from singularity.image.archive import cpio, tar
from singularity.image.archive.compression import HEAD, decompressed, recognise
from singularity.image.limits import LIMITS, Limits
from singularity.image.tree import Entry, Tree


@contextmanager
def opened(source: Path | BinaryIO, name: str = "", *, limits: Limits = LIMITS) -> Iterator[Tree]:
    """The members of an archive, a path or an open file; `name`, that of the file by default, stands in messages.

    The tree should be read to its end: only then has every checksum been looked at. Raises ImageError for a damaged
    archive and for what is none, FileError when it cannot be read, ToolError when the program that decompresses it is
    missing.
    """
    name = name or _name(source)
    with _file(source, name) as file, decompressed(file, name, limits=limits) as stream:
        head = stream.peek(HEAD)[:HEAD]
        if tar.recognise(head):
            tree = tar.read(stream, name, limits=limits)
        elif cpio.recognise(head):
            tree = cpio.read(stream, name, limits=limits)
        else:
            raise _unknown(head, name)
        with closing(cast("Generator[Entry, None, None]", tree)):
            yield tree


def _name(source: Path | BinaryIO) -> str:
    name = source if isinstance(source, Path) else getattr(source, "name", "")
    return str(name) if isinstance(name, str | Path) and name not in ("", "<stdin>") else "standard input"


@contextmanager
def _file(source: Path | BinaryIO, name: str) -> Iterator[BinaryIO]:
    if not isinstance(source, Path):
        yield source
        return
    with FileError.about(name):
        file = source.open("rb", buffering=0)
    with file:
        yield file


def _unknown(head: bytes, name: str) -> ImageError:
    if not head:
        return ImageError(f"{name}: empty, no archive", hint="incomplete? fetch it again")
    if recognise(head):
        return ImageError(f"{name}: compressed twice", hint="decompress it once before")
    if head.lstrip()[:1] == b"<":
        return ImageError(f"{name}: a web page, not an archive", hint="the download went wrong")
    hint = "known are tar and cpio archives, plain or compressed by gzip, bzip2, xz or zstd"
    return ImageError(f"{name}: no archive that is known", hint=hint)
