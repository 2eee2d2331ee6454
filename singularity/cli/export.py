"""`singularity export IMAGE`: the content of an image as a tar archive."""

import logging
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from singularity import console, files, paths
from singularity.cli.command import PATH, option, verb
from singularity.errors import FileError, UsageError
from singularity.variables import handed_on

logger = logging.getLogger(__name__)


@verb(
    description=(
        (
            "IMAGE is of any format. It is neither mounted nor unpacked, and every owner is kept, whoever calls. "
            "Standard output gets the archive and nothing else."
        ),
        (
            "With --command, IMAGE is mounted for reading, and /bin/sh of the host runs COMMAND where it "
            "is mounted; the exit status is that of COMMAND."
        ),
    ),
    examples=(
        "singularity export debian.img > debian.tar",
        "singularity export debian.sif | tar -x -C tree/",
        "singularity export --command 'tar -c etc' debian.img > etc.tar",
    ),
)
@option(
    "-f",
    "--file",
    "target",
    type=PATH,
    metavar="FILE",
    variables="EXPORT_FILE",
    help="Write the archive there; FILE is whole, or as it was before",
)
@option(
    "--command",
    "text",
    metavar="COMMAND",
    variables="EXPORT_COMMAND",
    help="Run COMMAND in the directory of the content, instead of tar",
)
@click.argument("image", type=PATH)
@click.pass_context
def command(ctx: click.Context, image: Path, target: Path | None, text: str | None) -> None:
    """Exports."""
    if text:
        if target:
            logger.warning("--file %s means nothing here: COMMAND writes to standard output", target)
        ctx.exit(_run(image, text))
    if target is None:
        if console.output_is_closed():
            raise FileError("standard output is closed", hint="name a file with -f")
        if sys.stdout.isatty():
            raise UsageError("export: an archive is nothing for a terminal", hint="name a file with -f, or use a pipe")
        _export(image, sys.stdout.buffer)
        return
    with _file(target) as out:
        _export(image, out)
    logger.info("Exported %s to %s", image, target)


def _export(path: Path, out: BinaryIO) -> None:
    from singularity.image import contents
    from singularity.image.archive import tar_writer
    from singularity.image.opened import opened

    with opened(path, writable=False) as found, contents.tree(found.image) as tree:
        tar_writer.write(tree, out)
    out.flush()


def _run(path: Path, text: str) -> int:
    from singularity.edit import mounted
    from singularity.image.opened import opened

    with (
        opened(path, writable=False) as found,
        mounted.mounted(found, writable=False, temporary=paths.temporary()) as root,
    ):
        environment = {**handed_on(), "SINGULARITY_ROOTFS": str(root)}
        return mounted.run(["/bin/sh", "-c", text], environment=environment, directory=root)


@contextmanager
def _file(target: Path) -> Iterator[BinaryIO]:
    """The file to write to: a new one in its place, or, for a device or a pipe, itself."""
    target = target.resolve() if target.exists() else target
    try:
        kind = stat.S_IFMT(target.stat().st_mode)
    except FileNotFoundError:
        kind = stat.S_IFREG
    except OSError as error:
        raise FileError.because(target, error) from error
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        with files.replacing(target, overwrite=True) as new, open(new.fd, "wb", closefd=False) as out:
            yield out
        return
    try:
        with target.open("wb") as device:
            yield device
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError.because(error.filename or target, error) from error
