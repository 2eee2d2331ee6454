"""A build with a lock: what is looked at before it, the recorder meanwhile, and what is said when it is done."""

import hashlib
import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from singularity import __version__, digest, files, paths
from singularity.build import agents, architecture, gate, reproducible
from singularity.build.gate import Gate
from singularity.build.locked import document, tape
from singularity.build.locked.authority import Authority
from singularity.build.locked.document import Input, Installed, Lock
from singularity.build.locked.gather import gather
from singularity.build.locked.recorder import Recorder, Report
from singularity.build.plan import plan
from singularity.build.request import BuildRequest
from singularity.build.steps import Plan
from singularity.definition.model import Definition, Field, Stage
from singularity.errors import BuildError, FileError, SingularityError
from singularity.sources.fetch import Fetch
from singularity.transports import Transport

logger = logging.getLogger(__name__)

_EPOCH = "SOURCE_DATE_EPOCH"
_CACHE, _OTHERS = "SINGULARITY_CACHEDIR", "SINGULARITY_CACHEPATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for."""

    path: Path  # of the lock
    known: Lock | None = None  # what it says, where the build is to keep to it; else it is written
    keep: Path | None = None  # where sources are kept, and looked for
    snapshots: tuple[str, ...] = ()

    @property
    def keeps(self) -> bool:
        """Whether something is put into `keep`; what is somebody else's, or cannot be written to, is only read."""
        if self.keep is None:
            return False
        place = self.keep / "cache"
        there = place.is_dir() and self.known is not None
        return not there or (os.access(place, os.W_OK) and place.stat().st_uid == os.geteuid())


@dataclass(slots=True, kw_only=True)
class Session:
    """A build with a lock, from its plan to its end."""

    order: Order
    plan: Plan
    bases: tuple[Input, ...]
    files: tuple[Input, ...]
    started: float = field(default_factory=time.time)
    report: Report = field(default_factory=lambda: Report(fetched=(), problems=()))


def begin(request: BuildRequest, definition: Definition, order: Order) -> Session:
    """The plan of a build with a lock: bases by digest, nothing from caches. Raises SingularityError.

    Where sources are kept, so are images of registries from here on, by this process.
    """
    known = order.known
    if known is not None:
        _compare("it is the lock of another definition", known.definition, _digest_of(definition), order.path)
        _compare_options(known.options, _options(request), order.path)
        os.environ[_EPOCH] = str(known.epoch)
    if order.keep is not None:
        if order.keeps:
            _refuse_link(order.keep / "cache")
            os.environ[_CACHE] = str(order.keep.absolute())
            _made(order.keep)
            paths.cache_directory()
        else:
            os.environ[_OTHERS] = f"{order.keep.absolute()}/cache:{os.environ.get(_OTHERS, '')}"
        request = replace(request, fetch=request.fetch._replace(cache=True, offline=known is not None))
    request = replace(request, cache=False, resume=False, reproducible=True)
    bases, pinned = _bases(request, definition, {each.name: each.digest for each in known.bases} if known else {})
    made = plan(request, pinned)
    reproducible.begin(made.bases)
    found = tuple(_files(made))
    if known is not None:
        for what, before, now in (("base", known.bases, bases), ("file", known.files, found)):
            _compare_inputs(what, before, now, order.path)
    else:
        files.refuse_target(order.path, overwrite=True)
    return Session(order=order, plan=made, bases=bases, files=found)


def _compare(what: str, before: object, now: object, path: Path) -> None:
    if before != now:
        raise BuildError(f"{path}: {what}", hint="build --lock writes a new one")


