"""What `singularity check` does with its words, and the short way to it: without what explains options."""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from singularity import paths
from singularity.check.finding import Finding, Subject, fails
from singularity.cli.options_table import entries, takes_next

_SUBJECTS = {
    "mpi": (Subject.MPI,),
    "gpu": (Subject.GPU,),
    "fabric": (Subject.FABRIC,),
    "kernel": (Subject.KERNEL, Subject.CPU),
}
_PLAIN = frozenset({"--all", "--json", *(f"--{name}" for name in _SUBJECTS)})
_OURS = _PLAIN | {"-h", "--help"}


def plain(arguments: Sequence[str]) -> int | None:
    """Carries out `check ARGUMENTS`; None: nothing was done, there is something unusual. Raises SingularityError."""
    ours, options, rest = parts(arguments)
    if not rest or rest == ["help"] or not _PLAIN.issuperset(ours):
        return None
    image, *program = rest
    if program[:1] == ["--"]:
        del program[0]
    elif program and program[0].startswith("-"):
        return None
    named = {word[2:] for word in ours} - {"json"}
    return told(image, tuple(program), tuple(options), named, as_json="--json" in ours)


def parts(args: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
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


def told(
    image: str, program: tuple[str, ...], options: tuple[str, ...], named: Collection[str], *, as_json: bool
) -> int:
    """Prints the report on standard output; the exit status. `named` is what is to be checked: `mpi`, or `all`."""
    from singularity.check import report

    everything = "all" in named
    wanted = {subject for flag, subjects in _SUBJECTS.items() if flag in named for subject in subjects}
    chosen = frozenset(Subject) if everything else frozenset(wanted)
    found = findings(image, program, options, chosen, only=bool(wanted) and not everything)
    if as_json:
        sys.stdout.write(report.document(found, image=image, program=list(program)))
    else:
        sys.stdout.write(report.table(found, colour=colour()))
    return 1 if fails(found) else 0


def findings(
    name: str,
    words: tuple[str, ...],
    options: tuple[str, ...],
    chosen: frozenset[Subject],
    *,
    only: bool,
    door: Path | None = None,
) -> list[Finding]:
    """What a check of an image or a URI finds, launched with these options; `only` the chosen subjects.

    `door` is the program that would launch it, where that is not the one of this installation.
    """
    from singularity.check import launch, perform
    from singularity.check.host import Host
    from singularity.image.identify import identify
    from singularity.paths import front_door

    with available(name, options) as path:
        image = identify(path)
        planned = launch.plan(door or front_door(), image, options, words)
        request = perform.Request(image=image, words=words, options=options, chosen=chosen, only=only)
        return perform.check(request, planned, Host())


@contextmanager
def available(name: str, options: tuple[str, ...] = ()) -> Iterator[Path]:
    """The image; what a URI names comes into the cache, as for a launch, and so does the image of an archive."""
    from singularity import uri
    from singularity.cli.launched import Launch, fetching_options
    from singularity.image.identify import identify

    given = Launch(words=("exec", *options, name), verb="exec", options=1, image=name, position=1 + len(options))
    named = uri.parse(name)
    if named is not None:
        from singularity.pull import images
        from singularity.sources import fetch

        with images.available(named, fetch.from_options(fetching_options(given))) as path:
            yield path
        return
    found = identify(Path(name))
    if not found.format.is_archive:
        yield Path(name)
        return
    from singularity.build import launchable

    if fetching_options(given)["disable_cache"]:
        with launchable.temporary(found) as path:
            yield path
    else:
        yield launchable.cached(found, paths.private(paths.cache_directory() / "archive"))


def colour() -> bool:
    """Whether a table may have colours: on a terminal, where nobody objects."""
    import os

    from singularity.variables import truth, variable

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not truth(variable("NOCOLOR"))
