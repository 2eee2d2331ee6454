"""`singularity create IMAGE`: an empty ext3 image, as images of version 2 are."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from singularity import files
from singularity.cli.command import PATH, OneDash, option, verb
from singularity.errors import FileError, UsageError

logger = logging.getLogger(__name__)

DEFAULT = 768  # MiB
_LEAST, _MOST = 2, 1 << 23  # MiB; a journal has no room in less, and what ext3 can have
_MODE = 0o755  # whatever the umask says: an image is a program


@verb(
    description=(
        "IMAGE becomes an ext3 file system behind a first line that makes it a program. Its size is a maximum.",
        "It is written to by containers (--writable), import, copy and bootstrap. Any user can make one.",
    ),
    examples=(
        "singularity create debian.img",
        "singularity create --size 2048 centos.img",
        "singularity create --force debian.img && singularity import debian.img debian.tar.gz",
    ),
)
@option("-F", "--force", is_flag=True, variables="FORCE", help="Replace IMAGE where it exists")
@option("-s", "--size", cls=OneDash, default=str(DEFAULT), metavar="MIB", help=f"Size in MiB, {DEFAULT} by default")
@click.argument("image", type=PATH)
def command(image: Path, *, force: bool, size: str) -> None:
    """Makes the image."""
    amount = mebibytes(size, least=_LEAST)
    if image.is_dir():
        raise FileError(f"{image}: a directory", hint="name a file; directories are made by build --sandbox")
    files.refuse_target(image, overwrite=force)
    say(f"Creating a new image with a maximum size of {amount}MiB...")
    say("Executing image create helper")
    from singularity.build.reproducible import source_date_epoch
    from singularity.image.ext import make as make_ext

    epoch = source_date_epoch()
    with _umask(0o777 & ~_MODE), files.replacing(image, overwrite=force, mode=_MODE) as new:
        say("Formatting image with ext3 file system")
        make_ext.make_empty(new.fd, amount * make_ext.MEBIBYTE, epoch=epoch, purpose=f"format {image}")
    say("Done.")


def say(text: str) -> None:
    """A line about what is done, on standard output as ever, and not under --quiet."""
    if logger.isEnabledFor(logging.INFO):
        click.echo(text)


def mebibytes(text: str, *, least: int) -> int:
    """A size as users write it. Raises UsageError for nonsense."""
    if not text.isascii() or not text.isdecimal():
        raise UsageError(f'--size: "{text}" is no number of MiB', hint=f"such as {DEFAULT}")
    amount = int(text[:20])
    if not least <= amount <= _MOST:
        raise UsageError(f"--size: {text} MiB", hint=f"{least} to {_MOST} are possible")
    return amount


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
