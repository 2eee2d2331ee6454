"""Carries out the steps of a build. What to do was decided in `plan`; here it is done, and undone when it fails."""

import errno
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from singularity import files, kernel, process
from singularity.build import agents, architecture, container, copies, pack, platform_files, scripts, targets
from singularity.build.agents import localimage
from singularity.build.plan import Action, Plan, Step, is_update
from singularity.build.request import Bind, BuildRequest, Target
from singularity.build.workspace import Workspace, script_environment
from singularity.console import VERBOSE
from singularity.definition.model import Definition, Script, Stage
from singularity.errors import BuildError, FileError, SingularityError
from singularity.image.root import Root

logger = logging.getLogger(__name__)

_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")


def _nothing(step: Step) -> None:
    del step


def perform(plan: Plan, *, on_step: Callable[[Step], None] = _nothing) -> None:
    """Builds the image. The target is whole or as it was, and nothing else is left. Raises SingularityError.

    `on_step` is told of each step before it is done.
    """
    request, definition = plan.request, plan.definition
    files.refuse_target(request.target, overwrite=request.overwrite, directory=request.format is Target.SANDBOX)
    for index, stage in enumerate(definition.stages):
        if not is_update(request, definition, index):
            agents.find(stage, definition.name)
    with ExitStack() as stack:
        directory = stack.enter_context(files.temporary_directory(request.temporary, keep=request.keep))
        final = directory
        if request.format is Target.SANDBOX:  # on the file system where it is to stay
            final = stack.enter_context(files.temporary_directory(request.target.parent, keep=request.keep))
        if request.keep:
            logger.info("Working directory: %s", directory)
        workspace = Workspace(
            directory=directory,
            final_root=final / "root",
            architecture=architecture.host(),
            cache=request.cache,
        )
        build = _Build(request, definition, workspace)
        for step in plan.steps:
            on_step(step)
            with _timed(step):
                build.perform(step)
    logger.info("Build complete: %s", request.target)


_SAID = {
    Action.HOST_SCRIPT: "Running %s on the host",
    Action.BEGIN: "Beginning with %s",
    Action.BOOTSTRAP: "Bootstrapping %s",
    Action.COPY: "Copying %s",
    Action.SCRIPT: "Running %s",
    Action.TEST: "Running %s",
    Action.PACK: "Writing %s",
    Action.PLACE: "Writing %s",
}


@contextmanager
def _timed(step: Step) -> Iterator[None]:
    if step.action in _SAID:
        logger.info(_SAID[step.action], step.what)
    start = time.monotonic()
    yield
    what = f"{step.action.value} {step.what}".rstrip()
    logger.log(VERBOSE, "Took %.1f s: %s", time.monotonic() - start, what)


