"""`singularity inspect IMAGE`: what an image says about itself, without launching it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import click

from singularity import console, paths
from singularity.cli.command import Verb, option
from singularity.errors import ImageError
from singularity.image import metadata as meta
from singularity.image.identify import identify
from singularity.image.metadata import Metadata, Scripts


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is to be shown, in the order in which text shows it."""

    apps: bool
    deffile: bool
    runscript: bool
    startscript: bool
    test: bool
    helpfile: bool
    environment: bool
    labels: bool


@click.command(
    cls=Verb,
    name="inspect",
    description=(
        "Without options, prints the labels. Several options print one after the other. Nothing is launched.",
    ),
    examples=(
        "singularity inspect debian.sif",
        "singularity inspect --deffile debian.sif",
        "singularity inspect --all x.sif",
    ),
)
@option("-l", "--labels", is_flag=True, help="The labels; what is shown when nothing is chosen")
@option("-d", "--deffile", is_flag=True, help="The definition file that it was built from")
@option("-r", "--runscript", is_flag=True, help="The runscript")
@option("-s", "--startscript", is_flag=True, help="The start script of instances")
@option("-t", "--test", is_flag=True, help="The test script")
@option("-e", "--environment", is_flag=True, help="The environment scripts")
@option("-H", "--helpfile", is_flag=True, help="The help text")
@option("--list-apps", "apps", is_flag=True, help="The names of its applications (SCIF)")
@option("--app", default="", metavar="NAME", help="What this application of the image says, in place of the image")
@option("-j", "--json", "as_json", is_flag=True, help="As a JSON document")
@option("--all", "everything", is_flag=True, help="All there is, as a JSON document; goes before --app")
@click.argument("image", type=click.Path(path_type=Path))
def command(image: Path, app: str, as_json: bool, everything: bool, **flags: bool) -> None:
    """Prints the chosen parts on standard output."""
    metadata = meta.read(identify(image), paths.temporary())
    if everything:
        _print_json(metadata)
        return
    if not any(flags.values()):
        flags["labels"] = True
    chosen = Chosen(**flags)
    subject = _app(metadata, app, image) if app else metadata
    if as_json:
        _print_json(_reduced(metadata, subject, app, chosen))
    else:
        click.echo(printable("".join(f"{line}\n" for line in _lines(metadata, subject, chosen))), nl=False)


def printable(text: str) -> str:
    """What an image says, made harmless where a terminal would interpret it; untouched in a pipe."""
    if not sys.stdout.isatty():
        return text
    return "\n".join(console.escape(line.expandtabs()) for line in text.split("\n"))


def _app(metadata: Metadata, name: str, image: Path) -> Scripts:
    app = metadata.apps.get(name)
    if app is None:
        known = ", ".join(sorted(metadata.apps)) or "it has none"
        raise ImageError(f"{image}: no application {name}", hint=f"applications: {known}" if metadata.apps else known)
    return app


def _reduced(metadata: Metadata, subject: Scripts, app: str, chosen: Chosen) -> Metadata:
    """Only what was chosen, as JSON shows it: an application's parts stay below its name."""
    shown = Scripts(
        environment=subject.environment if chosen.environment else {},
        labels=subject.labels if chosen.labels else {},
        runscript=subject.runscript if chosen.runscript else "",
        startscript=subject.startscript if chosen.startscript else "",
        test=subject.test if chosen.test else "",
        helpfile=subject.helpfile if chosen.helpfile else "",
    )
    deffile = metadata.deffile if chosen.deffile else ""
    if app:
        return Metadata(deffile=deffile, apps={**(metadata.apps if chosen.apps else {}), app: shown})
    return Metadata(
        **{each.name: getattr(shown, each.name) for each in fields(Scripts)},
        deffile=deffile,
        apps=metadata.apps if chosen.apps else {},
    )


def _print_json(metadata: Metadata) -> None:
    click.echo(json.dumps(meta.to_json(metadata), indent="\t", ensure_ascii=False))


def _lines(metadata: Metadata, subject: Scripts, chosen: Chosen) -> Iterator[str]:
    if chosen.apps:
        yield from sorted(metadata.apps)
    texts = (
        (chosen.deffile, metadata.deffile),
        (chosen.runscript, subject.runscript),
        (chosen.startscript, subject.startscript),
        (chosen.test, subject.test),
        (chosen.helpfile, subject.helpfile),
    )
    yield from (text for wanted, text in texts if wanted and text)
    if chosen.environment:
        for path, text in sorted(subject.environment.items()):
            yield f"=== {path} ==="
            yield text
            yield ""
    if chosen.labels:
        yield from (f"{key}: {value}" for key, value in sorted(subject.labels.items()))
