"""Carries out the steps of a build. What to do was decided in `plan`; here it is done, and undone when it fails."""

import errno
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

from singularity import console, files, kernel, process
from singularity.build import (
    agents,
    architecture,
    cache,
    checkpoints,
    container,
    copies,
    fakeroot,
    gpu,
    inputs,
    keys,
    layers,
    pack,
    platform_files,
    reproducible,
    script_pipe,
    scripts,
    startup_trace,
    targets,
)
from singularity.build.agents import localimage
from singularity.build.cache import LayerCache
from singularity.build.container import mount_points
from singularity.build.layers import Change, Stack
from singularity.build.plan import Action, Plan, Step, is_update
from singularity.build.request import Bind, BuildRequest, Target
from singularity.build.workspace import Workspace, script_environment
from singularity.console import VERBOSE
from singularity.definition.model import Definition, Script, Stage
from singularity.errors import BuildError, FileError, SingularityError
from singularity.image.identify import identify
from singularity.image.root import Root
from singularity.variables import handed_on

logger = logging.getLogger(__name__)

_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")
_ROOM = 1 << 20  # free bytes below which a file system counts as full
_NAMES = 16  # free inodes at which it does; what a failed step had made may be gone again
_TEST = "/.singularity.d/test"


def _nothing(step: Step) -> None:
    del step


def _unheard(line: str) -> None:
    del line


def perform(plan: Plan, *, on_step: Callable[[Step], None] = _nothing) -> None:
    """Builds the image. The target is whole or as it was, and nothing else is left. Raises SingularityError.

    `on_step` is told of each step before it is done. Where layers are used, this process gets a mount namespace of its
    own.
    """
    request, definition, start = plan.request, plan.definition, time.monotonic()
    files.refuse_target(request.target, overwrite=request.overwrite, directory=request.format is Target.SANDBOX)
    for index, stage in enumerate(definition.stages):
        if not is_update(request, definition, index):
            agents.find(stage, definition.name)
    for error in inputs.missing(plan):
        raise error
    if request.mksquashfs_arguments:
        pack.check_arguments(request.mksquashfs_arguments, request.temporary)
    if request.reproducible:
        reproducible.begin(_bases(plan), request.temporary)
    if plan.steps[0].action is Action.CONVERT:
        _convert(plan, on_step)
    else:
        _build(plan, on_step)
    took = console.duration(time.monotonic() - start)
    about = took if request.format is Target.SANDBOX else f"{console.size(request.target.stat().st_size)}, {took}"
    logger.info("Build complete: %s (%s)", request.target, about)


def _convert(plan: Plan, on_step: Callable[[Step], None]) -> None:
    (step,) = plan.steps
    on_step(step)
    with _timed(step), console.step(1, 1), console.working(f"writing {plan.request.target}"):
        _convert_source(plan)


def _convert_source(plan: Plan) -> None:
    from singularity.build import convert

    request, stage = plan.request, plan.definition.stages[0]
    if stage.agent not in agents.LAYERED:
        convert.perform(identify(Path(request.source)), request)
        return
    agent = cast("agents.LayeredAgent", agents.find(stage, plan.definition.name))
    fetch = replace(request.fetch, architecture=request.fetch.architecture or request.architecture)
    with agent.opened(stage, replace(fetch, temporary=request.temporary)) as found:
        convert.convert_oci(found, request)


