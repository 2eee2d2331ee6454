"""Keys of layers: digests of all that a step's result comes from, chained from the stage's beginning."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from singularity import __version__, digest
from singularity.build import agents, copies
from singularity.build.agents import localimage
from singularity.build.plan import Action, Plan, Step
from singularity.build.request import BuildRequest
from singularity.cache.layer_store import FORMAT
from singularity.definition.model import Definition
from singularity.image.root import Root


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all layers of a build depend on."""

    architecture: str
    one_id: bool  # whether everything in the image belongs to root, since the builder has no other ids
    marks: str  # see `layers.marks`
    epoch: int | None  # SOURCE_DATE_EPOCH, which scripts see

    def key(self) -> str:
        """Of an empty root file system."""
        return digest.of_words("layers", FORMAT, __version__, asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of one build's steps."""

    request: BuildRequest
    definition: Definition
    world: World

    def after(self, step: Step, parent: str, stages: Mapping[int, str | None]) -> str | None:
        """The key of what a step makes of `parent`; None when that cannot be said before it is done, or not at all.

        `stages` are the keys of the stages before. Raises SingularityError for sources that cannot be read.
        """
        inputs = self._inputs(step, stages)
        return None if inputs is None else digest.of_words(parent, step.action.name, step.app, *inputs)

    def is_directory(self, step: Step) -> bool:
        """Whether a step begins with a directory, which is used where it is and never kept."""
        if step.action is Action.BEGIN:
            return self.request.onto is not None and self.request.onto.is_dir()
        stage = self.definition.stages[step.stage]
        is_image = step.action is Action.BOOTSTRAP and stage.agent == "localimage"
        return is_image and Path(stage.value("from")).is_dir()

    def _inputs(self, step: Step, stages: Mapping[int, str | None]) -> list[object] | None:
        match step.action:
            case Action.BEGIN if self.request.onto is not None:
                source = localimage.digest(self.request.onto)
                return None if source is None else [source]
            case Action.BOOTSTRAP:
                return self._bootstrap(step)
            case Action.PREPARE:
                return [[app.name for app in self.definition.stages[step.stage].apps]]
            case Action.COPY:
                return self._copies(step, stages)
            case Action.SCRIPT if step.script is not None:
                binds = [(str(bind.source), bind.target, bind.writable) for bind in self.request.binds]
                devices = [self.request.nv, self.request.rocm]
                return [step.script.body, list(step.script.arguments), step.part, step.parts, binds, devices]
            case _:
                return None

    def _bootstrap(self, step: Step) -> list[object] | None:
        stage = self.definition.stages[step.stage]
        source = agents.source_digest(stage, self.definition.name, self.request.fetch)
        if source is None:
            return None
        header = sorted((keyword, field.value) for keyword, field in stage.header.items() if keyword != "stage")
        return [header, source, stage.pre.body if stage.pre else ""]

    def _copies(self, step: Step, stages: Mapping[int, str | None]) -> list[object] | None:
        names = {stage.name: index for index, stage in enumerate(self.definition.stages) if stage.name}
        found: list[object] = []
        with Root("/") as host:
            source = copies.Source(root=host, directory=str(Path.cwd()), follow=True)
            for entry in step.copies:
                what = (
                    stages.get(names[entry.stage])
                    if entry.stage
                    else copies.digest(entry, source, self.definition.name)
                )
                if what is None:
                    return None
                found.append((entry.source, entry.target, entry.stage, what))
        return found


def is_worth_keeping(plan: Plan) -> bool:
    """Whether a later build could do without a step; an image is unpacked as fast as it would be kept."""
    quick = ("localimage", "scratch")
    return any(
        step.action in (Action.SCRIPT, Action.COPY)
        or (step.action is Action.BOOTSTRAP and plan.definition.stages[step.stage].agent not in quick)
        for step in plan.steps
    )


def after_host_script(step: Step, parent: str, changes: Path) -> str:
    """The key of what a script on the host, whose inputs nobody knows, made of `parent`: by what it left."""
    text = step.script.body if step.script else ""
    return digest.of_words(parent, step.action.name, text, digest.by_content(changes))
