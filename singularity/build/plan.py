"""From a request and a definition to the steps of a build; nothing is done here, and images are only looked at."""

from collections.abc import Iterator
from pathlib import Path

from singularity.build import agents, checkpoints
from singularity.build.request import BuildRequest, Target
from singularity.build.steps import Plan, Step
from singularity.build.steps.dockerfile import BeginLike, Configure, Instruct, Triggers, shown
from singularity.build.steps.filesystem import Begin, Bootstrap, CopyFiles, Metadata, Prepare
from singularity.build.steps.scripts import HostScript, PostScript, ScriptStep, SetupScript, TestScript
from singularity.build.steps.target import Convert, Pack, Place
from singularity.definition.dockerfile.state import CHANGING
from singularity.definition.model import Copy, Definition, Recipe, Script, Stage
from singularity.errors import BuildError, DefinitionError
from singularity.image.identify import identify

_FORMATS = {
    Target.SIF: "default: a SIF file",
    Target.SANDBOX: "--sandbox: a directory",
    Target.SQUASHFS: "a squashfs file",
    Target.EROFS: "an EROFS file",
    Target.EXT3: "an ext3 image",
    Target.TAR: "a tar archive",
}


def plan(request: BuildRequest, definition: Definition) -> Plan:
    """The steps of a build, in order. Raises DefinitionError when stages are named that come later, or not at all."""
    is_conversion = _is_conversion(request, definition)
    if request.only and (not is_conversion or definition.stages[0].agent in agents.LAYERED):
        what = f"--only: {request.source} is no image file"
        raise BuildError(what, hint="build or pull it first, and make a smaller one of that")
    if is_conversion:
        what = f"{request.source} to {request.target}"
        reason = (
            "--only: files that are not used are left out" if request.only else "an image as it is: nothing to unpack"
        )
        steps: list[Step] = [Convert(what=what, reason=reason, stage=0)]
        return Plan(request=request, definition=definition, steps=tuple(steps))
    steps = []
    for index in range(len(definition.stages)):
        _check_stages(definition, index)
        recipe = definition.stages[index].recipe
        inner = recipe is not None and recipe.is_inner
        steps += _root_steps(request, definition, index) if inner else _stage_steps(request, definition, index)
    last = Place if request.format is Target.SANDBOX else Pack
    on = f"--on {request.on.path}: a SIF file of what differs" if request.on else ""
    reason = "--erofs: a SIF file" if request.erofs and request.format is Target.SIF else _FORMATS[request.format]
    steps.append(last(what=str(request.target), reason=on or reason, stage=len(definition.stages) - 1))
    return Plan(request=request, definition=definition, steps=tuple(steps))


def _is_conversion(request: BuildRequest, definition: Definition) -> bool:
    """Whether an image is only to get another format, which needs no root file system on disk."""
    if request.on is not None:
        return False
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


def _check_stages(definition: Definition, index: int) -> None:
    earlier = [stage.name for stage in definition.stages[:index] if stage.name]
    for copy in definition.stages[index].files:
        if copy.stage and copy.stage not in earlier:
            what = f'%files: no earlier stage "{copy.stage}"'
            hint = f"earlier stages: {', '.join(earlier)}" if earlier else "a stage is named with a line Stage: NAME"
            raise DefinitionError(what, name=definition.name, line=copy.line, hint=hint)


def _stage_steps(request: BuildRequest, definition: Definition, index: int) -> Iterator[Step]:
    """The order is that of the family: later steps see what earlier ones left."""
    stage, wanted = definition.stages[index], request.sections

    def where(line: int) -> str:
        return f"{definition.name}:{line}"

    def script(kind: type[ScriptStep], what: str, body: Script | None) -> Iterator[Step]:
        if body:
            yield kind(what=what, reason=where(body.line), stage=index, script=body)

    def post(what: str, body: Script | None, app: str = "") -> Iterator[Step]:
        parts = checkpoints.split(body) if body and "post" in wanted else ()
        for number, part in enumerate(parts):
            yield PostScript(
                what=f"{what} (part {number + 1} of {len(parts)})" if len(parts) > 1 else what,
                reason=where(part.lines[0] if number else part.line),
                stage=index,
                script=part,
                app=app,
                part=number,
                parts=len(parts),
            )

    def copy(what: str, copies: tuple[Copy, ...], app: str = "") -> Iterator[Step]:
        if copies and "files" in wanted:
            yield CopyFiles(what=what, reason=where(copies[0].line), stage=index, copies=copies, app=app)

    setup = "setup" in wanted
    yield from script(HostScript, "%pre", stage.pre if setup else None)
    yield from _root_steps(request, definition, index)
    yield Prepare(reason="default", stage=index, apps=stage.apps)
    yield from copy("%files from stages", tuple(each for each in stage.files if each.stage))
    yield from script(SetupScript, "%setup", stage.setup if setup else None)
    yield from copy("%files", tuple(each for each in stage.files if not each.stage))
    for app in stage.apps:
        yield from copy(f"%appfiles {app.name}", app.files, app.name)
    yield from post("%post", stage.post)
    for app in stage.apps:
        yield from post(f"%appinstall {app.name}", app.install, app.name)
    yield Metadata(reason="default", stage=index)
    yield from script(TestScript, "%test", stage.test if "test" in wanted else None)


def _root_steps(request: BuildRequest, definition: Definition, index: int) -> Iterator[Step]:
    """What a stage's sections find when they begin."""
    stage, is_last = definition.stages[index], index == len(definition.stages) - 1
    if request.onto is not None and is_last:
        reason = "--update" if request.update else "it is there"
        yield Begin(what=str(request.onto), reason=reason, stage=index, onto=request.onto)
    if stage.recipe and stage.recipe.base:
        yield BeginLike(what=stage.recipe.base, reason=f"{stage.recipe.file}:{stage.line}", stage=index)
    elif not (request.update and is_last):
        name = stage.recipe.file if stage.recipe else definition.name
        reason = f"{name}:{stage.header['bootstrap'].line}"
        yield Bootstrap(what=stage.agent, reason=reason, stage=index, asked=stage)
    if stage.recipe:
        yield from _instructions(stage.recipe, stage, index)


def _instructions(recipe: Recipe, stage: Stage, index: int) -> Iterator[Step]:
    """What a stage of a Dockerfile does with the image that it begins with."""
    if stage.agent != "scratch" and not (recipe.is_inner and not recipe.instructions):
        yield Triggers(
            what="ONBUILD of the base image", reason=f"{recipe.file}:{stage.line}", stage=index, recipe=recipe
        )
    for number, each in enumerate(recipe.instructions):
        if each.name in CHANGING:
            reason = f"{each.file}:{each.line}"
            yield Instruct(what=shown(each), reason=reason, stage=index, recipe=recipe, number=number)
    if recipe.instructions or not recipe.is_inner:
        yield Configure(what="what the instructions say of the image", reason="default", stage=index, recipe=recipe)
