"""`singularity check IMAGE [-- PROGRAM]`: what would fail in a job, before it runs."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from singularity import paths
from singularity.check.finding import Finding, Subject, fails
from singularity.cli.command import Verb, option
from singularity.cli.options_table import entries, takes_next
from singularity.errors import UsageError

_OPTIONS = "launch_options"  # key of the context
_OURS = frozenset({"--mpi", "--gpu", "--fabric", "--kernel", "--all", "--json", "-h", "--help"})
_SUBJECTS = {
    "mpi": (Subject.MPI,),
    "gpu": (Subject.GPU,),
    "fabric": (Subject.FABRIC,),
    "kernel": (Subject.KERNEL, Subject.CPU),
}


class _Check(Verb):
    """Takes the options of a launch too, and keeps them as they were typed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options end at IMAGE, as in a launch; a `--` may follow it."""
        ours, launch, rest = _sorted(args)
        ctx.meta[_OPTIONS] = launch
        if rest[1:2] == ["--"]:
            del rest[1]
        elif rest[1:2] and rest[1].startswith("-"):
            raise UsageError(
                f"check: option {rest[1]} after IMAGE", hint="options stand before IMAGE, PROGRAM after --"
            )
        return super().parse_args(ctx, [*ours, *(["--", *rest] if rest else [])])

    def usage_line(self, path: str) -> str:
        """With what may follow."""
        return f"singularity {path} [options] [launch options] IMAGE [-- PROGRAM [ARGUMENT...]]"


def _sorted(args: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Our own options, those of a launch, and the words from the image on. `--mpi=host` is a launch's, `--mpi` ours."""
    by_name = {name: entry for entry in entries("exec") for name in entry.spellings}
    ours: list[str] = []
    launch: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            return ours, launch, list(words)
        if not word.startswith("-") or word == "-":
            return ours, launch, [word, *words]
        if word in _OURS or word.startswith("--json="):
            ours.append(word)
            continue
        launch.append(word)
        if takes_next(word, by_name):
            launch.append(next(words, ""))
    return ours, launch, []


_subject = partial(option, is_flag=True, group="What is checked")


@click.command(
    cls=_Check,
    name="check",
    description=(
        (
            "Says what would fail if PROGRAM were launched like this on this host. Nothing of the image is run. Ends "
            "with 0 when nothing would fail, with 1 otherwise."
        ),
        (
            "Without PROGRAM, the runscript is looked at. Every option of exec can be given: with --bind and --nv, the "
            "files of the host are seen as the program would see them. Without an option below, all is checked that "
            "PROGRAM has to do with."
        ),
        "Libraries that a program opens by itself while it runs, as modules of Python are, cannot be known before.",
    ),
    examples=(
        "singularity check debian.sif -- python3",
        "singularity check --mpi ompi.sif -- /usr/bin/mpi_ring",
        "singularity check --gpu --nv pytorch.sif -- python3 train.py",
        "singularity check --all --json --bind /scratch tool.sif -- tool",
    ),
)
@_subject("--mpi", help="The MPI inside and the launcher of the host")
@_subject("--gpu", help="CUDA and the driver; libraries of the driver and the image")
@_subject("--fabric", help="InfiniBand and its kin: libraries, devices, the kernel")
@_subject("--kernel", help="The kernel and the processor that program and libraries want")
@_subject("--all", "everything", help="All of these, whether PROGRAM has to do with them or not")
@option("--json", "as_json", is_flag=True, help="As a JSON document")
@click.argument("image")
@click.argument("program", nargs=-1, metavar="PROGRAM")
@click.pass_context
def command(
    ctx: click.Context, /, image: str, program: tuple[str, ...], *, everything: bool, as_json: bool, **flags: bool
) -> int:
    """Prints the report on standard output."""
    from singularity.check import report

    named = {subject for flag, subjects in _SUBJECTS.items() if flags[flag] for subject in subjects}
    chosen = frozenset(Subject) if everything else frozenset(named)
    only = bool(named) and not everything
    findings = _findings(image, program, tuple(ctx.meta[_OPTIONS]), chosen, only=only)
    if as_json:
        click.echo(report.document(image, program, findings), nl=False)
    else:
        click.echo(report.table(findings, colour=_colour()), nl=False)
    return 1 if fails(findings) else 0


def _findings(
    name: str, words: tuple[str, ...], options: tuple[str, ...], chosen: frozenset[Subject], *, only: bool
) -> list[Finding]:
    from singularity.check import launch, perform
    from singularity.check.host import Host
    from singularity.cli.launched import front_door
    from singularity.image.identify import identify

    with _available(name, options) as path:
        image = identify(path)
        planned = launch.plan(front_door(), image, options, words)
        request = perform.Request(image=image, words=words, options=options, chosen=chosen, only=only)
        return perform.check(request, planned, Host())


@contextmanager
def _available(name: str, options: tuple[str, ...]) -> Iterator[Path]:
    """The image; what a URI names comes into the cache, as for a launch, and so does the image of an archive."""
    from singularity import uri
    from singularity.cli.launched import Launch, given_options
    from singularity.image.identify import identify

    given = Launch(words=("exec", *options, name), verb="exec", image=name, position=1 + len(options))
    named = uri.parse(name)
    if named is not None:
        from singularity.pull import images
        from singularity.sources import fetch

        with images.available(named, fetch.from_options(given_options(given))) as path:
            yield path
        return
    found = identify(Path(name))
    if not found.format.is_archive:
        yield Path(name)
        return
    from singularity.build import launchable

    if given_options(given)["disable_cache"]:
        with launchable.temporary(found) as path:
            yield path
    else:
        yield launchable.cached(found, paths.private(paths.cache_directory() / "archive"))


def _colour() -> bool:
    import os

    from singularity.variables import truth, variable

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not truth(variable("NOCOLOR"))
