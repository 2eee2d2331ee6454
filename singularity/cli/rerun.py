"""`singularity rerun RECORD`: a recorded run once more."""

from pathlib import Path

import click

from singularity.cli.command import PATH, option, verb


@verb(
    description=(
        (
            "Runs what RECORD, of exec --record, says: the same image, found by its digest, the same program, options, "
            "variables and directory. What that will be is said first."
        ),
        "Without --outputs and --check the run writes its files where it did before.",
        (
            "With --check ends with 0 when inputs, outputs and exit status are those of the record, with 1 when "
            "something differs; otherwise with the program's own status."
        ),
        "A record may be anybody's: --dry-run shows what it asks for.",
    ),
    examples=(
        "singularity rerun run.json",
        "singularity rerun --check run.json",
        "singularity rerun --outputs again/ run.json",
        "singularity rerun --dry-run --check run.json",
        "singularity rerun --ro-crate crate/ run.json",
    ),
)
@option(
    "--check",
    is_flag=True,
    help="Say which inputs and outputs differ; originals are not written, unless --outputs has a place",
)
@option(
    "--dry-run",
    is_flag=True,
    help="Run nothing: say what would be run, and with --check compare the files that are there",
)
@option(
    "--outputs", type=PATH, metavar="DIR", help="Put what the run writes there, by its paths, and leave the originals"
)
@option("--image", default="", metavar="IMAGE", help="Where the image is now: it must have the digest of the record")
@option("--record", "target", type=PATH, metavar="FILE", help="Write a record of this run, too")
@option(
    "--ro-crate", "crate", type=PATH, metavar="DIR", help="Run nothing: make an RO-Crate of the record and its files"
)
@option("-j", "--json", "as_json", is_flag=True, help="With --check, what differs as a JSON document")
@click.argument("record", type=PATH)
def command(
    record: Path,
    *,
    check: bool,
    dry_run: bool,
    outputs: Path | None,
    image: str,
    target: Path | None,
    crate: Path | None,
    as_json: bool,
) -> int | None:
    """Runs it; the exit status."""
    from singularity.capsule import model
    from singularity.cli import rerunning

    record = rerunning.of_rank(record)
    found = model.read(record)
    if crate is not None:
        from singularity.capsule import crate as crates  # a run has no use for it

        crates.make(found, crate)
        return None
    asked = rerunning.Asked(
        path=record.absolute(),
        check=check,
        dry_run=dry_run,
        outputs=outputs,
        image=image,
        target=target,
        as_json=as_json,
    )
    return rerunning.rerun(found, asked)