def _compare_options(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    for name in sorted({*before, *now}):
        what = f"{name[:40]} was {repr(before.get(name))[:80]} when it was written, and is {now.get(name)!r}"
        _compare(what, before.get(name), now.get(name), path)


def _compare_inputs(what: str, before: Sequence[Input], now: Sequence[Input], path: Path) -> None:
    for each in now:
        said = [other.digest for other in before if other.name == each.name]
        if each.digest not in said:
            is_other = f"is another than the lock says ({each.digest[:19]}, not {', '.join(said)[:19]})"
            raise BuildError(f"{path}: {what} {each.name} {is_other if said else 'is not in it'}")


def _digest_of(definition: Definition) -> str:
    return hashlib.sha256(definition.text.encode("utf-8", "surrogateescape")).hexdigest()


def _options(request: BuildRequest) -> dict[str, Any]:
    """Those that change what comes of a definition, and are no secret."""
    said: dict[str, Any] = {
        "architecture": architecture.find(request.architecture).sif,
        "format": request.format.value,
        "sections": sorted(request.sections),
        "templateArguments": sorted(request.arguments),
        "mksquashfsArguments": list(request.mksquashfs_arguments),
        "erofs": request.erofs,
        "sizeMiB": request.size,
        "fixPermissions": request.fix_permissions,
        "include": os.environ.get("INCLUDE", ""),
    }
    return {name: value for name, value in said.items() if value not in (None, False, "", [])}


def _bases(
    request: BuildRequest, definition: Definition, known: Mapping[str, str]
) -> tuple[tuple[Input, ...], Definition]:
    """What the stages begin with, and the definition with images of registries by the digest that they have."""
    found, stages = [], []
    fetch = request.fetch._replace(architecture=request.fetch.architecture or request.architecture)
    for stage in definition.stages:
        each, pinned = stage, None
        if stage.recipe is None or not stage.recipe.base:
            own = fetch._replace(architecture=stage.architecture) if stage.architecture else fetch
            if stage.agent == Transport.DOCKER.value:
                agents.find(stage, definition.name)
                from singularity.build.agents import docker

                name = docker.name(stage)
                pinned = Input(name=name, digest=known.get(name) or docker.identity(stage, own))
                each = _with_digest(stage, pinned.digest)
            else:
                value = _identity(stage, definition.name, own)
                name = f"{stage.agent} {stage.value('from') or stage.value('mirrorurl')}".strip()
                pinned = Input(name=name, digest=value) if value else None
        found += [pinned] if pinned else []
        stages.append(each)
    return tuple(found), replace(definition, stages=tuple(stages))


def _identity(stage: Stage, name: str, fetch: Fetch) -> str | None:
    """Of a directory what is in it: its times are of this machine."""
    path = Path(stage.value("from"))
    if stage.agent == "localimage" and path.is_dir():
        return digest.by_content(path)
    return agents.source_digest(stage, name, fetch)


def _with_digest(stage: Stage, value: str) -> Stage:
    field_ = stage.header["from"]
    text = field_.value if "@" in field_.value else f"{field_.value}@{value}"
    return replace(stage, header={**stage.header, "from": Field(value=text, line=field_.line)})


def _files(made: Plan) -> Iterator[Input]:
    """Files of the host, and Dockerfiles beside the definition."""
    seen = set()
    for stage in made.definition.stages:
        file = stage.recipe.file if stage.recipe else ""
        if file and file != made.definition.name and file not in seen and Path(file).is_file():
            seen.add(file)
            yield Input(name=file, digest=digest.of_file(Path(file)))
    for step in made.steps:
        for name, value in step.host_files(made):
            yield Input(name=name, digest=value)


@contextmanager
def recorded(session: Session) -> Iterator[None]:
    """All that is fetched until the end of the block is noted, or is what was noted. Raises SingularityError."""
    order, known = session.order, session.order.known
    with files.temporary_directory(session.plan.request.temporary) as directory:
        kept = [order.keep] if order.keep is not None else []
        store = tape.opened(kept[0] if order.keeps else directory, () if order.keeps else kept)
        if known is not None:
            gather(known, store, order.snapshots, str(order.path))
        authority = Authority(directory)
        recorder = Recorder(store, authority, None if known is None else known.fetched)
        url, plays = recorder.url, known is not None
        try:
            with gate.through(Gate(url=url, certificate=authority.certificate, directory=directory, plays=plays)):
                yield
            session.report = recorder.finish()
        except SingularityError:
            with suppress(BuildError):
                for problem in recorder.finish().problems:
                    logger.error("%s", problem)
            raise
        finally:
            recorder.close()
    if order.keep is not None and order.keeps:
        _share(order.keep / "cache")


def _refuse_link(place: Path) -> None:
    """What is in an archive is shared, and an archive may come from a stranger. Raises FileError."""
    if place.is_symlink():
        raise FileError(f"{place}: a link, and what is in an archive is made readable for others", hint="remove it")


def _share(place: Path) -> None:
    """Gives an archive the modes of other files: a cache is its owner's alone. Raises FileError."""
    mask = files.umask()
    with (
        FileError.about(place, inner=True),
        files.closing(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as top,
    ):
        for _, _, names, directory in os.fwalk(".", dir_fd=top):
            os.fchmod(directory, 0o777 & ~mask)
            for name in names:
                with suppress(FileNotFoundError):
                    _set_mode(name, directory, 0o666 & ~mask)


def _made(keep: Path) -> None:
    """The directory of an archive, of the mode of others where it is new: what is in it is shared, too."""
    with FileError.about(keep):
        files.make_directories(keep, 0o777)


def _set_mode(name: str, directory: int, mode: int) -> None:
    """Of a regular file: where others can write there, no link of theirs leads to a file of ours elsewhere."""
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with files.closing(os.open(name, flags, dir_fd=directory)) as fd:
        os.fchmod(fd, mode)


def finish(session: Session, target: Path, packages: Iterable[Installed]) -> None:
    """Writes the lock, or compares the image with what it says. Raises BuildError and FileError."""
    order, known = session.order, session.order.known
    made = Lock(
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(session.started)),
        program=__version__,
        epoch=reproducible.source_date_epoch() or 0,
        source=Path(session.plan.definition.name).name,
        definition=_digest_of(session.plan.definition),
        options=_options(session.plan.request),
        image=digest.of_file(target),
        bases=session.bases,
        files=session.files,
        fetched=session.report.fetched,
        packages=tuple(packages),
    )
    if known is None:
        document.write(order.path, made)
        count = len(made.fetched), len(made.packages)
        logger.info("Lock written: %s (fetched: %d, packages: %d)", order.path, *count)
    elif made.image == known.image:
        logger.info("The same image as %s has it", order.path)
    else:
        _tell_differences(session, known, made)
        hint = f"singularity {known.program} built it then" if known.program != __version__ else "docs/locked-builds.md"
        what = f"{target} is not the image that {order.path} is of: sha256 {made.image[:16]}, not {known.image[:16]}"
        raise BuildError(what, hint=hint)


def _tell_differences(session: Session, known: Lock, made: Lock) -> None:
    """Packages that are others, and what was fetched that the lock has not, each in a line."""
    before, now = ({(each.manager, each.text) for each in lock.packages} for lock in (known, made))
    for word, names in (("not there any more", before - now), ("new", now - before)):
        for _, text in sorted(names):
            logger.error("%s: %s", text, word)
    for problem in session.report.problems:
        logger.error("%s", problem)
