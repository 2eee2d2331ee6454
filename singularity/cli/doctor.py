"""`singularity doctor`: what is wrong with this installation and this host, and what mends it."""

from collections.abc import Iterator

import click

from singularity import __version__, paths
from singularity.check import report
from singularity.check.finding import Finding, fails
from singularity.cli.checked import colour
from singularity.cli.command import option, verb
from singularity.doctor import host, launches, network, places
from singularity.paths import front_door
from singularity.registry.reference import HUB, canonical


@verb(
    description=(
        (
            "Launches an image of one program in each way that there is, and looks at the kernel's settings, devices, "
            "subordinate ids, control groups, tools, directories, the clock and the way to a registry. Below what is "
            "wrong stands the command that mends it. Nothing is changed."
        ),
        (
            'Ends with 1 when something does not work at all, else with 0. "warning" is what works with less: not '
            "everybody needs all of it. As root it tells what is so for root; ordinary users ask for themselves."
        ),
    ),
    examples=(
        "singularity doctor",
        "singularity doctor --registry registry.example.org",
        "singularity doctor --offline --json",
    ),
)
@option("--registry", default=HUB, metavar="HOST", help=f"The registry that is asked for an answer; {HUB} without")
@option("--offline", is_flag=True, help="Ask nobody in the network")
@option("-j", "--json", "as_json", is_flag=True, help="As a JSON document")
def command(registry: str, *, offline: bool, as_json: bool) -> int:
    """Prints the report on standard output."""
    findings = list(_findings("" if offline else canonical(registry)))
    if as_json:
        click.echo(report.document(findings, version=__version__), nl=False)
    else:
        click.echo(report.table(findings, colour=colour(), ends=("Everything works", "broken")), nl=False)
    return 1 if fails(findings) else 0


def _findings(registry: str) -> Iterator[Finding]:
    door = front_door()
    yield from launches.judge(door, paths.temporary())
    yield from host.judge()
    yield from places.judge()
    yield from places.clock(door)
    if registry:
        yield from network.judge(registry)
