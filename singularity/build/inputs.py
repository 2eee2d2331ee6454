"""The files of the host that a definition names, looked for before anything is done.

Only what is missing for certain is told: a script on the host may still make what a later step needs.
"""

from collections.abc import Iterator
from pathlib import Path

from singularity.build import copies
from singularity.build.plan import Action, Plan
from singularity.errors import DefinitionError
from singularity.image.root import Root


def missing(plan: Plan) -> Iterator[DefinitionError]:
    """An error for each image below a stage, and each line of `%files`, that is not there."""
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
