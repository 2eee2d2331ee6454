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

from singularity import paths, uri
from singularity.cli.command import PATH, verb
from singularity.cli.fetching import options as fetching_options
from singularity.errors import FileError, UsageError
from singularity.image.tree import Tree
from singularity.sources.fetch import Fetch

logger = logging.getLogger(__name__)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@verb(
    description=(
        (
            "IMAGE is an ext3 image file, such as create makes, or a directory. What is in it stays, where the archive "
            "has nothing of the same path; in the end the files that every container has are put in place."
        ),
        (
            "SOURCE is a tar or cpio archive, plain or compressed by gzip, bzip2, xz or zstd, whatever its name: a "
            "path, file://PATH, or - for standard input, which is also what is read without SOURCE. Or it is the URI "
            "of an image, such as docker://debian, as pull has them: its command becomes the runscript."
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
        "singularity import debian.img docker://debian:stable",
    ),
)
@fetching_options
@click.argument("image", type=PATH)
@click.argument("source", required=False)
def command(image: Path, source: str | None, *, fetch: Fetch) -> None:
    """Imports."""
    from singularity.edit import change
    from singularity.image.opened import opened

    with opened(image, writable=True, missing="singularity create makes one") as found:
        change.check_writable(found)
        with _tree(source, fetch) as (tree, name):
            change.unpack_over(found, tree, paths.temporary())
    logger.info("Imported %s into %s", name, image)


@contextmanager
def _tree(source: str | None, fetch: Fetch) -> Iterator[tuple[Tree, str]]:
    """What is imported, and what messages call it."""
    from singularity.image import contents
    from singularity.image.archive import reader as archive

    named = uri.parse(source or "")
    if named is None:
        with _source(source) as (file, name), archive.opened(file, name) as tree:
            yield tree, name
        return
    from singularity.image.identify import identify
    from singularity.pull import images

    with images.available(named, fetch) as path, contents.tree(identify(path)) as tree:
        yield tree, str(named)


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
    with FileError.about(path):
        file = open(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")  # noqa: SIM115 - closed below
    with file:
        yield file, str(path)


def _path(word: str) -> str:
    scheme = _SCHEME.match(word)
    if scheme is None:
        return word
    if scheme[1].lower() == "file":
        return word[scheme.end() :]
    raise FileError(f"{word}: {scheme[1]} is no transport that is known", hint="such as docker://NAME:TAG")
