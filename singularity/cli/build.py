"""`singularity build TARGET DEFINITION`: an image from a definition file, or from another image."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from singularity import paths
from singularity.build import binds, fakeroot, forecast, perform
from singularity.build.forecast import Fate
from singularity.build.plan import Action, Plan, Step, plan
from singularity.build.request import SECTIONS, Bind, BuildRequest, Target
from singularity.cli.command import OptionalValue, Verb, option
from singularity.definition import source, template
from singularity.errors import BuildError, DefinitionError, UsageError

logger = logging.getLogger(__name__)

_SUFFIXES = {
    Target.SQUASHFS: (".sqfs", ".squashfs", ".sqsh"),
    Target.EXT3: (".ext3",),
    Target.TAR: (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst"),
}
_ABOUT_TARGET = (
    "TARGET becomes a SIF file, or what its suffix or an option says; it is whole or as it was before, whatever "
    "happens. Steps that an earlier build has done with the same inputs come from the cache: after a mistake in "
    "%post, only %post runs again."
)
_target = partial(option, group="What TARGET becomes")
_sections = partial(option, group="Sections")
_values = partial(option, group="Values of templates")
_scripts = partial(option, group="What scripts of the build see")
_work = partial(option, group="Cache and working directory")
_accepted = partial(option, hidden=True, expose_value=False)


@click.command(
    cls=Verb,
    name="build",
    description=(
        "SOURCE is a definition file, or what is made into an image as it is: an image, a directory, an archive.",
        _ABOUT_TARGET,
        "Ordinary users build in a user namespace; most bootstrap agents want subordinate ids there (/etc/subuid).",
    ),
    examples=(
        "sudo singularity build debian.sif debian.def",
        "singularity build --dry-run tool.sif tool.def",
        "singularity build --sandbox tools/ base.sif",
        "singularity build --update tools/ more.def",
        "singularity build --build-arg VERSION=1.2 --force tool.sif tool.def",
        "singularity build tool.tar.gz tool.sif",
    ),
)
@option(
    "-F",
    "--force",
    is_flag=True,
    variables="FORCE",
    help="Replace TARGET, and labels of the image that it is built on",
    group="Options",
)
@option(
    "--dry-run",
    cls=OptionalValue,
    bare="text",
    default="",
    metavar="text|json",
    help="Check SOURCE, print what would be done, each step with its reason, and do nothing",
)
@option(
    "-f",
    "--fakeroot",
    "fake",
    is_flag=True,
    variables="FAKEROOT",
    help="Build in a user namespace; what ordinary users do anyway",
    group="Options",
)
@option(
    "--arch",
    "architecture",
    default="",
    metavar="NAME",
    variables="BUILD_ARCH",
    help="Build for this architecture, such as arm64, where the kernel can run its programs",
    group="Options",
)
@_target("-s", "--sandbox", is_flag=True, variables="SANDBOX", help="Make a directory")
@_target(
    "-u",
    "--update",
    is_flag=True,
    variables="UPDATE",
    help="Run the sections of SOURCE on the directory TARGET, without its header, which may be missing",
)
@_target(
    "--format",
    "wanted",
    type=click.Choice([each.value for each in Target]),
    metavar="NAME",
    help="sif, sandbox, squashfs, ext3 or tar; without it the suffix of TARGET says",
)
@_target("-w", "--writable", is_flag=True, help="Make an image that can be written to: ext3")
@_target("--size", type=click.IntRange(1, 1 << 30), metavar="MiB", help="Size of an ext3 image; else what it needs")
@_target("--compression", default="", metavar="NAME", help="Of squashfs: zstd, gzip, xz, lz4, lzo")
@_target(
    "--mksquashfs-args",
    "arguments",
    default="",
    metavar="WORDS",
    variables="MKSQUASHFS_ARGS",
    help='Further arguments of mksquashfs, such as "-b 256K"',
)
@_target(
    "--reproducible",
    is_flag=True,
    variables="REPRODUCIBLE",
    help="The same inputs make the same file: no time but that of the source image, or SOURCE_DATE_EPOCH",
)
@_target("--fix-perms", "fix", is_flag=True, variables="FIXPERMS", help="The owner may read and write all files")
@_sections(
    "--section",
    multiple=True,
    metavar="NAME[,...]",
    variables="SECTION",
    help="Use these sections only, of setup, post, files, environment, test and labels; or all, or none",
)
@_sections("-T", "--notest", is_flag=True, variables="NOTEST", help="Leave %test out")
@_values(
    "--build-arg",
    "build_arg",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of {{ NAME }} in SOURCE; repeat for several",
)
@_values("--build-arg-file", type=click.Path(path_type=Path), metavar="FILE", help="Such values, one NAME=VALUE a line")
@_values("--warn-unused-build-args", "unused", is_flag=True, help="A value that SOURCE has no use for is no failure")
@_scripts(
    "-B",
    "--bind",
    "bind",
    multiple=True,
    metavar="PATH[:TARGET[:ro]]",
    variables="BIND BINDPATH",
    help="Show a file or directory of the host to %post and %test; repeat, or use commas, for several",
)
@_scripts(
    "--mount",
    "mount",
    multiple=True,
    metavar="SPEC",
    variables="MOUNT",
    help="The same, as type=bind,source=PATH,destination=PATH[,ro]",
)
@_scripts("--nv", is_flag=True, variables="NV", help="Show them the NVIDIA driver and devices")
@_scripts("--rocm", is_flag=True, variables="ROCM", help="Show them the AMD driver and devices")
@_scripts("--writable-tmpfs", is_flag=True, variables="WRITABLE_TMPFS", help="What %test writes is thrown away")
@_work(
    "--no-cache", is_flag=True, variables="NO_CACHE", help="Do every step anew, and replace what the cache has of it"
)
@_work("--disable-cache", is_flag=True, variables="DISABLE_CACHE", help="Take nothing from the cache, keep nothing")
@_work("--tmpdir", default="", metavar="DIR", help="Where the working directory is made [SINGULARITY_TMPDIR, TMPDIR]")
@_work("--no-cleanup", is_flag=True, variables="NO_CLEANUP", help="Keep the working directory, and say where it is")
@option("-e", "--encrypt", "encrypt", is_flag=True, hidden=True)
@option("--nvccli", is_flag=True, variables="NVCCLI", hidden=True)
@_accepted("--json", is_flag=True, variables="JSON")
@_accepted("--userns", is_flag=True, variables="USERNS")
@_accepted("--no-https", is_flag=True)
@_accepted("--docker-login", is_flag=True)
@_accepted("--authfile", metavar="FILE")
@_accepted("--library", metavar="URL")
@_accepted("--ignore-proot", is_flag=True)
@_accepted("--ignore-fakeroot-command", is_flag=True)
@_accepted("--ignore-userns", is_flag=True)
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("source_", metavar="SOURCE")
def command(target: Path, source_: str, **options: Any) -> None:
    """Builds the image."""
    dry_run = options["dry_run"]
    if dry_run not in ("", "text", "json"):
        raise UsageError(f'--dry-run={dry_run}: "text" or "json"')
    request = _request(target, source_, options)
    if target.is_dir():
        _refuse_directory(target, source_, update=options["update"])
    else:
        _refuse_definition(target, source_)
    definition = source.read(
        source_, request.arguments, unused_allowed=request.unused_arguments_allowed, header_optional=request.update
    )
    made = plan(request, definition)
    for warning in made.definition.warnings:
        logger.warning("%s", warning)
    if dry_run:
        forecast.check(made)
        _print(made, as_json=dry_run == "json")
        return
    if os.geteuid() != 0:
        try:
            fakeroot.become_root()
        except BuildError:
            if made.steps[0].action is not Action.CONVERT:  # which needs no root file system on disk
                raise
    may_replace = request.overwrite or _may_replace(target)
    perform.perform(replace(made, request=replace(request, overwrite=may_replace)))


def _refuse_definition(target: Path, source_: str) -> None:
    """Raises UsageError for a target that is a definition file, --force or not: the two may have changed places."""
    try:
        if not target.is_file() or not source.is_definition(target):
            return
    except OSError:
        return  # what must be there, and readable, is asked for later
    hint = f"TARGET comes first: singularity build {source_} {target}" if source_ else "name another file"
    raise UsageError(f"{target}: a definition file is never replaced", hint=hint)


def _refuse_directory(target: Path, source_: str, *, update: bool) -> None:
    """Raises UsageError for a directory whose replacement would take away more than a container."""
    place = target.resolve()
    kept = {"the working directory": Path.cwd(), "the home directory": Path(os.environ.get("HOME") or "/")}
    if not update:
        kept["SOURCE"] = Path(source_).parent
    for what, path in kept.items():
        if path.resolve().is_relative_to(place):
            raise UsageError(f"{target}: {what} is or lies in it", hint="name another directory")


def _request(target: Path, source_: str, options: dict[str, Any]) -> BuildRequest:
    """The request that the options make. Raises UsageError for those that contradict each other."""
    for name, hint in (("encrypt", "encrypted images are not supported"), ("nvccli", "--nv needs no such program")):
        if options[name]:
            raise UsageError(f"--{name}: {hint}")
    format_ = _format(target, options)
    if options["size"] and format_ is not Target.EXT3:
        raise UsageError("--size: only ext3 images have one", hint="--format ext3")
    words = _words(options["arguments"])
    if options["compression"]:
        words = ["-comp", options["compression"], *words]
    if words and format_ not in (Target.SIF, Target.SQUASHFS):
        raise UsageError("--compression and --mksquashfs-args are for SIF and squashfs files")
    return BuildRequest(
        target=target,
        source=source_,
        format=format_,
        size=options["size"],
        overwrite=options["force"] or options["update"],
        sections=_chosen(options["section"], notest=options["notest"]),
        keep=options["no_cleanup"],
        mksquashfs_arguments=tuple(words),
        arguments=_arguments(options["build_arg"], options["build_arg_file"]),
        unused_arguments_allowed=options["unused"],
        fakeroot=options["fake"],
        cache=not options["disable_cache"],
        resume=not options["no_cache"],
        onto=target if options["update"] else None,
        update=options["update"],
        binds=tuple(_binds(options["bind"], options["mount"])),
        nv=options["nv"],
        rocm=options["rocm"],
        writable_tmpfs=options["writable_tmpfs"],
        reproducible=options["reproducible"],
        architecture=options["architecture"],
        fix_permissions=options["fix"],
        temporary=paths.temporary(options["tmpdir"]),
    )


def _format(target: Path, options: dict[str, Any]) -> Target:
    """What the target becomes. Raises UsageError when two options say different things."""
    said = {Target(options["wanted"])} if options["wanted"] else set()
    said |= {Target.SANDBOX} if options["sandbox"] or options["update"] else set()
    said |= {Target.EXT3} if options["writable"] else set()
    if len(said) > 1:
        raise UsageError(f"TARGET cannot be {' and '.join(sorted(each.value for each in said))} at once")
    if options["update"] and not target.is_dir():
        raise UsageError(f"--update: {target} is no directory", hint="it goes on with a sandbox that is there")
    for format_, suffixes in _SUFFIXES.items():
        if not said and target.name.lower().endswith(suffixes):
            return format_
    return said.pop() if said else Target.SIF


def _binds(binds_: tuple[str, ...], mounts: tuple[str, ...]) -> Iterator[Bind]:
    for text in binds_:
        yield from binds.parse_bind(text)
    for text in mounts:
        yield binds.parse_mount(text)


def _may_replace(target: Path) -> bool:
    """Asks, where there is somebody to ask."""
    if not os.path.lexists(target) or not os.isatty(0) or not os.isatty(2):
        return False
    click.echo(f"{target} exists. Replace it? [y/N] ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _chosen(given: tuple[str, ...], *, notest: bool) -> frozenset[str]:
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


def _arguments(words: tuple[str, ...], file: Path | None) -> dict[str, str]:
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
    fates = forecast.fates(made)
    steps = list(zip(made.steps, fates, strict=True))
    if as_json:
        document = {
            "target": str(made.request.target),
            "format": made.request.format.value,
            "stages": [
                {
                    "name": stage.name,
                    "agent": stage.agent,
                    "header": {keyword: field.value for keyword, field in stage.header.items()},
                }
                for stage in made.definition.stages
            ],
            "steps": [_described(step, fate) for step, fate in steps],
        }
        click.echo(json.dumps(document, indent=2))
        return
    stage = -1
    for number, (step, fate) in enumerate(steps, 1):
        if step.stage != stage and len(made.definition.stages) > 1:
            stage = step.stage
            click.echo(f"Stage {stage + 1}: {made.definition.stages[stage].name}".rstrip(": "))
        note = "" if fate is Fate.DONE else f"; {fate.value}"
        click.echo(f"{number:2}. {step.action.value} {step.what}".rstrip() + f"  ({step.reason}{note})")
        for copy in step.copies:
            click.echo(f"      {copy.source}" + (f" -> {copy.target}" if copy.target else ""))


_Described = dict[str, object]


def _described(step: Step, fate: Fate) -> _Described:
    found: _Described = {
        "stage": step.stage + 1,
        "do": step.action.name.lower(),
        "what": step.what,
        "reason": step.reason,
        "cache": {Fate.CACHED: True, Fate.DONE: False, Fate.UNKNOWN: None}[fate],
    }
    if step.script:
        found["script"] = step.script.body
        found["arguments"] = list(step.script.arguments)
    if step.copies:
        found["copies"] = [
            {"source": copy.source, "target": copy.target or copy.source, "stage": copy.stage} for copy in step.copies
        ]
    return found
