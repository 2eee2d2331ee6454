"""Carries out a plan, step after step; each step knows how (`steps`). What fails leaves nothing behind."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from singularity import console, files, kernel
from singularity.build import architecture, forecast, layers, pack, reproducible
from singularity.build.agents import localimage
from singularity.build.layers import Stack
from singularity.build.request import Target
from singularity.build.steps import Build, Change, Plan, Step
from singularity.build.steps.target import Convert
from singularity.build.workspace import Workspace
from singularity.cache import layer_store as cache
from singularity.cache.layer_store import LayerCache
from singularity.console import VERBOSE
from singularity.errors import BuildError, FileError, SingularityError

logger = logging.getLogger(__name__)

_LONG = 1.0  # seconds of a step that people want to be told of
_ROOM = 1 << 20  # free bytes below which a file system counts as full
_NAMES = 16  # free inodes at which it does; what a failed step had made may be gone again


def _nothing(step: Step) -> None:
    del step


def perform(plan: Plan, *, on_step: Callable[[Step], None] = _nothing) -> None:
    """Builds the image. The target is whole or as it was, and nothing else is left. Raises SingularityError.

    `on_step` is told of each step before it is done. Where layers are used, this process gets a mount namespace of its
    own.
    """
    request, start = plan.request, time.monotonic()
    files.refuse_target(request.target, overwrite=request.overwrite, directory=request.format is Target.SANDBOX)
    forecast.check(plan)
    for error in forecast.missing(plan):
        raise error
    if request.mksquashfs_arguments:
        pack.check_arguments(request.mksquashfs_arguments, request.temporary)
    if request.reproducible:
        reproducible.begin(plan.bases)
    first = plan.steps[0]
    if isinstance(first, Convert):  # it needs neither a directory nor layers
        on_step(first)
        with console.step(1, 1, str(first)), _timed(plan, first):
            first.perform(plan)
    else:
        with _begun(plan) as build:
            for number, step in enumerate(plan.steps, 1):
                on_step(step)
                with console.step(number, len(plan.steps), str(step)) as shown, _room_explained(build, step):
                    shown.cached = _carry_out(build, step)
    if request.is_encrypted_next:
        return
    took = console.duration(time.monotonic() - start)
    about = took if request.format is Target.SANDBOX else f"{console.size(request.target.stat().st_size)}, {took}"
    logger.info("Build complete: %s (%s)", request.target, about)


@contextmanager
def _begun(plan: Plan) -> Iterator[Build]:
    """The working directory, with an empty root file system for each stage; at the end nothing of it is left."""
    request = plan.request
    with ExitStack() as stack:
        directory = stack.enter_context(files.temporary_directory(request.temporary, keep=request.keep))
        final = directory
        if request.format is Target.SANDBOX:  # on the file system where it is to stay
            final = stack.enter_context(files.temporary_directory(request.target.parent, keep=request.keep))
        if request.keep:
            logger.info("Working directory: %s", directory)
        places = _layer_places(plan, directory, stack)
        roots = [directory / f"root-{index}" for index in range(len(plan.definition.stages))]
        roots[-1] = (directory if places.scratch else final) / "root"
        workspace = Workspace(
            directory=directory,
            architecture=architecture.find(request.architecture),
            cache=request.cache,
            fetch=request.fetch,
        )
        key = layers.empty_key(workspace.architecture.sif, one_id=kernel.maps_one_id(), marks=layers.marks())
        stacks = [
            Stack(path=path, scratch=places.scratch, cache=places.cache, replace=not request.resume) for path in roots
        ]
        for each in stacks:
            stack.callback(each.close)
            each.begin(key)
        if request.keep:
            stack.callback(_keep, stacks[-1])
        yield Build(
            request=request,
            definition=plan.definition,
            steps=plan.steps,
            workspace=workspace,
            stacks=stacks,
            placed=final / "root",
        )
        if places.cache:
            places.cache.sweep()


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerPlaces:
    """What the root file systems of a build are made of."""

    scratch: Path | None = None  # where layers are made; None: plain directories
    cache: LayerCache | None = None  # where they are kept


def _layer_places(plan: Plan, directory: Path, stack: ExitStack) -> _LayerPlaces:
    """Layers where they are of use and can be had: to be kept, or over a directory that need not be copied then."""
    request = plan.request
    kept = request.cache and forecast.is_worth_keeping(plan)
    in_place = request.format is not Target.SANDBOX and any(base.is_dir() for base in plan.bases)
    if not kept and not in_place and not request.writable_tmpfs:
        return _LayerPlaces()
    try:
        layers.enter()
    except OSError as error:
        logger.log(VERBOSE, "No layers, and nothing for the cache: no mount namespace: %s", error.strerror)
        return _LayerPlaces()
    if kept:
        try:
            place = cache.directory()
            reason = layers.probe(place)
        except FileError as error:
            reason = str(error)
        if not reason:
            scratch = stack.enter_context(files.temporary_directory(place))
            layer_cache = LayerCache(place, scratch)
            stack.callback(layer_cache.close)
            return _LayerPlaces(scratch=scratch, cache=layer_cache)
        logger.log(VERBOSE, "Nothing is kept for the next build: no overlay file system in the cache: %s", reason)
    reason = layers.probe(directory)
    if reason:
        logger.log(VERBOSE, "No layers: no overlay file system in %s: %s", directory, reason)
        return _LayerPlaces()
    scratch = directory / "layers"
    scratch.mkdir()
    return _LayerPlaces(scratch=scratch)


def _keep(root: Stack) -> None:
    """Leaves a root file system as a directory, for whoever wants to look at it."""
    if root.scratch is None:
        return
    with suppress(SingularityError), console.working("copying the root file system"):
        root.show()
        copied = root.path.with_name("copied")
        localimage.copy_tree(root.path, copied)
        root.close()
        root.path.rmdir()
        copied.rename(root.path)


def _carry_out(build: Build, step: Step) -> bool:
    """Does a step; a change of the root file system is taken from the cache where an earlier build has left it.

    Whether it was.
    """
    if not isinstance(step, Change):
        with _timed(build, step):
            step.perform(build)
        return False
    cached = not step.is_idle(build) and _change(build, step)
    if step.counts:
        build.keys[step.stage] = build.stacks[step.stage].key
    return cached


def _change(build: Build, step: Change) -> bool:
    """Makes a change; whether the cache had it."""
    stack, like = build.stacks[step.stage], step.begins_like(build)
    if like is not None and stack.begin_like(build.stacks[like]):
        return False
    key = None if stack.key is None else step.key(stack.key, build)
    if stack.take(key):
        level = logging.INFO if step.begun else VERBOSE
        logger.log(level, "%sUsing the cache: %s", _about_stage(build, step), step.what or step)
        return True
    with _timed(build, step):
        base = step.base() if stack.is_empty else None
        if base and stack.can_begin_with(base):
            stack.begin(key, base)
            return False
        with stack.changing(key, str(step), build.definition.name) as change:
            step.perform(build)
            if key is None and change.content and stack.key is not None:
                change.key = step.key_of_result(stack.key, change.content)
    return False


@contextmanager
def _timed(plan: Plan, step: Step) -> Iterator[None]:
    if step.begun:
        logger.info("%s" + step.begun, _about_stage(plan, step), step.what)
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    logger.log(logging.INFO if step.begun and took >= _LONG else VERBOSE, "Took %.1f s: %s", took, step)


def _about_stage(plan: Plan, step: Step) -> str:
    """The beginning of a message about a stage, where there are several; the last step is about the whole image."""
    stages = plan.definition.stages
    if len(stages) == 1 or step is plan.steps[-1]:
        return ""
    return f"Stage {stages[step.stage].name or step.stage + 1}: "


@contextmanager
def _room_explained(build: Build, step: Step) -> Iterator[None]:
    """Says of a failure that may come of a full file system which one it is. Raises BuildError."""
    try:
        yield
    except (OSError, SingularityError) as error:
        place = build.stacks[step.stage].scratch or build.workspace.directory
        above = build.placed.parent.parent
        if _is_full(place):
            another = "name another place with --tmpdir, or for layers with SINGULARITY_CACHEDIR"
            hint = f"no space left in {place.parent}: {another}"
        elif _is_full(above):
            hint = f"no space left in {above}: make room there, or name another TARGET"
        else:
            raise
        what = error.what if isinstance(error, SingularityError) else f"{step}: {error.strerror}"
        raise BuildError(what, hint=hint) from error


def _is_full(place: Path) -> bool:
    """Whether a file system has no room, for bytes or for names."""
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize <= _ROOM or (status.f_favail <= _NAMES and status.f_files != 0)
