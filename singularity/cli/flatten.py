"""`singularity flatten TARGET IMAGE`: one file of an image and the base that it lies on."""

import logging
import os
from pathlib import Path

import click

from singularity.cli.command import PATH, option, verb

logger = logging.getLogger(__name__)


@verb(
    description=(
        "IMAGE holds only what differs from its base (build --on). TARGET becomes a SIF file that needs no other.",
        (
            "It is the file that build without --on makes, byte for byte, where IMAGE was built with --reproducible or "
            "SOURCE_DATE_EPOCH and the same version of mksquashfs packs it."
        ),
        "Signatures are not taken over: they are of other bytes.",
    ),
    examples=("singularity flatten whole.sif tool.sif",),
)
@option("-F", "--force", is_flag=True, variables="FORCE", help="Replace TARGET")
@option("--tmpdir", default="", metavar="DIR", help="Where the working directory is made [SINGULARITY_TMPDIR, TMPDIR]")
@click.argument("target", type=PATH)
@click.argument("image", type=PATH)
def command(target: Path, image: Path, *, force: bool, tmpdir: str) -> None:
    """Makes one file of two."""
    from singularity import console, files, paths
    from singularity.build import layered
    from singularity.image import base
    from singularity.image.identify import identify
    from singularity.namespaces import fakeroot

    layered.refuse_whole(found := identify(image))  # before TARGET: whoever has the two the wrong way round hears so
    files.refuse_target(target, overwrite=force)
    base.chain(found)  # what is missing is said before the work
    if os.geteuid() != 0:
        fakeroot.become_root()
    layered.flatten(image, target, paths.temporary(tmpdir), overwrite=force)
    logger.info("Build complete: %s (%s)", target, console.size(target.stat().st_size))