def _build(plan: Plan, on_step: Callable[[Step], None]) -> None:
    request, definition = plan.request, plan.definition
    with ExitStack() as stack:
        directory = stack.enter_context(files.temporary_directory(request.temporary, keep=request.keep))
        final = directory
        if request.format is Target.SANDBOX:  # on the file system where it is to stay
            final = stack.enter_context(files.temporary_directory(request.target.parent, keep=request.keep))
        if request.keep:
            logger.info("Working directory: %s", directory)
        ground = _ground(plan, directory, stack)
        roots = [directory / f"root-{index}" for index in range(len(definition.stages))]
        roots[-1] = (directory if ground.scratch else final) / "root"
        workspace = Workspace(
            directory=directory,
            final_root=roots[-1],
            architecture=architecture.find(request.architecture),
            cache=request.cache,
            fetch=request.fetch,
        )
        world = keys.World(
            architecture=workspace.architecture.sif,
            one_id=kernel.maps_one_id(),
            marks=layers.marks(),
            epoch=reproducible.source_date_epoch(),
        )
        stacks = [
            Stack(path=path, scratch=ground.scratch, cache=ground.cache, replace=not request.resume) for path in roots
        ]
        for each in stacks:
            stack.callback(each.close)
            each.begin(world.key())
        if request.keep:
            stack.callback(_keep, stacks[-1])
        chain = keys.Keys(request=request, definition=definition, world=world)
        build = _Build(request, definition, workspace, stacks, chain, final / "root")
        for number, step in enumerate(plan.steps, 1):
            on_step(step)
            with console.step(number, len(plan.steps)):
                build.perform(step)
        if ground.cache:
            ground.cache.sweep()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What the root file systems of a build are made of."""

    scratch: Path | None = None  # where layers are made; None: plain directories
    cache: LayerCache | None = None


def _ground(plan: Plan, directory: Path, stack: ExitStack) -> _Ground:
    """Layers where they are of use and can be had: to be kept, or over a directory that need not be copied then."""
    request = plan.request
    kept = request.cache and keys.is_worth_keeping(plan)
    in_place = request.format is not Target.SANDBOX and any(base.is_dir() for base in _bases(plan))
    if not kept and not in_place and not request.writable_tmpfs:
        return _Ground()
    try:
        layers.enter()
    except OSError as error:
        logger.log(VERBOSE, "No layers, and nothing for the cache: no mount namespace: %s", error.strerror)
        return _Ground()
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
            return _Ground(scratch=scratch, cache=layer_cache)
        logger.log(VERBOSE, "Nothing is kept for the next build: no overlay file system in the cache: %s", reason)
    reason = layers.probe(directory)
    if reason:
        logger.log(VERBOSE, "No layers: no overlay file system in %s: %s", directory, reason)
        return _Ground()
    scratch = directory / "layers"
    scratch.mkdir()
    return _Ground(scratch=scratch)


def _bases(plan: Plan) -> list[Path]:
    """The images that the build begins with."""
    request, definition = plan.request, plan.definition
    named = [
        Path(stage.value("from"))
        for index, stage in enumerate(definition.stages)
        if stage.agent == "localimage" and not is_update(request, definition, index)
    ]
    return [*named, *([request.onto] if request.onto else [])]


def _keep(root: Stack) -> None:
    """Leaves a root file system as a directory, for whoever wants to look at it."""
    if root.scratch is None:
        return
    with suppress(SingularityError):
        root.show()
        copied = root.path.with_name("copied")
        _copy_tree(root.path, copied)
        root.close()
        root.path.rmdir()
        copied.rename(root.path)


def _copy_tree(source: Path, target: Path) -> None:
    """All that cp can keep, and where the file system can, without copying data."""
    how = "--archive"
    if kernel.maps_one_id():
        how = "--preserve=mode,timestamps,links,xattr"
    words = ["cp", "--recursive", "--no-dereference", how, "--reflink=auto", "--no-target-directory", "--"]
    with console.working("copying the root file system"):
        process.run([*words, source, target], purpose=f"copy {source}")


_SAID = {
    Action.HOST_SCRIPT: "Running %s on the host",
    Action.BEGIN: "Beginning with %s",
    Action.BOOTSTRAP: "Bootstrapping with %s",
    Action.CONVERT: "Writing %s",
    Action.COPY: "Copying %s",
    Action.SCRIPT: "Running %s",
    Action.TEST: "Running %s",
    Action.PACK: "Writing %s",
    Action.PLACE: "Writing %s",
}


@contextmanager
def _timed(step: Step, stage: str = "") -> Iterator[None]:
    if step.action in _SAID:
        logger.info(stage + _SAID[step.action], step.what)
    start = time.monotonic()
    yield
    what = f"{step.action.value} {step.what}".rstrip()
    logger.log(VERBOSE, "Took %.1f s: %s", time.monotonic() - start, what)


@dataclass(frozen=True, slots=True)
class _Build:
    request: BuildRequest
    definition: Definition
    workspace: Workspace
    stacks: Sequence[Stack]  # of the stages
    keys: keys.Keys
    placed: Path  # where a sandbox gets its name from
    known: dict[int, str | None] = field(default_factory=dict)  # the keys of finished stages
    opened: list[str] = field(default_factory=list)  # by %test, in order

    def perform(self, step: Step) -> None:
        try:
            self.do_or_take(step)
        except (OSError, SingularityError) as error:
            hint = self.full(step)
            if not hint:
                raise
            what = error.what if isinstance(error, SingularityError) else f"{_name(step)}: {error.strerror}"
            raise BuildError(what, hint=hint) from error

    def full(self, step: Step) -> str:
        """What to say when a step may have failed since there was no room."""
        place = self.stacks[step.stage].scratch or self.workspace.directory
        if _is_full(place):
            another = "name another place with --tmpdir, or for layers with SINGULARITY_CACHEDIR"
            return f"no space left in {place.parent}: {another}"
        above = self.placed.parent.parent
        return f"no space left in {above}: make room there, or name another TARGET" if _is_full(above) else ""

    def stage(self, step: Step) -> str:
        """The beginning of a message about a stage, where there are several."""
        stages = self.definition.stages
        return f"Stage {stages[step.stage].name or step.stage + 1}: " if len(stages) > 1 else ""

    def do_or_take(self, step: Step) -> None:
        stack = self.stacks[step.stage]
        match step.action:
            case Action.HOST_SCRIPT if step.script is self.definition.stages[step.stage].pre:
                with _timed(step, self.stage(step)):
                    self.run_on_host(step, stack.path)
            case Action.TEST:
                aside = stack.throwaway() if self.request.writable_tmpfs else nullcontext()
                with _timed(step, self.stage(step)), aside, startup_trace.recording(stack.path, self.opened):
                    self.test(step, stack.path)
            case Action.PACK | Action.PLACE:
                with _timed(step):
                    self.finish(step, stack)
            case _:
                self.change(step, stack)

    def change(self, step: Step, stack: Stack) -> None:
        """A step that changes the root file system, or the layer that an earlier build has of it."""
        key = None
        if stack.key is not None:
            key = self.keys.after(step, stack.key, self.known)
        if stack.take(key):
            level = logging.INFO if step.action in _SAID else VERBOSE
            logger.log(level, "%sUsing the cache: %s", self.stage(step), step.what or _name(step))
            return
        with _timed(step, self.stage(step)):
            base = self.base(step, stack)
            if base:
                stack.begin(key, base)
                return
            with stack.changing(key, _name(step), self.definition.name) as change:
                self.do(step, stack, change)

    def base(self, step: Step, stack: Stack) -> Path | None:
        """A directory that the root file system begins with, where it can be used as it is and need not be copied."""
        if not stack.is_empty:
            return None
        stage = self.definition.stages[step.stage]
        if step.action is Action.BEGIN:
            place = self.request.onto
        elif step.action is Action.BOOTSTRAP and stage.agent == "localimage":
            place = Path(stage.value("from"))
        else:
            return None
        return place if place and place.is_dir() and stack.can_begin_with(place) else None

    def do(self, step: Step, stack: Stack, change: Change) -> None:
        stage, root = self.definition.stages[step.stage], stack.path
        match step.action:
            case Action.HOST_SCRIPT:
                self.run_on_host(step, root)
                if change.content is not None and stack.key is not None:
                    change.key = keys.after_host_script(step, stack.key, change.content)
            case Action.BEGIN if self.request.onto is not None:
                localimage.fill(self.request.onto, root)
            case Action.BOOTSTRAP:
                agents.find(stage, self.definition.name).bootstrap(stage, root, self.workspace)
            case Action.PREPARE:
                self.prepare(stage, root)
            case Action.COPY:
                self.copy(step, root)
            case Action.SCRIPT:
                self.run_in_image(step, root)
            case Action.METADATA:
                self.known[step.stage] = stack.key  # what follows is not kept, but comes of nothing else
                self.write_metadata(step, stage, root)

    def finish(self, step: Step, stack: Stack) -> None:
        """The last step: the root file system gets its place."""
        stack.show()
        if step.action is Action.PACK:
            stage = self.definition.stages[step.stage]
            first = [*self.opened, *startup_trace.opened_by(stack.path, stage, partial(self.start, stack.path))]
            with console.working(f"writing {self.request.target}"):
                targets.write(stack.path, self.request, self.workspace.architecture, read_first=first)
            return
        if self.request.fix_permissions:
            targets.fix_permissions(stack.path)
        if stack.path != self.placed:
            _copy_tree(stack.path, self.placed)
        _place(self.placed, self.request)

    def run_on_host(self, step: Step, root: Path) -> None:
        script = _script(step)
        aside = self.workspace.directory / "host-tmp"
        aside.mkdir(exist_ok=True)
        environment = handed_on() | {
            "SINGULARITY_ROOTFS": str(root),
            "APPTAINER_ROOTFS": str(root),
            "SINGULARITY_BUILDDEF": str(Path(self.definition.name).absolute()),  # the rest as 2.x has it
            "SINGULARITY_IMAGE": str(self.request.target.absolute()),
            "SINGULARITY_CONTAINER": str(self.request.target.absolute()),
            "SINGULARITY_TMPDIR": str(aside),
        }
        path = self.workspace.directory / "host-script"
        lines = checkpoints.lines(script, 0, 1)
        with script_pipe.feeding([_encoded(line.text) for line in lines], path) as fed:
            status = process.attached(["/bin/sh", _shell_options(), *script.arguments, path], environment=environment)
        self.check(step, status, lines[: fed.lines])

    def prepare(self, stage: Stage, path: Path) -> None:
        with Root(path) as root:
            platform_files.prepare(root)
            for app in stage.apps:
                platform_files.lay_out_app(root, app)

    def copy(self, step: Step, path: Path) -> None:
        names = {stage.name: index for index, stage in enumerate(self.definition.stages) if stage.name}
        base = f"/scif/apps/{step.app}" if step.app else ""
        with Root(path) as root, console.working("copying files"):
            for entry in step.copies:
                place = Path("/")
                if entry.stage:
                    other = self.stacks[names[entry.stage]]
                    other.show()
                    place = other.path
                with Root(place) as source_root:
                    source = copies.Source(
                        root=source_root, directory="/" if entry.stage else str(Path.cwd()), follow=not entry.stage
                    )
                    copies.copy(entry, source, root, self.definition.name, below=base)

    def run_in_image(self, step: Step, path: Path) -> None:
        script = _script(step)
        lines = checkpoints.lines(script, step.part, step.parts)
        if step.app:
            place = f"/scif/apps/{step.app}"
            setting = f". {place}/scif/env/01-base.sh; cd {place}\n"
            lines.insert(0, checkpoints.Line(text=setting, number=lines[0].number))
        argv = ["/bin/sh", _shell_options(), *script.arguments]
        if script.arguments[:1] == ("-c",):
            argv = shlex.split(" ".join(script.arguments[1:]))
        with Root(path) as root:
            before = checkpoints.state_files(step.part - 1) if step.part else ()
            if before and not root.is_file(before[0]):
                logger.log(VERBOSE, "%s is left out: the script has ended before", step.what)
                return
            self.run_script(step, path, argv, platform_files.POST_SCRIPT, lines)
            for name in before:
                root.remove(name)

    def run_script(
        self, step: Step, path: Path, argv: Sequence[str], name: str, lines: Sequence[checkpoints.Line]
    ) -> None:
        """Runs a script in the image under the name `name`, which is not there before and after."""
        texts = [_encoded(line.text) for line in lines]
        fed = None
        self.need(step, path, argv[0] if argv else "")
        with Root(path) as root:
            if not argv or not checkpoints.is_shell(argv[0]):
                root.write(name, b"".join(texts), 0o755)
                status = self.run(path, [*argv, name])
            else:
                root.write(name, b"")
                place = self.workspace.directory / "script"
                with script_pipe.feeding(texts, place) as fed:
                    status = self.run(path, [*argv, name], Bind(source=place, target=name))
            self.check(step, status, lines[: fed.lines] if fed else ())
            root.remove(name)

    def write_metadata(self, step: Step, stage: Stage, path: Path) -> None:
        epoch = reproducible.source_date_epoch()
        facts = platform_files.Facts(
            architecture=self.workspace.architecture.sif,
            time=int(time.time()) if epoch is None else epoch,
            overwrite=self.request.overwrite,
            sections=self.request.sections,
        )
        with Root(path) as root:
            platform_files.write(root, self.definition, stage, facts)
            if self.request.reproducible and epoch is not None and step.stage == len(self.stacks) - 1:
                reproducible.clear(root, epoch)

    def test(self, step: Step, path: Path) -> None:
        script = _script(step)
        self.need(step, path, "/bin/sh")
        arguments = [_shell_options(), *self.request.test_arguments]
        if script.interpreter_line not in ("", "#!/bin/sh"):
            self.need(step, path, (script.interpreter_line[2:].split() or [""])[0])
            self.check(step, self.run(path, ["/bin/sh", "-c", scripts.TEST_OTHER_INTERPRETER, *arguments]))
            return
        text = scripts.executable(script)
        lines = checkpoints.lines(script, 0, 1)
        ours = text.count("\n") - len(lines)
        lines = [checkpoints.Line(text=f"{line}\n", number=script.line) for line in text.split("\n")[:ours]] + lines
        place = self.workspace.directory / "script"
        with script_pipe.feeding([_encoded(line.text) for line in lines], place) as fed:
            bind = Bind(source=place, target=_TEST)
            status = self.run(path, ["/bin/sh", "-c", scripts.TEST, *arguments], bind)
        self.check(step, status, lines[: fed.lines])

    def need(self, step: Step, path: Path, program: str) -> None:
        """Raises BuildError for an interpreter that is not in the image; one without a path is looked for later."""
        with Root(path) as root:
            if program.startswith("/") and not self.request.binds and not root.is_file(program):
                what = f"{self.definition.name}:{_script(step).line}: {_section(step)} needs {program}"
                raise BuildError(f"{what}, which is not in the image")

    def run(self, path: Path, argv: list[str], *binds: Bind) -> int:
        request = self.request
        asked = [*gpu.binds(nv=request.nv, rocm=request.rocm), *request.binds]
        environment = {**script_environment(), **reproducible.environment()}
        if request.nv or request.rocm:
            environment["LD_LIBRARY_PATH"] = gpu.LIBRARIES
        with Root(path) as root, mount_points(root, asked):
            own = [*self.network_files(path), *binds, *asked]
            return container.run(path, argv, environment=environment, binds=own)

    def start(self, path: Path, argv: Sequence[str]) -> int:
        """Runs a program in silence, to see what it opens."""
        environment = {**script_environment(), "PYTHONDONTWRITEBYTECODE": "1"}
        return container.run(path, argv, environment=environment, on_line=_unheard)

    def network_files(self, path: Path) -> Iterator[Bind]:
        """Copies of the host's, so that a script that writes to them changes neither the host nor the image."""
        with Root(path) as root:
            for name in _NETWORK_FILES:
                if os.path.exists(name) and root.is_file(name):
                    source = self.workspace.directory / Path(name).name
                    shutil.copyfile(name, source)
                    yield Bind(source=source, target=name)

    def check(self, step: Step, status: int, read: Sequence[checkpoints.Line] = ()) -> None:
        """Raises BuildError for a script that failed, at the command whose line was `read` last."""
        if status:
            how = f"was killed by signal {status - 128}" if status > 128 else f"failed with status {status}"
            lines = str(read[-1].number if read else _script(step).line)
            first = read[script_pipe.first_line([line.text for line in read])].number if read else 0
            if 0 < first < int(lines):
                lines = f"{first}-{lines}"
            what = f"{self.definition.name}:{lines}: {_section(step)} {how}"
            is_inside = step.action is not Action.HOST_SCRIPT
            raise BuildError(what, hint=fakeroot.why_one_id() if is_inside and kernel.maps_one_id() else "")


