"""Steps that carry out the instructions of a Dockerfile: those that change files, and one that notes all the rest.

What ENV, USER and the like say is found out anew for each step, from the base image's configuration and the
instructions above: a step from the cache needs nothing of an earlier step but its layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from singularity import console
from singularity.build.agents import localimage
from singularity.build.dockerfile import copy, run, sources
from singularity.build.dockerfile.copy import Opener
from singularity.build.steps import Build, Change, Plan
from singularity.definition.dockerfile import mounts
from singularity.definition.dockerfile.parse import trigger
from singularity.definition.dockerfile.state import CHANGING, State, after
from singularity.definition.model import Instruction, Recipe
from singularity.errors import DefinitionError, FileError
from singularity.image import origin
from singularity.image.root import Root
from singularity.oci import container

_SHOWN = 72  # characters of an instruction in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginLike(Change):
    """The root file system of an earlier stage."""

    name = "begin_like"
    verb = "begin with stage"
    begun = "Beginning with stage %s"

    def begins_like(self, plan: Plan) -> int | None:
        """That stage."""
        return plan.stage_index(self.what)

    def inputs(self, plan: Plan) -> Sequence[object] | None:
        """The key of that stage."""
        key = plan.keys.get(plan.stage_index(self.what))
        return None if key is None else [key]

    def perform(self, build: Build) -> None:
        """Copies it, where it is not made of layers alone, which are used as they are."""
        other = build.stacks[build.stage_index(self.what)]
        other.show()
        with console.working(f"copying stage {self.what}"):
            localimage.copy_tree(other.path, build.root(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructed(Change):
    """What steps of a Dockerfile have in common."""

    begun = "%s"

    recipe: Recipe

    def triggers(self, plan: Plan) -> Sequence[Instruction]:
        """What the base image has ONBUILD for, as instructions of this stage."""
        config, stage = plan.config(self.stage), plan.definition.stages[self.stage]
        found = (config or {}).get("OnBuild") or []
        line = stage.line
        return [trigger(_onbuild(str(text), self.recipe.file, line)) for text in found]

    def state(self, plan: Plan, before: Sequence[Instruction]) -> State:
        """The image after these instructions."""
        return after(plan.config(self.stage) or {}, self.recipe, before)

    def openers(self, plan: Plan) -> Mapping[str, Opener]:
        """The context, under the empty name, and the stages that are referred to."""
        return _Openers(plan, self.recipe)

    def inputs_of(self, plan: Plan, instruction: Instruction, before: Sequence[Instruction]) -> list[object] | None:
        """All that one instruction depends on beside what was there before; None where that is not known."""
        state = self.state(plan, before)
        named = [plan.keys.get(plan.stage_index(self.recipe.stages[name])) for name in _stages_of(instruction)]
        if None in named:
            return None
        openers = self.openers(plan)
        found: list[object] = [instruction.name, named, _requested(plan, instruction)]
        if instruction.name in ("COPY", "ADD"):
            copying = copy.understood(instruction, state)
            found += copying.words
            if not instruction.flag("from"):  # a stage is known by its key: its files may not be there yet
                found += copy.inputs(copying, openers[""])
        elif instruction.name == "RUN":
            command = run.understood(instruction, state)
            found += [*command.words, *run.inputs(command, openers)]
        else:
            state.apply(instruction)
            found += [state.directory, state.raw.get("User")]
        return found

    def carry_out(self, build: Build, instruction: Instruction, before: Sequence[Instruction]) -> None:
        """Does what an instruction says to files."""
        state, root, openers = self.state(build, before), build.root(self), self.openers(build)
        scratch = build.workspace.directory
        if instruction.name == "RUN":
            copy.make_directory(instruction, root, state.directory)  # a base image may say one that it has not
            run.perform(run.understood(instruction, state), root, build.request, scratch, openers)
        elif instruction.name == "WORKDIR":
            state.apply(instruction)
            copy.make_directory(instruction, root, state.directory, str(state.raw.get("User") or ""))
        else:
            with console.working("copying files"):
                copy.perform(copy.understood(instruction, state), openers[instruction.flag("from")], root, scratch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruct(Instructed):
    """One instruction that changes files."""

    name = "instruction"
    verb = "carry out"

    number: int  # of the recipe's instructions, from 0

    def __str__(self) -> str:
        return self.what

    @property
    def instruction(self) -> Instruction:
        """The instruction itself."""
        return self.recipe.instructions[self.number]

    def before(self, plan: Plan) -> Sequence[Instruction]:
        """All that were carried out above it."""
        return [*self.triggers(plan), *self.recipe.instructions[: self.number]]

    def values(self) -> Mapping[str, object]:
        """The whole instruction."""
        documents = [each.body for each in self.instruction.documents]
        return {"instruction": str(self.instruction), "documents": documents}

    def takes_files(self) -> bool:
        """Whether it takes files of the context, in whose names no variable stands."""
        each = self.instruction
        return each.name in ("COPY", "ADD") and not each.flag("from") and "$" not in each.text

    def host_files(self, plan: Plan) -> Iterator[tuple[str, str]]:
        """Sources in the context."""
        if not self.takes_files():
            return
        copying = copy.understood(self.instruction, self.state(plan, self.before(plan)))
        with self.openers(plan)[""]() as source, copy.explained(self.instruction):
            for word in copying.sources:
                if not copy.remote(self.instruction, word):
                    for name in copy.found(copying, source, word):
                        yield name, sources.digest(source, name, copying.excluded)

    def missing_files(self, plan: Plan) -> Iterator[DefinitionError]:
        """Sources in the context."""
        instruction = self.instruction
        if not self.takes_files():
            return
        try:
            copying = copy.understood(instruction, self.state(plan, self.before(plan)))
            with self.openers(plan)[""]() as source:
                for word in copying.sources:
                    if not copy.remote(instruction, word):
                        copy.found(copying, source, word)
        except DefinitionError as error:
            yield error

    def waits(self, plan: Plan) -> bool:
        """Whether a stage that it takes files from is not known yet."""
        return any(
            plan.keys.get(plan.stage_index(self.recipe.stages[name])) is None for name in _stages_of(self.instruction)
        )

    def inputs(self, plan: Plan) -> Sequence[object] | None:
        """What it does, with all variables filled in, and the files it takes."""
        return self.inputs_of(plan, self.instruction, self.before(plan))

    def perform(self, build: Build) -> None:
        """Carries it out."""
        self.carry_out(build, self.instruction, self.before(build))


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers(Instructed):
    """All that the base image has ONBUILD for."""

    name = "triggers"
    verb = "carry out"
    begun = "Carrying out %s"

    def is_idle(self, plan: Plan) -> bool:
        """Most images have none."""
        return plan.config(self.stage) is not None and not self.triggers(plan)

    def inputs(self, plan: Plan) -> Sequence[object] | None:
        """Those of each instruction; None while the base image is not there."""
        if plan.config(self.stage) is None:
            return None
        triggers, found = self.triggers(plan), []
        for number, each in enumerate(triggers):
            if each.name in CHANGING:
                found.append(self.inputs_of(plan, each, triggers[:number]))
        return None if None in found else found

    def waits(self, plan: Plan) -> bool:
        """Whether the base image is not there yet."""
        return plan.config(self.stage) is None

    def perform(self, build: Build) -> None:
        """Carries them out, one after the other."""
        triggers = self.triggers(build)
        for number, each in enumerate(triggers):
            if each.name in CHANGING:
                self.carry_out(build, each, triggers[:number])


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure(Instructed):
    """What the instructions say of the image, as files: in the same way as for images of registries."""

    name = "configure"
    verb = "note"
    begun = ""

    def is_idle(self, plan: Plan) -> bool:
        """Many inner stages say nothing new of the image; more layers than needed are in the way of others."""
        known = plan.config(self.stage)
        return self.recipe.is_inner and known is not None and self.final(plan).raw == known

    def inputs(self, plan: Plan) -> Sequence[object] | None:
        """All instructions, and the values that they are filled in with."""
        state = self.final(plan)
        return [[each.words for each in self.recipe.instructions], sorted(state.arguments.items())]

    def final(self, plan: Plan) -> State:
        """The image after all instructions."""
        return self.state(plan, [*self.triggers(plan), *self.recipe.instructions])

    def perform(self, build: Build) -> None:
        """Writes the files."""
        raw, architecture = self.final(build).raw, build.workspace.architecture.sif
        with FileError.about(build.root(self), inner=True), Root(build.root(self)) as root:
            container.write(root, container.configured(raw, architecture, self.recipe.file, origin.read(root)))


def shown(instruction: Instruction) -> str:
    """An instruction in one line of a message."""
    text = " ".join(str(instruction).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _onbuild(text: str, file: str, line: int) -> Instruction:
    return Instruction(name="ONBUILD", text=text, file=file, line=line)


def _stages_of(instruction: Instruction) -> list[str]:
    """The names that it has for stages and images."""
    if instruction.name == "COPY":
        return [instruction.flag("from")] if instruction.flag("from") else []
    if instruction.name != "RUN":
        return []
    found = [mounts.parse(instruction, text).stage for flag, text in instruction.flags if flag == "mount"]
    return [name for name in found if name]


def _requested(plan: Plan, instruction: Instruction) -> list[object]:
    """What RUN sees of the host beside its mounts."""
    if instruction.name != "RUN":
        return []
    request = plan.request
    return [[(str(each.source), each.target, each.writable) for each in request.binds], request.nv, request.rocm]


class _Openers(Mapping[str, Opener]):
    """Sources by the names that instructions have for them."""

    def __init__(self, plan: Plan, recipe: Recipe) -> None:
        self.plan = plan
        self.recipe = recipe

    def __getitem__(self, name: str) -> Opener:
        if not name:
            return partial(sources.context, self.recipe.context, self.recipe.ignored, self.plan.request.target)
        if not isinstance(self.plan, Build):
            raise KeyError(name)
        stack = self.plan.stacks[self.plan.stage_index(self.recipe.stages[name])]
        stack.show()
        return partial(sources.stage, stack.path, name)

    def __iter__(self) -> Iterator[str]:
        return iter(["", *self.recipe.stages])

    def __len__(self) -> int:
        return 1 + len(self.recipe.stages)
