"""Steps that fill a root file system, and write into it what is not left to scripts."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from singularity import console
from singularity.build import agents, copies, platform_files, reproducible
from singularity.build.agents import debootstrap, installer, localimage
from singularity.build.steps import Build, Change, Plan
from singularity.definition.model import App, Copy, Stage
from singularity.errors import DefinitionError
from singularity.image.root import Root
from singularity.sources.fetch import Fetch

_OF_DEBIAN = frozenset({"debootstrap", "mmdebstrap"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Change):
    """The content of a container that is there already."""

    name = "begin"
    verb = "begin with"
    begun = "Beginning with %s"

    onto: Path

    def inputs(self, plan: Plan) -> Sequence[object] | None:
        """The image as it is now."""
        del plan
        source = localimage.digest(self.onto)
        return None if source is None else [source]

    def base(self) -> Path | None:
        """The container, if it is a directory."""
        return self.onto if self.onto.is_dir() else None

    def perform(self, build: Build) -> None:
        """Copies or unpacks it."""
        localimage.fill(self.onto, build.root(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap(Change):
    """What the header of a stage asks for; an agent does it."""

    name = "bootstrap"
    verb = "bootstrap with"
    begun = "Bootstrapping with %s"

    asked: Stage  # whose header it is

    def check_tools(self, plan: Plan) -> None:
        """What the agent starts."""
        del plan
        agent = self.asked.agent
        tools = agents.AGENTS[agent].tools
        if tools:
            purpose = debootstrap.PURPOSE if agent in _OF_DEBIAN else "install the packages"
            installer.find_first(tools, purpose=purpose)
        if agent == "debootstrap":
            debootstrap.require_script(self.asked)

    def missing_files(self, plan: Plan) -> Iterator[DefinitionError]:
        """The image that `From` names."""
        if self.asked.agent == "localimage":
            field = self.asked.header["from"]
            try:
                Path(field.value).stat()
            except OSError as error:
                what = f"From: {field.value}: {error.strerror}"
                yield DefinitionError(what, name=plan.definition.name, line=field.line)

    def inputs(self, plan: Plan) -> Sequence[object] | None:
        """The header, what its source is now, and what was to prepare the host."""
        stage = self.asked
        source = agents.source_digest(stage, plan.definition.name, _fetch(plan.request.fetch, stage))
        if source is None:
            return None
        header = sorted((keyword, field.value) for keyword, field in stage.header.items() if keyword != "stage")
        more = [stage.architecture] if stage.architecture else []
        return [header, source, stage.pre.body if stage.pre else "", *more]

    def base(self) -> Path | None:
        """The image, if it is a directory."""
        place = Path(self.asked.value("from"))
        plain = self.asked.agent == "localimage" and "fingerprints" not in self.asked.header
        return place if plain and place.is_dir() else None

    def perform(self, build: Build) -> None:
        """Starts the agent."""
        agent = agents.find(self.asked, build.definition.name)
        workspace = replace(build.workspace, fetch=_fetch(build.workspace.fetch, self.asked))
        agent.bootstrap(self.asked, build.root(self), workspace)


def _fetch(fetch: Fetch, stage: Stage) -> Fetch:
    """How images are fetched, for the architecture of a stage where that has one of its own."""
    return fetch._replace(architecture=stage.architecture, variant="") if stage.architecture else fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare(Change):
    """Directories and files that launches and scripts expect."""

    name = "prepare"
    verb = "make what launches and scripts expect"

    apps: tuple[App, ...]

    def inputs(self, plan: Plan) -> Sequence[object] | None:
        """The names of the applications."""
        del plan
        return [[app.name for app in self.apps]]

    def perform(self, build: Build) -> None:
        """Makes what is missing of them."""
        with Root(build.root(self)) as root:
            platform_files.prepare(root)
            for app in self.apps:
                platform_files.lay_out_app(root, app)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFiles(Change):
    """Lines of `%files` and `%appfiles`."""

    name = "copy"
    verb = "copy files"
    begun = "Copying %s"

    copies: tuple[Copy, ...]

    def lines(self) -> Iterator[str]:
        """Each line of the section."""
        for copy in self.copies:
            yield f"{copy.source} -> {copy.target}" if copy.target else copy.source

    def values(self) -> Mapping[str, object]:
        """Each line of the section."""
        return {
            "copies": [
                {"source": copy.source, "target": copy.target or copy.source, "stage": copy.stage}
                for copy in self.copies
            ]
        }

    def missing_files(self, plan: Plan) -> Iterator[DefinitionError]:
        """Sources on the host."""
        if any(copy.stage for copy in self.copies):
            return
        with copies.source(None) as source:
            for copy in self.copies:
                try:
                    copies.check(copy, source, plan.definition.name)
                except DefinitionError as error:
                    yield error

    def host_files(self, plan: Plan) -> Iterator[tuple[str, str]]:
        """Each line."""
        with copies.source(None) as source:
            for copy in self.copies:
                if not copy.stage:
                    yield copy.source, copies.digest(copy, source, plan.definition.name)

    def waits(self, plan: Plan) -> bool:
        """Whether its key depends on that of an earlier stage, which is not known yet."""
        return any(copy.stage and plan.keys.get(plan.stage_index(copy.stage)) is None for copy in self.copies)

    def inputs(self, plan: Plan) -> Sequence[object] | None:
        """The lines, with all that the host has there, and the keys of the stages that they name."""
        if self.waits(plan):
            return None
        found = []
        with copies.source(None) as source:
            for copy in self.copies:
                what = (
                    plan.keys[plan.stage_index(copy.stage)]
                    if copy.stage
                    else copies.digest(copy, source, plan.definition.name)
                )
                found.append((copy.source, copy.target, copy.stage, what))
        return found

    def perform(self, build: Build) -> None:
        """Copies line after line."""
        below = f"/scif/apps/{self.app}" if self.app else ""
        with Root(build.root(self)) as root, console.working("copying files"):
            for copy in self.copies:
                stage = build.stacks[build.stage_index(copy.stage)] if copy.stage else None
                if stage:
                    stage.show()
                with copies.source(stage.path if stage else None) as source:
                    copies.copy(copy, source, root, build.definition.name, below=below)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata(Change):
    """What the image says about itself, in /.singularity.d."""

    name = "metadata"
    verb = "write /.singularity.d"
    counts = False

    def perform(self, build: Build) -> None:
        """Writes it, with the time of the build, for which it is never kept; clears what is different each day."""
        request, epoch = build.request, reproducible.source_date_epoch()
        facts = platform_files.Facts(
            architecture=build.workspace.architecture.sif,
            time=int(time.time()) if epoch is None else epoch,
            overwrite=request.overwrite,
            sections=request.sections,
        )
        with Root(build.root(self)) as root:
            platform_files.write(root, build.definition, build.definition.stages[self.stage], facts)
            if request.reproducible and epoch is not None and self.stage == len(build.stacks) - 1:
                reproducible.clear(root, epoch)
