"""`singularity import IMAGE [SOURCE]`: an archive unpacked over the content of an image."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from singularity import paths
from singularity.cli.command import Verb
from singularity.errors import FileError, UsageError

logger = logging.getLogger(__name__)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@click.command(
    cls=Verb,
    name="import",
    description=(
        (
            "IMAGE is an ext3 image file, such as create makes, or a directory. What is in it stays, where the archive "
            "has nothing of the same path; in the end the files that every container has are put in place."
        ),
        (
            "SOURCE is a tar or cpio archive, plain or compressed by gzip, bzip2, xz or zstd, whatever its name: a "
            "path, file://PATH, or - for standard input, which is also what is read without SOURCE."
        ),
        (
            "Ordinary users keep all owners in an image file, and it stays as it was when anything goes wrong. In a "
            "directory all files become theirs."
        ),
    ),
    examples=(
        "singularity create debian.img && singularity import debian.img rootfs.tar.xz",
        "docker export CONTAINER | singularity import debian.img",
        "tar -c -C tree . | singularity import box/",
    ),
)
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("source", required=False)
def command(image: Path, source: str | None) -> None:
    """Imports."""
    from singularity.image import archive, change
    from singularity.image.opened import opened

    with opened(image, writable=True, missing="singularity create makes one") as found:
        change.check_writable(found)
        with _source(source) as (file, name), archive.opened(file, name) as tree:
            change.unpack_over(found, tree, paths.temporary())
    logger.info("Imported %s into %s", name, image)


@contextmanager
def _source(word: str | None) -> Iterator[tuple[BinaryIO, str]]:
    """The open archive, and what messages call it."""
    if word is None or word == "-":
        if sys.stdin.isatty():
            raise UsageError(
                "import: SOURCE is missing, and standard input is a terminal", hint="see: singularity help import"
            )
        if word is None:
            logger.info("No SOURCE: reading an archive from standard input")
        yield sys.stdin.buffer, "standard input"
        return
    path = Path(_path(word))
    try:
        file = open(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise FileError.because(path, error) from error
    with file:
        yield file, str(path)


def _path(word: str) -> str:
    scheme = _SCHEME.match(word)
    if scheme is None:
        return word
    if scheme[1].lower() == "file":
        return word[scheme.end() :]
    if scheme[1].lower() in ("http", "https"):
        raise FileError(f"{word}: archives are not fetched by this version", hint="download it, and import the file")
    what = f"{word}: images of {scheme[1]} are not fetched by this version"
    raise FileError(what, hint="import a file, or what comes through a pipe")
