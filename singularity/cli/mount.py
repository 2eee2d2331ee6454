"""`singularity mount IMAGE [DIRECTORY]`: a shell that sees the content of an image as a directory."""

import logging
import os
import re
from pathlib import Path

import click

from singularity import paths
from singularity.cli.command import PATH, option, verb
from singularity.edit import mounted
from singularity.errors import FileError
from singularity.image import base
from singularity.image.identify import Format
from singularity.image.opened import Opened, opened
from singularity.variables import handed_on

logger = logging.getLogger(__name__)

_UNSAFE_IN_PROMPT = re.compile(r"[^\w./+@=,:-]")  # shells expand prompts


@verb(
    description=(
        (
            "Mounts IMAGE at DIRECTORY, or at a private one, and starts $SHELL, which alone sees it and also takes "
            "commands from a pipe. SINGULARITY_ROOTFS says where IMAGE is mounted; leaving the shell unmounts it."
        ),
        "IMAGE is of any format but an archive; squashfs and SIF files can only be read.",
        (
            "Images of ordinary users are mounted through FUSE, and the shell is root's, but of a user namespace: on "
            "the host it may do what its user may do."
        ),
    ),
    examples=(
        "sudo singularity mount debian.img",
        "singularity mount --writable debian.img /mnt",
        "echo 'ls -l $SINGULARITY_ROOTFS/etc' | singularity mount debian.sif",
    ),
)
@option("-w", "--writable", is_flag=True, variables="WRITABLE", help="Also let the shell change the content of IMAGE")
@click.argument("image", type=PATH)
@click.argument("directory", type=PATH, required=False)
@click.pass_context
def command(ctx: click.Context, image: Path, directory: Path | None, *, writable: bool) -> None:
    """Mounts the image and starts the shell."""
    place = _directory(directory) if directory else None
    with opened(image, writable=writable) as found:
        _check(found, writable=writable)
        with mounted.mounted(found, writable=writable, temporary=paths.temporary(), place=place) as root:
            how = "" if writable else ", read only"
            logger.info("%s is mounted at %s%s: leave the shell to unmount it", image, root, how)
            status = mounted.run(_shell(), environment=_environment(image, root), job_control=True)
    ctx.exit(status)


def _directory(path: Path) -> Path:
    try:
        found = path.resolve(strict=True)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}", hint="DIRECTORY must be there") from error
    if not found.is_dir():
        raise FileError(f"{path}: not a directory")
    return found


def _check(image: Opened, *, writable: bool) -> None:
    kind = image.image.format
    if kind.is_archive:
        raise FileError(
            f"{image.path}: a {kind.value} cannot be mounted", hint="singularity build makes an image of it"
        )
    base.refuse(image.image, "mount")
    if writable and kind not in (Format.EXT, Format.DIRECTORY):
        what = f"{image.path}: a {kind.value} cannot be mounted for writing"
        raise FileError(what, hint="make a directory of it: singularity build --sandbox")


def _shell() -> list[str]:
    shell = os.environ.get("SHELL", "")
    if not shell.startswith("/") or not os.access(shell, os.X_OK):
        return ["/bin/sh"]
    return [shell, "--norc"] if Path(shell).name == "bash" else [shell]  # start-up files set other prompts


def _environment(image: Path, root: Path) -> dict[str, str]:
    prompt = _UNSAFE_IN_PROMPT.sub("?", f"{image.name}:{root}")
    return {**handed_on(), "SINGULARITY_ROOTFS": str(root), "PS1": f"{prompt}> "}
