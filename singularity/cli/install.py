"""`singularity install IMAGE`: programs of an image as commands, a module, kernels of Jupyter, settings of editors."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from singularity import paths
from singularity.cli.command import PATH, OptionalValue, option, verb
from singularity.cli.launched import only_options
from singularity.console import escape
from singularity.errors import FileError, ImageError, UsageError
from singularity.image import offered
from singularity.image.offered import Command
from singularity.install import desktop, jupyter, looked_up, module_file, record, tool, vscode, wrappers
from singularity.install.looked_up import LookedUp
from singularity.install.record import Record
from singularity.install.tool import Kind, New, Tool
from singularity.paths import front_door

logger = logging.getLogger(__name__)

_HERE = "-"  # the value of an option that is given without one


_NAMED = {
    Kind.MODULE: "module",
    Kind.JUPYTER: "kernel of Jupyter",
    Kind.VSCODE: "settings of VS Code",
    Kind.DESKTOP: "menu entries",
}
_as = "What it is installed as; without any of these, as commands"


@verb(
    usage="[options] IMAGE [-- LAUNCH-OPTION...]",
    description=(
        (
            "The commands are those that the image names, in %wrappers of its definition file or the label "
            f"{offered.LABEL}, and its applications (SCIF); without any, its runscript, under the name of the file. "
            "Each is a short script that launches the image, with the options behind --."
        ),
        (
            "Installing again replaces what was written before, and singularity uninstall takes all of it away. What "
            "is somebody else's, and a name that would hide another program, is refused without --force."
        ),
    ),
    examples=(
        "singularity install samtools-1.17.sif",
        "singularity install samtools-1.17.sif --module /opt/modulefiles -- --bind /scratch",
        "singularity install tool.sif --wrappers ~/bin --program bcftools,'view=samtools view'",
        "singularity install pytorch.sif --jupyter -- --nv",
        "singularity install --list",
    ),
)
@option("--wrappers", type=PATH, metavar="DIR", group=_as, help="Commands in DIR; ~/.local/bin, root's /usr/local/bin")
@option(
    "--module", type=PATH, metavar="DIR", group=_as, help="A module of Lmod or Environment Modules, in the tree DIR"
)
@option(
    "--jupyter",
    cls=OptionalValue,
    bare=_HERE,
    metavar="DIR",
    group=_as,
    help="The kernels of Jupyter that the image has; in DIR, or where Jupyter looks",
)
@option(
    "--vscode",
    cls=OptionalValue,
    bare=_HERE,
    metavar="HOST",
    group=_as,
    help="Settings for VS Code, whose Remote - SSH then works in the image, on HOST or this machine",
)
@option(
    "--desktop",
    cls=OptionalValue,
    bare=_HERE,
    metavar="DIR",
    group=_as,
    help="Entries of the desktop's menu; in DIR, or where it looks",
)
@option(
    "-p",
    "--program",
    "programs",
    multiple=True,
    metavar="NAME[=COMMAND][,...]",
    help="These commands in place of what the image names; COMMAND is a program and its first arguments",
)
@option("--as", "name", default="", metavar="NAME[/VERSION]", help="Another name than that of the file")
@option("-f", "--force", is_flag=True, help="Replace what is somebody else's, and hide other programs")
@option("-n", "--dry-run", is_flag=True, help="Print the files, and write nothing")
@option("-l", "--list", "listed", is_flag=True, help="List what is installed")
@option("-j", "--json", "as_json", is_flag=True, help="List it as a JSON document")
@click.argument("words", nargs=-1, metavar="IMAGE")
def command(
    words: tuple[str, ...], *, name: str, programs: tuple[str, ...], force: bool, dry_run: bool, listed: bool,
    as_json: bool, **places: Path | str | None,
) -> None:  # fmt: skip
    """Writes the files, and says where the commands are."""
    if listed or as_json:
        if words:
            raise UsageError("install --list takes no IMAGE")
        _list(as_json=as_json)
        return
    if not words:
        raise UsageError("install: IMAGE is missing", hint="see: singularity help install")
    given = {Kind(key): str(value) for key, value in places.items() if value is not None} or {Kind.WRAPPERS: _HERE}
    typed = PATH.convert(words[0], None, None)
    image = tool.absolute(typed)
    options = only_options("install", words[1:])
    title, version = tool.named(name, image)
    door = front_door()
    with looked_up.opened(typed, door, options) as found:
        commands = _named(programs) or found.offered(title)
        for what in found.missing(list(commands.values())):
            if not force:
                raise ImageError(what, hint="" if what.endswith(")") else "--force installs it all the same")
            logger.warning("%s: %s", image, what)
        made = Tool(
            name=title, version=version, image=image, front_door=door, options=options,
            commands=tuple(commands.values()),
        )  # fmt: skip
        new = list(_files(made, given, found))
    if dry_run:
        _show(new)
        return
    with record.kept():
        known = record.records()
        before = record.of(made.title, known)
        if not force:
            record.refuse(new, before, known)
            _refuse_hiding(made, new, known)
        record.put(made, new, before)
    _say(made, given, new)


def _named(programs: Sequence[str]) -> Mapping[str, Command]:
    try:
        return offered.parse("\n".join(programs))
    except ValueError as error:
        raise UsageError(f"--program: {error}", hint="NAME, or NAME=PROGRAM [ARGUMENT...]") from error


def _files(made: Tool, given: Mapping[Kind, str], found: LookedUp) -> Iterator[New]:
    """All that is to be written."""
    if Kind.WRAPPERS in given:
        default = Path("/usr/local/bin") if os.geteuid() == 0 else Path.home() / ".local/bin"
        yield from wrappers.files(made, _place(given[Kind.WRAPPERS], default), Kind.WRAPPERS)
    if Kind.MODULE in given:
        yield from module_file.files(made, Path(given[Kind.MODULE]).absolute(), found.about)
    if Kind.JUPYTER in given:
        place = _place(given[Kind.JUPYTER], jupyter.default_directory())
        yield from jupyter.files(made, place, found.files, found.environment.path)
    if Kind.VSCODE in given:
        host = "" if given[Kind.VSCODE] == _HERE else given[Kind.VSCODE]
        yield from vscode.files(made, paths.user_place().absolute() / "vscode", host)
    if Kind.DESKTOP in given:
        yield from desktop.files(made, _place(given[Kind.DESKTOP], desktop.default_directory()), found.files)


def _place(said: str, default: Path) -> Path:
    return default if said == _HERE else Path(said).absolute()


def _refuse_hiding(made: Tool, new: Sequence[New], known: Sequence[Record]) -> None:
    """Raises FileError for a command, or a kernel, in whose place another one would be found no more."""
    ours = {one.path for each in known if each.title.partition("/")[0] == made.name for one in each.files}
    names = [each.name for each in made.commands]
    places = {each.path.parent for each in new if each.kind in (Kind.WRAPPERS, Kind.MODULE) and each.path.name in names}
    hidden = {
        name: path
        for place in places
        for name, path in wrappers.hidden(names, place, os.environ.get("PATH", ""), ours).items()
    }
    kernels = [each.path.parent for each in new if each.kind is Kind.JUPYTER]
    for place in {each.parent for each in kernels}:
        hidden |= jupyter.hidden([each.name for each in kernels], place)
    if hidden:
        told = ", ".join(f"{name} ({path})" for name, path in hidden.items())
        raise FileError(
            f"install: would hide {told}", hint="--force does; --program gives other names, --as to a kernel"
        )


def _say(made: Tool, given: Mapping[Kind, str], new: Sequence[New]) -> None:
    """What there is now, and what is to be done about it."""
    by_kind = {kind: [each for each in new if each.kind is kind] for kind in Kind}
    for kind in Kind:
        found = by_kind[kind]
        if found:
            logger.info("Installed %s: %s", made.title, _told(kind, found))
    directories = {str(each.path.parent) for each in by_kind[Kind.WRAPPERS]}
    if Kind.MODULE not in given and not directories <= set(os.environ.get("PATH", "").split(":")):
        logger.info("Not in your PATH: %s", ", ".join(sorted(directories)))
    if Kind.VSCODE in given:
        logger.info("Where VS Code runs, add the first to ~/.ssh/config, the second to its settings")


def _told(kind: Kind, found: Sequence[New]) -> str:
    """The files in a few words: of a module, whose commands come first, itself."""
    last = found[-1].path
    if kind is Kind.WRAPPERS:
        return f"{', '.join(each.path.name for each in found)} in {last.parent}"
    shown = [last] if kind is Kind.MODULE else [each.path for each in found]
    return f"{_NAMED[kind]} {', '.join(map(str, shown))}"


def _show(new: Sequence[New]) -> None:
    for each in new:
        click.echo(f"==> {escape(str(each.path))} <==")
        click.echo("\n".join(map(escape, each.text.splitlines())))
        click.echo()


def _list(*, as_json: bool) -> None:
    known = record.records()
    if as_json:
        click.echo(json.dumps(record.as_document(known), indent=2))
        return
    for each in known:
        click.echo(f"{each.title}  {escape(str(each.image))}")
        for one in each.files:
            click.echo(f"    {one.kind.value:<10}{escape(str(one.path))}")
