"""`singularity diff A B`: how two images differ, whatever their formats."""

import sys

import click

from singularity.cli.command import option, verb


@verb(
    description=(
        (
            "Compares packages, configuration and files of two images: files or directories of any format, or URIs. "
            "Nothing is unpacked or run. Times of files are not compared."
        ),
        "Lines begin with + for what only B has, - for what only A has, and ~ for what differs.",
        "Ends with 0 when the images are the same, with 1 when they differ.",
    ),
    examples=(
        "singularity diff old.sif new.sif",
        "singularity diff --packages debian.sif docker://debian:12",
        "singularity diff --files --json sandbox/ tool.sif | jq '.files[].path'",
    ),
)
@option("--packages", is_flag=True, help="Compare the packages")
@option("--config", is_flag=True, help="Compare what the images say about themselves: labels, scripts, environment")
@option("--files", is_flag=True, help="Compare the files, and list all that differ")
@option("-j", "--json", "as_json", is_flag=True, help="As a JSON document")
@click.argument("a")
@click.argument("b")
def command(a: str, b: str, *, as_json: bool, **chosen: bool) -> int:
    """Prints the difference on standard output; the exit status."""
    from singularity.cli.checked import available
    from singularity.cli.inspected import identified
    from singularity.console import working
    from singularity.explain import diff, diff_report

    parts = frozenset(each for each in diff.Part if chosen[each.value]) or frozenset(diff.Part)
    with available(a) as one, available(b) as other:
        images = identified(one), identified(other)
        with working(f"comparing {a} and {b}"):
            found = diff.compare(*images, parts)
    if as_json:
        sys.stdout.write(diff_report.encoded(found, parts))
    else:
        sys.stdout.write(diff_report.text(found, parts, whole=chosen["files"]))
    return 1 if found else 0