@dataclass(frozen=True, slots=True)
class _Build:
    request: BuildRequest
    definition: Definition
    workspace: Workspace

    def perform(self, step: Step) -> None:
        stage = self.definition.stages[step.stage]
        root = self.root(step.stage)
        match step.action:
            case Action.HOST_SCRIPT:
                self.run_on_host(step, root)
            case Action.BEGIN:
                self.begin(root)
            case Action.BOOTSTRAP:
                _make_root(root)
                agents.find(stage, self.definition.name).bootstrap(stage, root, self.workspace)
            case Action.PREPARE:
                self.prepare(stage, root)
            case Action.COPY:
                self.copy(step, root)
            case Action.SCRIPT:
                self.run_in_image(step, root)
            case Action.METADATA:
                self.write_metadata(stage, root)
            case Action.TEST:
                self.test(step, root)
            case Action.PACK | Action.PLACE | Action.CONVERT:
                self.finish(step, root)

    def finish(self, step: Step, root: Path) -> None:
        """The last step: the root file system gets its place."""
        if step.action is Action.PACK:
            targets.write(root, self.request, self.workspace.architecture)
        elif step.action is Action.PLACE:
            _place(root, self.request)
        else:
            raise SingularityError(f"{step.what}: not a step of this plan")

    def root(self, index: int) -> Path:
        """The root file system of a stage."""
        if index == len(self.definition.stages) - 1:
            return self.workspace.final_root
        return self.workspace.directory / f"root-{index}"

    def begin(self, root: Path) -> None:
        if self.request.onto is None:
            raise SingularityError("a step without a container to begin with")
        _make_root(root)
        localimage.fill(self.request.onto, root)

    def run_on_host(self, step: Step, root: Path) -> None:
        script = _script(step)
        path = self.workspace.script("host-script", script.body)
        environment = dict(os.environ) | {"SINGULARITY_ROOTFS": str(root), "APPTAINER_ROOTFS": str(root)}
        status = process.attached(["/bin/sh", "-ex", *script.arguments, path], environment=environment)
        self.check(step, status)

    def prepare(self, stage: Stage, path: Path) -> None:
        with Root(path) as root:
            platform_files.prepare(root)
            for app in stage.apps:
                platform_files.lay_out_app(root, app)

    def copy(self, step: Step, path: Path) -> None:
        names = {stage.name: index for index, stage in enumerate(self.definition.stages) if stage.name}
        base = f"/scif/apps/{step.app}" if step.app else ""
        with Root(path) as root:
            for entry in step.copies:
                place = self.root(names[entry.stage]) if entry.stage else Path("/")
                with Root(place) as source_root:
                    source = copies.Source(
                        root=source_root, directory="/" if entry.stage else str(Path.cwd()), follow=not entry.stage
                    )
                    copies.copy(entry, source, root, self.definition.name, below=base)

    def run_in_image(self, step: Step, path: Path) -> None:
        script = _script(step)
        target = platform_files.POST_SCRIPT
        body = script.body
        if step.app:
            place = f"/scif/apps/{step.app}"
            body = f". {place}/scif/env/01-base.sh\ncd {place}\n{body}"
        with Root(path) as root:
            root.write(target, body.encode("utf-8", "surrogateescape"), 0o755)
        argv = ["/bin/sh", "-ex", *script.arguments, target]
        if script.arguments[:1] == ("-c",):
            argv = [*shlex.split(" ".join(script.arguments[1:])), target]
        self.check(step, self.run(path, argv))
        with Root(path) as root:
            root.remove(target)

    def write_metadata(self, stage: Stage, path: Path) -> None:
        epoch = pack.source_date_epoch()
        facts = platform_files.Facts(
            architecture=self.workspace.architecture.sif,
            time=int(time.time()) if epoch is None else epoch,
            overwrite=self.request.overwrite,
            sections=self.request.sections,
        )
        with Root(path) as root:
            platform_files.write(root, self.definition, stage, facts)

    def test(self, step: Step, path: Path) -> None:
        plain = _script(step).interpreter_line in ("", "#!/bin/sh")
        text = scripts.TEST if plain else scripts.TEST_OTHER_INTERPRETER
        self.check(step, self.run(path, ["/bin/sh", "-c", text, "sh", *self.request.test_arguments]))

    def run(self, path: Path, argv: list[str]) -> int:
        return container.run(path, argv, environment=script_environment(), binds=list(self.network_files(path)))

    def network_files(self, path: Path) -> Iterator[Bind]:
        """Copies of the host's, so that a script that writes to them changes neither the host nor the image."""
        with Root(path) as root:
            for name in _NETWORK_FILES:
                if os.path.exists(name) and root.is_file(name):
                    source = self.workspace.directory / Path(name).name
                    shutil.copyfile(name, source)
                    yield Bind(source=source, target=name)

    def check(self, step: Step, status: int) -> None:
        if status:
            how = f"was killed by signal {status - 128}" if status > 128 else f"failed with status {status}"
            raise BuildError(f"{self.definition.name}:{_script(step).line}: {step.what} {how}")


def _make_root(root: Path) -> None:
    root.mkdir(exist_ok=True)
    root.chmod(0o755)


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