def _is_full(place: Path) -> bool:
    """Whether a file system has no room, for bytes or for names."""
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize <= _ROOM or (status.f_favail <= _NAMES and status.f_files != 0)


def _name(step: Step) -> str:
    return f"{step.action.value} {step.what}".rstrip()


def _shell_options() -> str:
    """A section ends at the first failure, and its commands are shown as they run, unless less was asked for."""
    return "-ex" if logger.isEnabledFor(logging.INFO) else "-e"


def _section(step: Step) -> str:
    return step.what.partition(" (part ")[0]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _script(step: Step) -> Script:
    if step.script is None:
        raise SingularityError(f"step {step.what} has no script")
    return step.script


def _place(root: Path, request: BuildRequest) -> None:
    """Gives a finished sandbox its name; what had the name goes where the working directory goes."""
    target = request.target
    try:
        if not request.overwrite:
            kernel.rename(root, target, kernel.RENAME_NOREPLACE)
            return
        try:
            kernel.rename(root, target, kernel.RENAME_EXCHANGE)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENOSYS):
                raise
            with suppress(FileNotFoundError):
                target.rename(root.with_name("before"))
            root.rename(target)
    except FileExistsError as error:
        raise FileError(f"{target}: exists, since a moment ago", hint="--force replaces it") from error
    except OSError as error:
        raise FileError.because(target, error) from error
