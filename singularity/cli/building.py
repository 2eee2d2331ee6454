"""What `singularity build` does with its options: a request, a plan, and the steps of it, or their names."""

import functools
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import click

from singularity import console, files, uri
from singularity.build import architecture, binds, layered, pack, perform, provenance
from singularity.build import encrypted as encrypting
from singularity.build.plan import plan
from singularity.build.request import SECTIONS, Bind, BuildRequest, Secret, Target
from singularity.build.steps import Plan
from singularity.build.steps.target import Convert
from singularity.cli import foretold, locking, smaller, trusting
from singularity.cli.build import OWN_KEY
from singularity.definition import recognise, source, template
from singularity.definition.model import Definition
from singularity.encryption import keys, sealed, shown
from singularity.errors import BuildError, DefinitionError, UsageError
from singularity.image import base
from singularity.image.identify import identify
from singularity.namespaces import fakeroot
from singularity.packages import bill
from singularity.packages.bill import Standard
from singularity.sources.fetch import Fetch
from singularity.trust.pem import PemSeal

logger = logging.getLogger(__name__)

_SUFFIXES = {
    Target.SQUASHFS: (".sqfs", ".squashfs", ".sqsh"),
    Target.EROFS: (".erofs",),
    Target.EXT3: (".ext3",),
    Target.TAR: (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst"),
}
# A comma ends a --build-arg where the next one begins; in values it needs nothing.
_ARGUMENT_END = re.compile(r",(?=\w+=)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the options of the command say, under the names that they have there."""

    source: str = ""  # SOURCE, as it was typed
    context: Path | None = None  # of a Dockerfile that was downloaded: an empty directory
    force: bool
    dry_run: str  # empty: it is none
    architecture: str
    sandbox: bool
    update: bool
    wanted: str | None  # --format
    on: str  # the base, a file or a URI
    erofs: bool
    data: bool
    writable: bool
    size: int | None
    compression: str
    arguments: str  # --mksquashfs-args
    in_chunks: bool
    watch: int | None  # --watch-starts
    sign: str  # the key; empty: none
    sbom: str  # its form; empty: none
    provenance: bool
    lock: str  # its file; empty: none
    locked: str
    keep_sources: Path | None
    snapshot: tuple[str, ...]
    reproducible: bool
    fix: bool  # --fix-perms
    only: tuple[Path, ...] = ()
    keep: tuple[str, ...] = ()
    whole_packages: bool = False
    fakeroot: bool
    keep_owners: bool
    section: tuple[str, ...]
    notest: bool
    build_arg: tuple[str, ...]
    build_arg_file: Path | None
    unused: bool  # --warn-unused-build-args
    file: Path | None  # of a Dockerfile, where SOURCE is its context
    stage: str  # --target
    secret: tuple[str, ...]
    bind: tuple[str, ...]
    mount: tuple[str, ...]
    nv: bool
    rocm: bool
    writable_tmpfs: bool
    no_cache: bool
    no_cleanup: bool
    encrypt: bool
    passphrase: bool
    pem_path: str
    nvccli: bool
    fetch: Fetch


def build(target: Path, source_: str, options: Options) -> None:
    """Builds the image, or prints how it would be built. Raises SingularityError."""
    if options.dry_run not in ("", "text", "json"):
        raise UsageError(f'--dry-run={options.dry_run}: "text" or "json"')
    options = replace(options, source=source_)
    request = _request(target, source_, options)
    if options.data:
        _build_data(request, options)
        return
    named = None if options.file else uri.parse(source_)
    if named is None or not named.transport.is_web:
        with ExitStack() as stack:
            if named is None:
                request = _opened(request, (Path(source_),), options, stack)
            _build(target, request, options, stack)
        return
    from singularity.cache import image_store
    from singularity.sources import images

    with images.available(named, request.fetch) as found, ExitStack() as stack:
        path = image_store.named(found, named.file_name)
        request = _opened(replace(request, source=str(path)), (path,), options, stack)
        nothing = stack.enter_context(files.temporary_directory(request.temporary)) / "context"
        nothing.mkdir()
        _build(target, request, replace(options, context=nothing), stack)


@functools.cache
def _key(ask: bool, pem_path: str, new: bool) -> keys.Key | None:
    """The one key of SOURCE and TARGET, asked for once. Raises UsageError and FileError."""
    return keys.chosen(ask=ask, pem_path=pem_path, new=new)


def _opened(request: BuildRequest, sources: Sequence[Path], options: Options, stack: ExitStack) -> BuildRequest:
    """Until the end of `stack`, the paths of encrypted images lead to what is in them, for this process.

    Layers that are made of that are not kept. Raises SingularityError, also for a source whose base is missing.
    """
    for path in sources:
        if base.of_path(path) is not None:
            base.chain(identify(path))
    encrypted = [found for path in sources if path.is_file() and (found := sealed.find(path)) is not None]
    for image in encrypted:
        key = _key(options.passphrase, options.pem_path, options.encrypt)
        if key is None:
            raise keys.needed(image.path)
        secret = keys.opened(key, image.message, image.path)
        place = stack.enter_context(files.temporary_directory(request.temporary)) / "plain"
        place.mkdir()
        encrypting.enter()
        stack.enter_context(shown.in_place(image, secret, place))
    return replace(request, cache=False, resume=False) if encrypted else request


def _build_data(request: BuildRequest, options: Options) -> None:
    if request.format is not Target.SIF or request.erofs:
        raise UsageError("--data: TARGET becomes a SIF file with a squashfs file system")
    if options.dry_run:
        raise UsageError("--data: nothing is planned, with --dry-run")
    from singularity.build import data

    may_replace = request.overwrite or _may_replace(request.target)
    data.make(Path(request.source), request.target, arguments=request.mksquashfs_arguments, overwrite=may_replace)
    logger.info("Build complete: %s", request.target)


def _build(target: Path, request: BuildRequest, options: Options, stack: ExitStack) -> None:
    dry_run, source_ = options.dry_run, request.source
    if target.is_dir():
        _refuse_directory(target, source_, update=options.update)
    else:
        hint = f"TARGET comes first: singularity build {source_} {target}" if source_ else "name another file"
        recognise.refuse_target(target, hint=hint)
    definition = source.read(
        source_,
        request.arguments,
        unused_allowed=request.unused_arguments_allowed,
        header_optional=request.update,
        dockerfiles=_for_dockerfiles(request, options),
    )
    local = [Path(stage.value("from")) for stage in definition.stages if stage.agent == "localimage"]
    request = _opened(request, local, options, stack)
    if options.on:
        request = replace(request, on=stack.enter_context(layered.based(options.on, request, encrypt=options.encrypt)))
    _refuse_unused(definition, options)
    session = locking.begin(request, definition, options)
    made = plan(request, definition) if session is None else session.plan
    for warning in made.definition.warnings:
        logger.warning("%s", warning)
    if dry_run:
        foretold.tell(made, as_json=dry_run == "json")
        return
    may_replace = request.overwrite or _may_replace(target)
    files.refuse_target(target, overwrite=may_replace, directory=request.format is Target.SANDBOX)  # as who calls
    key = "" if options.sign == OWN_KEY else options.sign
    seal = trusting.seal_of(key) if options.sign else None  # asks for a passphrase before the work
    begun = provenance.begin(made) if options.provenance else None
    made = replace(made, request=replace(made.request, overwrite=may_replace))
    if options.encrypt:
        _encrypt(made, target, options)
    elif session is not None:
        locking.perform(session, functools.partial(_perform, made), target)
    else:
        _perform(made)
    if options.sbom:
        bill.add(target, Standard(options.sbom), pack.source_date_epoch())
    if begun is not None:
        fetched = () if session is None else session.report.fetched
        provenance.add(target, begun, seal if isinstance(seal, PemSeal) else None, fetched)
    if seal is not None:
        trusting.sign(target, seal)


def _perform(made: Plan) -> None:
    if os.geteuid() != 0 and not made.request.only:  # whose %test is the caller's, as a launch will be
        try:
            fakeroot.become_root()
        except BuildError:
            if not isinstance(made.steps[0], Convert):  # which needs no root file system on disk
                raise
    perform.perform(made)


def _encrypt(made: Plan, target: Path, options: Options) -> None:
    """The build, into a place where all is encrypted, and from there to `target`. What it made is kept nowhere else."""
    key = _key(options.passphrase, options.pem_path, options.encrypt)
    if key is None:
        raise UsageError("--encrypt: no key", hint=keys.HINT)
    start = time.monotonic()
    encrypting.enter()

    def build(place: Path, directory: Path) -> None:
        request = replace(made.request, target=place, is_encrypted_next=True, cache=False, resume=False)
        if isinstance(made.steps[0], Convert):  # root file systems need more than an encrypted directory has
            request = replace(request, temporary=directory)
        perform.perform(replace(made, request=request))

    encrypting.make(target, key, made.request.temporary, build, overwrite=made.request.overwrite)
    took = console.duration(time.monotonic() - start)
    logger.info("Build complete: %s (%s, %s)", target, console.size(target.stat().st_size), took)


def _for_dockerfiles(request: BuildRequest, options: Options) -> source.ForDockerfiles:
    """What a Dockerfile would need. Raises UsageError for a context that is no directory, and BuildError."""
    context = Path(options.source) if options.file else options.context
    if context is not None and not context.is_dir():
        raise UsageError(f"--file: {context} is no directory", hint="SOURCE is the context: where COPY finds its files")
    return source.ForDockerfiles(
        context=context,
        is_dockerfile=options.file is not None,
        target=options.stage,
        architecture=architecture.find(request.architecture).sif,
        host=architecture.host().sif,
    )


def _refuse_unused(definition: Definition, options: Options) -> None:
    """Raises UsageError for options of Dockerfiles without one."""
    has_one = any(stage.recipe for stage in definition.stages)
    for name, given in (("--target", options.stage), ("--secret", options.secret)):
        if given and not has_one:
            raise UsageError(f"{name}: SOURCE is no Dockerfile, and has none", hint="it is an option for those alone")


def _refuse_directory(target: Path, source_: str, *, update: bool) -> None:
    """Raises UsageError for a directory whose replacement would take away more than a container."""
    place = target.resolve()
    kept = {"the working directory": Path.cwd(), "the home directory": Path(os.environ.get("HOME") or "/")}
    if not update:
        kept["SOURCE"] = Path(source_).parent
    for what, path in kept.items():
        if path.resolve().is_relative_to(place):
            raise UsageError(f"{target}: {what} is or lies in it", hint="name another directory")


def _request(target: Path, source_: str, options: Options) -> BuildRequest:
    """The request that the options make. Raises UsageError for those that contradict each other."""
    format_ = _format(target, options)
    if options.size and format_ is not Target.EXT3:
        raise UsageError("--size: only ext3 images have one", hint="--format ext3")
    words = _words(options)
    if options.encrypt and (format_ is not Target.SIF or options.erofs or options.data):
        what = "data" if options.data else "erofs" if options.erofs else format_.value
        raise UsageError("--encrypt is for SIF files with squashfs", hint=f"TARGET becomes {what}")
    if options.sbom and options.sbom not in (each.value for each in Standard):
        raise UsageError(f'--sbom={options.sbom}: "spdx" or "cyclonedx"')
    for name, given in (("--provenance", options.provenance), ("--sbom", options.sbom), ("--on", options.on)):
        if given and (format_ is not Target.SIF or options.data):
            raise UsageError(f"{name} is for SIF files", hint=f"TARGET becomes {format_.value}")
    if options.sbom and options.encrypt:
        raise UsageError("--sbom: what is in an encrypted image is not for everybody to read", hint="leave one out")
    if options.erofs and format_ not in (Target.SIF, Target.EROFS):
        raise UsageError("--erofs is for SIF files", hint=f"TARGET becomes {format_.value}")
    if words and (options.erofs or format_ not in (Target.SIF, Target.SQUASHFS)):
        raise UsageError("--compression, --chunks and --mksquashfs-args are for SIF and squashfs files, not for EROFS")
    return BuildRequest(
        target=target,
        source=str(options.file or source_),
        format=format_,
        erofs=options.erofs,
        size=options.size,
        overwrite=options.force or options.update,
        sections=_chosen(options.section, notest=options.notest),
        keep=options.no_cleanup,
        mksquashfs_arguments=tuple(words),
        watch=options.watch,
        arguments=_arguments(options.build_arg, options.build_arg_file),
        unused_arguments_allowed=options.unused,
        secrets=dict(_secret(text) for text in options.secret),
        cache=options.fetch.cache,
        resume=not options.no_cache,
        onto=target if options.update else None,
        update=options.update,
        binds=tuple(_binds(options.bind, options.mount)),
        nv=options.nv or options.nvccli,
        rocm=options.rocm,
        writable_tmpfs=options.writable_tmpfs,
        reproducible=options.reproducible,
        architecture=options.architecture,
        fetch=options.fetch,
        fix_permissions=options.fix,
        by_user=os.geteuid() != 0,
        keep_owners=options.fakeroot or options.keep_owners,
        only=smaller.reduction(format_, options),
        temporary=options.fetch.scratch,
    )


def _format(target: Path, options: Options) -> Target:
    """What the target becomes. Raises UsageError when two options say different things."""
    said = {Target(options.wanted)} if options.wanted else set()
    said |= {Target.SANDBOX} if options.sandbox or options.update else set()
    said |= {Target.EXT3} if options.writable else set()
    if len(said) > 1:
        raise UsageError(f"TARGET cannot be {' and '.join(sorted(each.value for each in said))} at once")
    if options.update and not target.is_dir():
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


def _secret(text: str) -> tuple[str, Secret]:
    """`id=ID[,src=FILE|,env=NAME]`; where neither is said, the variable of that name. Raises UsageError."""
    given = dict(word.partition("=")[::2] for word in text.split(","))
    identifier, kind = given.pop("id", ""), given.pop("type", "")
    file, variable = given.pop("src", "") or given.pop("source", ""), given.pop("env", "")
    if not identifier or given or kind not in ("", "file", "env") or (file and variable):
        raise UsageError("--secret: not understood", hint="id=ID,src=FILE, or id=ID,env=NAME")
    if kind == "env" and file:
        file, variable = "", file
    if not file and (variable or identifier) not in os.environ:
        raise UsageError(f"--secret id={identifier}: no variable {variable or identifier} in the environment")
    if file and not os.access(file, os.R_OK):
        raise UsageError(f"--secret id={identifier}: {file}: no such file, or you may not read it")
    return identifier, Secret(file=Path(file)) if file else Secret(variable=variable or identifier)


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


def _words(options: Options) -> list[str]:
    """What mksquashfs is told. Raises UsageError."""
    try:
        words = shlex.split(options.arguments)
    except ValueError as error:
        raise UsageError(f"--mksquashfs-args: {error}") from error
    if options.compression:
        words = ["-comp", options.compression, *words]
    if options.in_chunks:  # small files would share blocks, each of which changes with any of its files
        words = ["-no-fragments", *words]
    return words


def _arguments(words: tuple[str, ...], file: Path | None) -> dict[str, str]:
    """The values of templates: those of the command line go before those of the file."""
    values = {}
    if file:
        try:
            values = template.parse_arguments(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else "") or "no text"
            raise UsageError(f"--build-arg-file: {file}: {why}") from error
    words = tuple(f"{word}={os.environ[word]}" if word in os.environ else word for word in words)  # as Docker does
    try:
        return values | dict(template.parse_argument(each, "") for word in words for each in _ARGUMENT_END.split(word))
    except DefinitionError as error:
        raise UsageError(f"--build-arg: {error}") from error
