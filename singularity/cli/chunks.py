"""`singularity chunks IMAGE`: the index by which those who have another version of an image fetch only what changed."""

import logging
from pathlib import Path

import click

from singularity import console
from singularity.cli.command import PATH, option, verb
from singularity.content import chunks
from singularity.content.chunks import Index
from singularity.errors import FileError, ImageError

logger = logging.getLogger(__name__)


@verb(
    description=(
        (
            "Writes IMAGE.chunks, for a web server that has it beside IMAGE: whoever pulls the image there, and has "
            "another version in the cache, fetches only what that has not. For registries push --chunks does the same."
        ),
        "With --compare nothing is written; standard output says what such a pull would fetch.",
    ),
    examples=(
        "singularity build --chunks tool.sif tool.def",
        "singularity chunks tool.sif && cp tool.sif tool.sif.chunks /srv/www/images/",
        "singularity chunks --compare tool-1.0.sif tool-1.1.sif",
    ),
)
@option(
    "--compare", "others", type=PATH, multiple=True, metavar="OTHER",
    help="Say how many bytes of IMAGE are in none of these; repeatable",
)  # fmt: skip
@click.argument("image", type=PATH)
def command(image: Path, *, others: tuple[Path, ...]) -> None:
    """Writes an index, or compares."""
    from singularity import files

    if others:
        index = _of(image)
        click.echo(f"{chunks.missing(index, map(_of, others))} of {index.size} bytes")
        return
    target = image.with_name(image.name + chunks.SUFFIX)
    if target.exists() and not _is_index(target):
        raise FileError(f"{target}: exists, and is no index of chunks", hint="it is not replaced")
    data = _of(image).encoded()
    files.write(target, data, overwrite=True, mode=0o666)
    logger.info("Index: %s, %s", target, console.size(len(data)))


def _of(path: Path) -> Index:
    with FileError.about(path):
        if path.exists() and not path.is_file():
            raise ImageError(f"{path}: no file", hint="singularity build makes one of a directory")
        with console.working(f"reading {path}"), path.open("rb") as file:
            return chunks.of(file, str(path))


def _is_index(path: Path) -> bool:
    with FileError.about(path), path.open("rb") as file:
        return chunks.is_index(file.read(8))
