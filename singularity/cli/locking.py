"""What `build` does with --lock, --locked, --keep-sources and --snapshot: an order, and what is said of packages."""

import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from singularity.build.locked import document, match, session
from singularity.build.locked.document import Fetched, Installed
from singularity.build.locked.session import Order, Session
from singularity.build.request import BuildRequest, Target
from singularity.build.steps.target import Convert
from singularity.cli.build import BESIDE
from singularity.definition.model import Definition
from singularity.errors import UsageError
from singularity.image import stacked
from singularity.image.identify import identify
from singularity.image.lookup import translated
from singularity.packages import inventory
from singularity.packages.model import Survey

_SUFFIX = ".lock"


class Options(Protocol):
    """What is asked of the options of `build`."""

    @property
    def lock(self) -> str:
        """The file of --lock; empty: it is not given."""

    @property
    def locked(self) -> str:
        """The same of --locked."""

    @property
    def keep_sources(self) -> Path | None:
        """The directory."""

    @property
    def snapshot(self) -> tuple[str, ...]:
        """URLs."""

    @property
    def encrypt(self) -> bool:
        """Whether TARGET is."""

    @property
    def dry_run(self) -> str:
        """Empty: it is none."""


def begin(request: BuildRequest, definition: Definition, options: Options) -> Session | None:
    """What a build with a lock begins with; None for another one. Raises SingularityError."""
    if not options.lock and not options.locked:
        for name, given in (("--keep-sources", options.keep_sources), ("--snapshot", options.snapshot)):
            if given:
                raise UsageError(f"{name} is for builds with --lock or --locked")
        return None
    _refuse(request, options)
    said = options.lock or options.locked
    path = beside(request.source) if said == BESIDE else Path(said)
    if path.resolve() in (request.target.resolve(), Path(request.source).resolve()):
        raise UsageError(f"{path}: the lock is a file of its own")
    known = document.read(path) if options.locked else None
    order = Order(path=path, known=known, keep=options.keep_sources, snapshots=options.snapshot)
    made = session.begin(request, definition, order)
    if isinstance(made.plan.steps[0], Convert):
        what = "--lock and --locked are for definitions: SOURCE is an image"
        raise UsageError(what, hint="its digest is all there is to note")
    return made


def _refuse(request: BuildRequest, options: Options) -> None:
    """Raises UsageError for what does not go together."""
    if options.lock and options.locked:
        raise UsageError("--lock writes a lock, and --locked keeps to one: give one of them")
    if options.snapshot and options.lock:
        raise UsageError("--snapshot is for builds with --locked")
    for url in options.snapshot:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise UsageError(f"--snapshot: {url}: no http or https URL")
    if request.format is Target.SANDBOX:
        raise UsageError("--lock and --locked are for image files: a directory has no digest")
    if request.on is not None:
        what = "--lock and --locked are for whole images"
        raise UsageError(what, hint="build --on takes the image that comes of it as SOURCE")
    if options.encrypt:
        raise UsageError("--lock and --locked: an encrypted image is another one each time")
    if options.dry_run:
        raise UsageError("--lock and --locked: what is fetched is not planned", hint="--dry-run without them")


def perform(begun: Session, build: Callable[[], None], target: Path) -> None:
    """Carries a build out with its lock, which is written or compared then. Raises SingularityError."""
    with session.recorded(begun):
        build()
    session.finish(begun, target, _installed(target, begun.report.fetched))


def beside(source: str) -> Path:
    """The lock of a definition: `x.lock` for `x.def`, `Dockerfile.lock` for `Dockerfile`; here, for one of a server."""
    path = Path(urllib.parse.urlsplit(source).path.rpartition("/")[2]) if "://" in source else Path(source)
    return path.with_suffix(_SUFFIX) if path.suffix == ".def" else path.with_name(path.name + _SUFFIX)


def _installed(target: Path, fetched: tuple[Fetched, ...]) -> tuple[Installed, ...]:
    """The packages of an image, and which of the files they came in."""
    image = identify(target)
    if image.format.is_archive:
        return ()
    with translated(target), stacked.shown(image) as lookup:
        found = inventory.take(Survey(lookup, lists=False))
    plain = (
        Installed(
            manager=each.manager.value,
            name=each.name,
            version=each.version,
            architecture=each.architecture,
            sha256=each.digests.get("sha256", ""),
        )
        for each in found.packages
    )
    return tuple(match.matched(plain, fetched))
