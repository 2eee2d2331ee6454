"""The steps of a build. Each is an object that holds its data, says what it does, and does it.

`filesystem` has those that fill and change a root file system, `scripts` those that run a section, and `target` those
that make what was asked for. Here is what they have in common: a plan, and the build that carries it out.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from singularity import digest
from singularity.build.layers import Stack
from singularity.build.request import BuildRequest
from singularity.build.workspace import Workspace
from singularity.definition.model import Definition, Stage
from singularity.errors import DefinitionError, ImageError
from singularity.foreign_json import parse_json
from singularity.oci.container import CONFIG_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(ABC):
    """One thing to be done, and why."""

    name: ClassVar[str]  # of the kind: for programs, and in the keys of the cache
    verb: ClassVar[str]  # what it does, for people
    begun: ClassVar[str] = ""  # what the log says of `what` at the beginning; empty: nothing

    what: str = ""  # for people, after the verb
    reason: str
    stage: int  # index of the stage that it belongs to
    app: str = ""  # the application whose script or files these are

    def __str__(self) -> str:
        return f"{self.verb} {self.what}".rstrip()

    def lines(self) -> Iterator[str]:
        """What a dry run shows below it."""
        return iter(())

    def values(self) -> Mapping[str, object]:
        """What a dry run says of it to programs, beside what it says of every step."""
        return {}

    def check_tools(self, plan: "Plan") -> None:
        """Raises ToolError or BuildError for a program of the host that is not there."""
        del plan

    def missing_files(self, plan: "Plan") -> Iterator[DefinitionError]:
        """An error for each line of the definition that names a file of the host that is not there."""
        del plan
        return iter(())

    def host_files(self, plan: "Plan") -> Iterator[tuple[str, str]]:
        """What it takes of the host's files, as far as that is known before: names, and digests of what is there.

        Raises SingularityError for those that cannot be read.
        """
        del plan
        return iter(())

    @abstractmethod
    def perform(self, build: "Build") -> None:
        """Does it. Raises SingularityError and OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Step):
    """A step that changes the root file system; an earlier build may have left the same change in the cache."""

    counts: ClassVar[bool] = True  # whether what it makes is part of the stage that others refer to

    def is_idle(self, plan: "Plan") -> bool:
        """Whether it has nothing to do, as far as is known."""
        del plan
        return False

    def waits(self, plan: "Plan") -> bool:
        """Whether its key depends on that of an earlier stage, or on an image, which is not known yet."""
        del plan
        return False

    def begins_like(self, plan: "Plan") -> int | None:
        """The index of the stage whose root file system it begins with, if any."""
        del plan
        return None

    def inputs(self, plan: "Plan") -> Sequence[object] | None:
        """All that its result depends on; None when that is known only when it is done, or never.

        Raises SingularityError for sources that cannot be read.
        """
        del plan
        return None

    def key(self, parent: str, plan: "Plan") -> str | None:
        """The key of what it makes of the layers whose key is `parent`; None and errors as `inputs` has them."""
        inputs = self.inputs(plan)
        return None if inputs is None else digest.of_words(parent, self.name.upper(), self.app, *inputs)

    def key_of_result(self, parent: str, changes: Path) -> str | None:
        """The same, found out from the directory with its changes when it is done."""
        del parent, changes
        return None

    def base(self) -> Path | None:
        """The directory whose content it copies: it can be the lowest layer, and need not be copied then."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole build."""

    request: BuildRequest
    definition: Definition
    steps: tuple[Step, ...]
    keys: dict[int, str | None] = field(default_factory=dict)  # of the stages whose root file systems are known so far
    configs: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # what stages begin with, as far as is known
    indexes: dict[str, int] = field(default_factory=dict)  # of stages, by name

    @property
    def bootstrapped(self) -> Sequence[Stage]:
        """The stages whose header counts; in an update, the root file system of the last is there already."""
        stages = self.definition.stages
        return [
            each for each in (stages[:-1] if self.request.update else stages) if not (each.recipe and each.recipe.base)
        ]

    @property
    def bases(self) -> Sequence[Path]:
        """The images that the build begins with."""
        named = [Path(stage.value("from")) for stage in self.bootstrapped if stage.agent == "localimage"]
        return [*named, *([self.request.onto] if self.request.onto else [])]

    def config(self, stage: int) -> Mapping[str, Any] | None:
        """The configuration of the image that a stage begins with; None where nobody knows it yet."""
        return self.configs.get(stage)

    def stage_index(self, name: str) -> int:
        """Which stage has this name; one must have it."""
        if not self.indexes:
            self.indexes.update((stage.name, index) for index, stage in enumerate(self.definition.stages))
        return self.indexes[name]


def base_config(data: bytes | None, name: str) -> Mapping[str, Any]:
    """The configuration that an image's own file has; `name` stands in messages. Raises ImageError."""
    found = parse_json(data) if data else {}
    if not isinstance(found, dict):
        raise ImageError(f"{name}: its configuration is none")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Build(Plan):
    """A plan that is being carried out, and what its steps share."""

    workspace: Workspace
    stacks: Sequence[Stack]  # the root file systems of the stages
    placed: Path  # where a sandbox is before it gets its name
    opened: list[str] = field(default_factory=list)  # the files that %test opened, in order

    def config(self, stage: int) -> Mapping[str, Any]:
        """The configuration of the image that a stage begins with. Raises ImageError and OSError."""
        if stage not in self.configs:
            self.configs[stage] = base_config(self.stacks[stage].read(CONFIG_FILE), self.definition.stages[stage].name)
        return self.configs[stage]

    def root(self, step: Step) -> Path:
        """The root file system that a step works on."""
        return self.stacks[step.stage].path
