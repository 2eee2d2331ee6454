"""Steps that make what was asked for: of a root file system, or straight from another image."""

import errno
import logging
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from singularity import console, kernel
from singularity.build import agents, container, main_programs, pack, startup_trace, targets
from singularity.build.agents import installer, localimage
from singularity.build.request import BuildRequest, Target
from singularity.build.steps import Build, Plan, Step
from singularity.build.workspace import script_environment
from singularity.cache import packed_store
from singularity.cache import places as caches
from singularity.errors import FileError
from singularity.image.identify import identify
from singularity.image.root import Root
from singularity.transports import Transport

logger = logging.getLogger(__name__)

WATCH = 20  # seconds
_PACKERS = {Target.SIF: "mksquashfs", Target.SQUASHFS: "mksquashfs", Target.EXT3: "mke2fs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack(Step):
    """A file of the root file system."""

    name = "pack"
    verb = "pack"
    begun = "Writing %s"

    def check_tools(self, plan: Plan) -> None:
        """What writes the format."""
        packer = "mkfs.erofs" if plan.request.makes_erofs else _PACKERS.get(plan.request.format)
        if packer:
            installer.find_first((packer,), purpose=f"write {plan.request.target}")

    def perform(self, build: Build) -> None:
        """Packs it, the files that a start opens beside each other."""
        root = build.root(self)

        def start(argv: Sequence[str], seconds: int) -> int:
            return container.watched(root, argv, environment=script_environment(), seconds=seconds)

        build.stacks[self.stage].show()
        laid_out = build.request.format in (Target.SIF, Target.SQUASHFS) and not build.request.makes_erofs
        seconds = WATCH if build.request.watch is None else build.request.watch
        commands = self.starts(build) if seconds and laid_out else []
        first = [*build.opened, *startup_trace.opened_by(root, commands, start, seconds)]
        with console.working(f"writing {build.request.target}"):
            targets.write(root, build.request, build.workspace.architecture, read_first=first)

    def starts(self, build: Build) -> Sequence[Sequence[str]]:
        """What is started to see which files it opens.

        Of the same inputs the same image has to come where that was asked for: clocks have no say then, and what they
        would end is left out unless somebody wants it.
        """
        commands = list(startup_trace.commands_of(build.definition.stages[self.stage]))
        if build.request.watch is not None or pack.source_date_epoch() is None:
            with Root(build.root(self)) as root:
                commands += main_programs.starts(root, build.opened)
        return commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Step):
    """The root file system as a directory."""

    name = "place"
    verb = "put in place"
    begun = "Writing %s"

    def perform(self, build: Build) -> None:
        """Gives it its name, as a copy where it is made of layers."""
        root = build.root(self)
        build.stacks[self.stage].show()
        if build.request.fix_permissions:
            targets.fix_permissions(root)
        if root != build.placed:
            with console.working("copying the root file system"):
                localimage.copy_tree(root, build.placed)
        programs = targets.disarm(build.placed) if build.request.by_user else 0
        if programs and build.request.keep_owners:
            logger.info("setuid and setgid bits are left out of %d programs: others could start them as you", programs)
        if build.request.by_user and not build.request.keep_owners:
            targets.give_to_caller(build.placed)
        elif build.request.by_user and targets.has_owners(build.placed):
            target = shlex.quote(str(build.request.target))
            logger.info("Files in it belong to your subordinate ids; this removes it: singularity remove %s", target)
        _rename(build.placed, build.request)


def _rename(root: Path, request: BuildRequest) -> None:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Convert(Step):
    """An image in another format, without a root file system on disk; the only step of its build."""

    name = "convert"
    verb = "convert"
    begun = "Writing %s"

    def perform(self, build: Plan) -> None:
        """Streams the source into the target: nothing is shared with other steps, so that the plan is enough."""
        from singularity.build import convert

        request, stage = build.request, build.definition.stages[0]
        with console.working(f"writing {request.target}"):
            if stage.agent not in agents.LAYERED:
                convert.perform(identify(Path(request.source)), request)
                return
            agent = cast("agents.LayeredAgent", agents.find(stage, build.definition.name))
            fetch = request.fetch._replace(architecture=request.fetch.architecture or request.architecture)
            keeps = stage.agent == Transport.DOCKER.value and convert.packs(request)
            packed = caches.find(fetch.cache).place(packed_store.PLACE) if keeps else None
            with agent.opened(stage, fetch._replace(temporary=request.temporary, packed=packed)) as found:
                convert.convert_oci(found, request, packed=packed)
