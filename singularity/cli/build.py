"""`singularity build TARGET DEFINITION`: an image from a definition file, or from another image."""

import json
import logging
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import click

from singularity import paths
from singularity.build import fakeroot, perform
from singularity.build.plan import Plan, plan
from singularity.build.request import SECTIONS, BuildRequest, Target
from singularity.cli.command import OptionalValue, Verb, option
from singularity.definition import source, template
from singularity.errors import DefinitionError, UsageError

logger = logging.getLogger(__name__)


@click.command(
    cls=Verb,
    name="build",
    description=(
        "DEFINITION is a definition file, or an image file or directory to make an image from as it is.",
        "TARGET becomes a SIF file, or a directory with --sandbox; it is whole or as it was before, whatever happens.",
        "Ordinary users build in a user namespace; the agent debootstrap wants root, or subordinate ids (/etc/subuid).",
    ),
    examples=(
        "sudo singularity build debian.sif debian.def",
        "singularity build --sandbox tools/ base.sif",
        "singularity build --build-arg VERSION=1.2 --force tool.sif tool.def",
    ),
)
@option(
    "-F", "--force", is_flag=True, variables="FORCE", help="Replace TARGET, and labels of the image that it is built on"
)
@option("-s", "--sandbox", is_flag=True, variables="SANDBOX", help="Make a directory")
@option("-T", "--notest", is_flag=True, variables="NOTEST", help="Leave %test out")
@option(
    "--section",
    multiple=True,
    metavar="NAME[,...]",
    variables="SECTION",
    help="Use these sections only, of setup, post, files, environment, test and labels; or all, or none",
)
@option(
    "--build-arg",
    "build_arg",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of {{ NAME }} in DEFINITION; repeat for several",
)
@option("--build-arg-file", type=click.Path(path_type=Path), metavar="FILE", help="Such values, one NAME=VALUE a line")
@option("--warn-unused-build-args", "unused", is_flag=True, help="A value that DEFINITION has no use for is no failure")
@option(
    "-f",
    "--fakeroot",
    "fake",
    is_flag=True,
    variables="FAKEROOT",
    help="Build in a user namespace; what ordinary users do anyway",
)
@option(
    "--mksquashfs-args",
    "arguments",
    default="",
    metavar="WORDS",
    variables="MKSQUASHFS_ARGS",
    help='Further arguments of mksquashfs, such as "-comp gzip"',
)
@option("--tmpdir", default="", metavar="DIR", help="Where the working directory is made [SINGULARITY_TMPDIR, TMPDIR]")
@option("--disable-cache", is_flag=True, variables="DISABLE_CACHE", help="Keep no downloads")
@option("--no-cache", is_flag=True, variables="NO_CACHE", help="Build anew, and replace what the cache has of it")
@option("--no-cleanup", is_flag=True, variables="NO_CLEANUP", help="Keep the working directory, and say where it is")
@option("--json", "obsolete", is_flag=True, variables="JSON", hidden=True, help="Accepted, and without meaning")
@option(
    "--dry-run",
    cls=OptionalValue,
    bare="text",
    default="",
    metavar="text|json",
    help="Print what would be done, each step with its reason, and do nothing",
)
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("definition")
def command(
    target: Path,
    definition: str,
    *,
    force: bool,
    sandbox: bool,
    notest: bool,
    section: tuple[str, ...],
    build_arg: tuple[str, ...],
    build_arg_file: Path | None,
    unused: bool,
    fake: bool,
    arguments: str,
    tmpdir: str,
    disable_cache: bool,
    no_cache: bool,
    no_cleanup: bool,
    obsolete: bool,
    dry_run: str,
) -> None:
    """Builds the image."""
    del obsolete
    if dry_run not in ("", "text", "json"):
        raise UsageError(f'--dry-run={dry_run}: "text" or "json"')
    request = BuildRequest(
        target=target,
        source=definition,
        format=Target.SANDBOX if sandbox else Target.SIF,
        overwrite=force,
        sections=_sections(section, notest=notest),
        keep=no_cleanup,
        mksquashfs_arguments=tuple(_words(arguments)),
        arguments=_values(build_arg, build_arg_file),
        unused_arguments_allowed=unused,
        fakeroot=fake,
        cache=not disable_cache,
        resume=not no_cache,
        temporary=paths.temporary(tmpdir),
    )
    made = plan(request, source.read(definition, request.arguments, unused_allowed=unused))
    for warning in made.definition.warnings:
        logger.warning("%s", warning)
    if dry_run:
        _print(made, as_json=dry_run == "json")
        return
    if os.geteuid() != 0:
        fakeroot.become_root()
    perform.perform(replace(made, request=replace(request, overwrite=force or _may_replace(request.target))))


def _may_replace(target: Path) -> bool:
    """Asks, where there is somebody to ask."""
    if not os.path.lexists(target) or not os.isatty(0) or not os.isatty(2):
        return False
    click.echo(f"{target} exists. Replace it? [y/N] ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _sections(given: tuple[str, ...], *, notest: bool) -> frozenset[str]:
    names = frozenset(name for word in given for name in word.replace(",", " ").split())
    unknown = names - SECTIONS - {"all", "none"}
    if unknown:
        raise UsageError(
            f"--section: {', '.join(sorted(unknown))}", hint=f"known are {', '.join(sorted(SECTIONS))}, all, none"
        )
    if len(names) > 1 and names & {"all", "none"}:
        raise UsageError("--section: all and none stand alone")
    chosen = SECTIONS if not names or names == {"all"} else names - {"none"}
    return chosen - {"test"} if notest else chosen


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--mksquashfs-args: {error}") from error


def _values(words: tuple[str, ...], file: Path | None) -> dict[str, str]:
    """The values of templates: those of the command line go before those of the file."""
    values = {}
    if file:
        try:
            values = template.parse_arguments(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--build-arg-file: {file}: {error}") from error
    try:
        return values | dict(template.parse_argument(word, "") for word in words)
    except DefinitionError as error:
        raise UsageError(f"--build-arg: {error}") from error


def _print(made: Plan, *, as_json: bool) -> None:
    if as_json:
        steps = [
            {"stage": step.stage + 1, "do": step.action.name.lower(), "what": step.what, "reason": step.reason}
            for step in made.steps
        ]
        click.echo(json.dumps({"target": str(made.request.target), "steps": steps}, indent=2))
        return
    for number, step in enumerate(made.steps, 1):
        click.echo(f"{number:2}. {step.action.value} {step.what}".rstrip() + f"  ({step.reason})")
