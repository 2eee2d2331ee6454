"""The tools that a build starts, and the files of the host that a definition names, looked for before anything is done.

Only what is missing for certain is told: a script on the host may still make what a later step needs.
"""

from collections.abc import Iterator
from pathlib import Path

from singularity.build import agents, copies, forecast
from singularity.build.agents import debootstrap, installer
from singularity.build.forecast import Fate
from singularity.build.plan import Action, Plan
from singularity.build.request import Target
from singularity.errors import BuildError, DefinitionError, SingularityError, ToolError
from singularity.image.root import Root

_OF_DEBIAN = frozenset({"debootstrap", "mmdebstrap"})
_PACKERS = {Target.SIF: "mksquashfs", Target.SQUASHFS: "mksquashfs", Target.EXT3: "mke2fs"}


def missing(plan: Plan) -> Iterator[SingularityError]:
    """An error for each tool, each image below a stage, and each line of `%files`, that is not there."""
    yield from _missing_tools(plan)
    yield from _missing_files(plan)


def _missing_tools(plan: Plan) -> Iterator[SingularityError]:
    """Of agents, unless the cache has what they would make, and of the last step, which comes after all the work."""
    prepared = False  # by a script on the host
    for index, step in enumerate(plan.steps):
        names: tuple[str, ...] = ()
        purpose = agent = ""
        if step.action is Action.HOST_SCRIPT:
            prepared = True
        elif step.action is Action.BOOTSTRAP and not prepared:
            agent = plan.definition.stages[step.stage].agent
            names = agents.TOOLS.get(agent, ())
            purpose = debootstrap.PURPOSE if agent in _OF_DEBIAN else "install the packages"
        elif step.action is Action.PACK and plan.request.format in _PACKERS:
            names, purpose = (_PACKERS[plan.request.format],), f"write {plan.request.target}"
        if not names:
            continue
        try:
            installer.find_first(names, purpose=purpose)
            if agent == "debootstrap":
                debootstrap.require_script(plan.definition.stages[step.stage])
        except (ToolError, BuildError) as error:
            if forecast.fates(plan)[index] is Fate.DONE:
                yield error


def _missing_files(plan: Plan) -> Iterator[DefinitionError]:
    definition = plan.definition
    for step in plan.steps:
        stage = definition.stages[step.stage]
        if step.action is Action.HOST_SCRIPT:
            return
        if step.action is Action.BOOTSTRAP and stage.agent == "localimage":
            field = stage.header["from"]
            try:
                Path(field.value).stat()
            except OSError as error:
                yield DefinitionError(f"From: {field.value}: {error.strerror}", name=definition.name, line=field.line)
        elif step.action is Action.COPY and not any(copy.stage for copy in step.copies):
            with Root("/") as root:
                source = copies.Source(root=root, directory=str(Path.cwd()), follow=True)
                for copy in step.copies:
                    try:
                        copies.check(copy, source, definition.name)
                    except DefinitionError as error:
                        yield error
