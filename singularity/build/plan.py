"""From a request and a definition to the steps of a build; nothing is done here, and images are only looked at."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from singularity.build import agents, checkpoints
from singularity.build.request import BuildRequest, Target
from singularity.definition.model import Copy, Definition, Script, Stage
from singularity.errors import DefinitionError
from singularity.image.identify import identify


class Action(Enum):
    """The kinds of steps."""

    HOST_SCRIPT = "run on the host"
    BEGIN = "begin with"
    BOOTSTRAP = "bootstrap with"
    PREPARE = "make what launches and scripts expect"
    COPY = "copy files"
    SCRIPT = "run in the image"
    METADATA = "write /.singularity.d"
    TEST = "test"
    PACK = "pack"
    PLACE = "put in place"
    CONVERT = "convert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to be done, and why."""

    action: Action
    what: str  # for people, after the action
    reason: str
    stage: int  # index of the stage that it belongs to
    script: Script | None = None
    copies: tuple[Copy, ...] = ()
    app: str = ""  # the application whose script or files these are
    part: int = 0  # of a script with checkpoints, counted from 0
    parts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole build."""

    request: BuildRequest
    definition: Definition
    steps: tuple[Step, ...]


def plan(request: BuildRequest, definition: Definition) -> Plan:
    """The steps of a build, in order. Raises DefinitionError when stages are named that come later, or not at all."""
    if _is_conversion(request, definition):
        reason = "an image as it is: nothing to unpack"
        step = Step(action=Action.CONVERT, what=f"{request.source} to {request.target}", reason=reason, stage=0)
        return Plan(request=request, definition=definition, steps=(step,))
    steps: list[Step] = []
    for index, stage in enumerate(definition.stages):
        _check_stages(definition, index)
        steps += _stage_steps(request, definition, index, stage)
    last = len(definition.stages) - 1
    action = Action.PLACE if request.format is Target.SANDBOX else Action.PACK
    steps.append(Step(action=action, what=str(request.target), reason=_FORMATS[request.format], stage=last))
    return Plan(request=request, definition=definition, steps=tuple(steps))


_FORMATS = {
    Target.SIF: "default: a SIF file",
    Target.SANDBOX: "--sandbox: a directory",
    Target.SQUASHFS: "a squashfs file",
    Target.EXT3: "an ext3 image",
    Target.TAR: "a tar archive",
}


def _is_conversion(request: BuildRequest, definition: Definition) -> bool:
    """Whether an image is only to get another format, which needs no root file system on disk."""
    stage = definition.stages[0]
    from singularity.build import convert

    if stage.agent in agents.LAYERED:
        place = stage.value("from")
        return request.source in (f"{stage.agent}:{place}", f"{stage.agent}://{place}") and convert.can_stream_layers(
            request
        )
    if definition.name != request.source or stage.agent != "localimage" or stage.value("from") != request.source:
        return False
    return convert.can_stream(identify(Path(request.source)), request)


def is_update(request: BuildRequest, definition: Definition, index: int) -> bool:
    """Whether the header of a stage means nothing: its root file system is there already."""
    return request.update and index == len(definition.stages) - 1


def _check_stages(definition: Definition, index: int) -> None:
    earlier = [stage.name for stage in definition.stages[:index] if stage.name]
    for copy in definition.stages[index].files:
        if copy.stage and copy.stage not in earlier:
            what = f'%files: no earlier stage "{copy.stage}"'
            hint = f"earlier stages: {', '.join(earlier)}" if earlier else "a stage is named with a line Stage: NAME"
            raise DefinitionError(what, name=definition.name, line=copy.line, hint=hint)


def _root_steps(request: BuildRequest, definition: Definition, index: int) -> Iterator[Step]:
    """What a stage's sections find when they begin."""
    header = definition.stages[index].header

    def step(action: Action, what: str, reason: str) -> Step:
        return Step(action=action, what=what, reason=reason, stage=index)

    if request.onto is not None and index == len(definition.stages) - 1:
        yield step(Action.BEGIN, str(request.onto), "--update" if request.update else "it is there")
    if not is_update(request, definition, index):
        field = header["bootstrap"]
        yield step(Action.BOOTSTRAP, field.value.lower(), f"{definition.name}:{field.line}")
    yield step(Action.PREPARE, "", "default")


def _stage_steps(request: BuildRequest, definition: Definition, index: int, stage: Stage) -> Iterator[Step]:
    """The order is that of the family: later steps see what earlier ones left."""
    wanted = request.sections

    def where(line: int) -> str:
        return f"{definition.name}:{line}"

    def script(section: str, action: Action, name: str, body: Script | None, app: str = "") -> Iterator[Step]:
        parts = checkpoints.split(body) if body and action is Action.SCRIPT else (body,)
        for number, part in enumerate(parts):
            if part and section in wanted:
                what = f"{name} (part {number + 1} of {len(parts)})" if len(parts) > 1 else name
                yield Step(
                    action=action,
                    what=what,
                    reason=where(part.lines[0] if number else part.line),
                    stage=index,
                    script=part,
                    app=app,
                    part=number,
                    parts=len(parts),
                )

    def copy(name: str, copies: tuple[Copy, ...], app: str = "") -> Iterator[Step]:
        if copies and "files" in wanted:
            reason = where(copies[0].line)
            yield Step(action=Action.COPY, what=name, reason=reason, stage=index, copies=copies, app=app)

    yield from script("setup", Action.HOST_SCRIPT, "%pre", stage.pre)
    yield from _root_steps(request, definition, index)
    yield from copy("%files from stages", tuple(each for each in stage.files if each.stage))
    yield from script("setup", Action.HOST_SCRIPT, "%setup", stage.setup)
    yield from copy("%files", tuple(each for each in stage.files if not each.stage))
    for app in stage.apps:
        yield from copy(f"%appfiles {app.name}", app.files, app.name)
    yield from script("post", Action.SCRIPT, "%post", stage.post)
    for app in stage.apps:
        yield from script("post", Action.SCRIPT, f"%appinstall {app.name}", app.install, app.name)
    yield Step(action=Action.METADATA, what="", reason="default", stage=index)
    yield from script("test", Action.TEST, "%test", stage.test)
