"""`singularity stage IMAGE`: a copy of an image on each node of a job, by one read of the shared file system."""

import logging
import os
from pathlib import Path

import click

from singularity.cli.command import PATH, option, verb
from singularity.console import escape
from singularity.errors import UsageError

logger = logging.getLogger(__name__)


@verb(
    description=(
        (
            "Typed once on each node of a job, by srun, mpirun or pbsdsh, it copies IMAGE to all of them: one node "
            "reads it, and each hands on what it has. Later launches of IMAGE on the node find the copy by "
            "themselves. Standard output gets its path."
        ),
        (
            "Copies are in /tmp/singularity-stage-UID, or in the directory that SINGULARITY_STAGEDIR names, for you "
            "alone. One that nobody used for 14 days goes when another one comes, and more of them where "
            "SINGULARITY_STAGE_LIMIT, in MiB, says how much they may have together."
        ),
        "--clean removes copies: all of them, or those of --job, or those that nobody used for --days.",
    ),
    examples=(
        "srun -N8 --ntasks-per-node=1 singularity stage tool.sif",
        "srun singularity exec tool.sif tool",
        "srun -N8 --ntasks-per-node=1 singularity stage --clean",
    ),
)
@option(
    "--nodes", type=click.IntRange(1), default=None, metavar="N", variables="STAGE_NODES",
    help="How many nodes take part; else what srun or mpirun says",
)  # fmt: skip
@option("--for-job", is_flag=True, help="Note the job: --clean --job removes the copy when the job ends")
@option("--clean", is_flag=True, help="Remove copies on this node")
@option("--job", default=None, metavar="ID", help="With --clean: those of this job")
@option("--days", type=click.FloatRange(0), default=None, metavar="N", help="With --clean: not used for so many days")
@click.argument("image", type=PATH, required=False)
def command(
    image: Path | None, *, nodes: int | None, for_job: bool, clean: bool, job: str | None, days: float | None
) -> None:  # fmt: skip
    """Stages, or cleans."""
    from singularity.stage import copies, stage

    if clean:
        if image or for_job:  # nodes may be of a profile of the site
            raise UsageError("stage: --clean goes with --job and --days alone")
        if job == "":
            raise UsageError("stage: --job: an empty ID, by which the copies of all jobs would go")
        logger.info("%d copies removed from %s", copies.clean(job or "", days or 0), copies.place())
        return
    if job is not None or days is not None:
        raise UsageError("stage: --job and --days are for --clean")
    if image is None:
        raise UsageError("stage: IMAGE is missing", hint="see: singularity help stage")
    if image.exists() and not image.is_file():
        raise UsageError(f"stage: {image} is no file", hint="singularity build makes one of a directory")
    path = stage.stage(image, nodes or stage.nodes_of(os.environ), for_job=for_job)
    click.echo(escape(str(path)))
