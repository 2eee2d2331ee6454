"""`singularity bootstrap IMAGE [DEFINITION [ARGUMENT...]]`: a container made in an image that is there, or changed."""

import logging
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from singularity import files, paths
from singularity.build import architecture
from singularity.build.plan import plan
from singularity.build.request import BuildRequest, Target
from singularity.build.steps import Step
from singularity.build.steps.filesystem import Begin, Bootstrap
from singularity.build.steps.scripts import HostScript
from singularity.cli.command import PATH, option, verb
from singularity.cli.create import say
from singularity.definition import source
from singularity.definition.model import Definition
from singularity.edit import change
from singularity.errors import BuildError
from singularity.image.identify import Format
from singularity.image.opened import Opened, opened
from singularity.namespaces import fakeroot
from singularity.sources import fetch as fetches

logger = logging.getLogger(__name__)


@verb(
    context_settings={"allow_interspersed_args": False},
    description=(
        (
            "IMAGE is an ext3 image file, such as create makes, or a directory, made where it is missing. DEFINITION "
            "is carried out in it; its header is skipped where IMAGE has a /bin/sh. Without DEFINITION, the files "
            "that every container has are put in place. IMAGE is whole or as it was before, whatever happens."
        ),
        "ARGUMENTs are those of %test, or of a definition file of the first format (DistType).",
        'See "singularity help build" for definition files, and for other formats of images.',
    ),
    examples=(
        "sudo singularity create debian.img",
        "sudo singularity bootstrap debian.img debian.def",
        "singularity bootstrap debian.img",
    ),
)
@option(
    "-f",
    "--force",
    is_flag=True,
    variables="REBOOTSTRAP",
    help="Install the system that the header names although there is one; nothing is removed before",
)
@click.argument("image", type=PATH)
@click.argument("definition", required=False)
@click.argument("arguments", nargs=-1, metavar="ARGUMENT")
def command(image: Path, definition: str | None, arguments: tuple[str, ...], *, force: bool) -> None:
    """Bootstraps."""
    say("Bootstrap initialization")
    if definition is None:
        _update(image)
        return
    say("Checking bootstrap definition")
    host = architecture.host().sif
    for_dockerfiles = source.ForDockerfiles(architecture=host, host=host)
    read = source.read(
        definition, {}, unused_allowed=True, header_optional=True, positional=arguments, dockerfiles=for_dockerfiles
    )
    for warning in read.warnings:
        logger.warning("%s", warning)
    if not os.path.lexists(image):
        _build(image, None, read, arguments, force=force)
        return
    with opened(image, writable=True) as found:
        change.check_writable(found)
        _build(image.resolve(), found, read, arguments, force=force)


def _update(image: Path) -> None:
    say("No bootstrap definition passed, updating container")
    with opened(image, writable=True, missing="singularity create makes one") as found:
        change.check_writable(found)
        if not change.state(found).has_shell:
            what = f"{image}: no /bin/sh in it: no container yet"
            raise BuildError(what, hint="name a definition file, or import an archive")
        say("Executing Prebootstrap module")
        say("Executing Postbootstrap module")
        change.restore(found, paths.temporary())
    say("Done.")


def _build(
    target: Path, found: Opened | None, definition: Definition, arguments: tuple[str, ...], *, force: bool
) -> None:
    from singularity.build import perform

    state = change.state(found) if found else change.State(is_empty=True, has_shell=False)
    stage = definition.stages[-1]
    skipped = (state.has_shell and not force) or "bootstrap" not in stage.header
    if skipped and not state.has_shell:
        what = f"{definition.name}: no line Bootstrap:, and no /bin/sh in {target}"
        raise BuildError(what, hint="the line says how the system is installed, such as Bootstrap: debootstrap")
    is_file = found is not None and found.image.format is Format.EXT
    request = BuildRequest(
        target=target,
        source=definition.name,
        format=Target.EXT3 if is_file else Target.SANDBOX,
        size=found.image.root.size >> 20 if found and is_file else None,
        overwrite=found is not None,
        onto=None if state.is_empty else target,
        update=skipped,
        test_arguments=arguments,
        by_user=os.geteuid() != 0,
        fetch=fetches.from_options({}),
        temporary=paths.temporary(),
    )
    made = plan(request, definition)
    files.refuse_target(target, overwrite=request.overwrite, directory=not is_file)  # as who calls
    if os.geteuid() != 0:
        fakeroot.become_root()
    say("Executing Prebootstrap module")
    perform.perform(made, on_step=_Progress(len(definition.stages) - 1, "" if skipped else stage.agent).tell)
    if found and is_file:
        _keep_owner(found, target)
    say("Done.")


def _keep_owner(before: Opened, target: Path) -> None:
    """The new file belongs to whom the one before belonged to, and whoever could write to it still can."""
    status = os.fstat(before.fd)
    with suppress(PermissionError):
        os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))


@dataclass(slots=True)
class _Progress:
    """The lines that people know, each once, before the first step that it is about."""

    last: int  # stage
    agent: str  # that installs the system; empty: none does
    core: bool = False
    post: bool = False

    def tell(self, step: Step) -> None:
        if step.stage != self.last or isinstance(step, Begin) or (isinstance(step, HostScript) and not self.core):
            return
        if not self.core:
            self.core = True
            say(f"Executing Bootstrap '{self.agent}' module" if self.agent else "Not bootstrapping the core container")
        if not self.post and not isinstance(step, Bootstrap):
            self.post = True
            say("Executing Postbootstrap module")
