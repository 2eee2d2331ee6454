"""What is looked up in an image that is to be installed: what it offers, and whether that is there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from singularity.check import environment, launch, program
from singularity.check.view import View
from singularity.errors import ImageError
from singularity.image import metadata, offered
from singularity.image.identify import identify
from singularity.image.lookup import translated
from singularity.image.metadata import Metadata
from singularity.image.offered import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """An image as its launches see it."""

    image: Path
    files: View
    metadata: Metadata
    environment: environment.Environment
    directory: str  # in which launches start
    refusal: str  # why there can be none here; empty

    def offered(self, name: str) -> Mapping[str, Command]:
        """Its commands by name: those of its label, and its applications; without any, its runscript under `name`.

        Raises ImageError for a label that makes no sense.
        """
        try:
            found = offered.parse(self.metadata.labels.get(offered.LABEL, ""))
        except ValueError as error:
            raise ImageError(f"label {offered.LABEL}: {error}", hint="name commands: --program") from error
        for app, scripts in self.metadata.apps.items():
            if scripts.runscript and app not in found:
                found |= _parsed(f"{app}={offered.APP} {app}")
        return found or {name: Command(name, (offered.RUNSCRIPT,))}

    def missing(self, commands: Sequence[Command]) -> Iterator[str]:
        """What is wrong with starting the commands here, each thing in a few words."""
        if self.refusal:
            yield f"cannot be launched here: {self.refusal}"
        for each in commands:
            if each.program:
                if program.search(self.files, self.environment, each.program, self.directory) is None:
                    yield f"no program {each.program} in the image, whose PATH is {':'.join(self.environment.path)}"
            elif each.words[0] == offered.APP and each.words[1] not in self.metadata.apps:
                yield f"no application {each.words[1]} in the image"

    @property
    def about(self) -> str:
        """A line about the image."""
        first = self.metadata.helpfile.strip().partition("\n")[0]
        return first if first.isprintable() and first else f"programs of {self.image.name}"


def _parsed(entry: str) -> dict[str, Command]:
    """An application whose name is none of a command is not offered."""
    try:
        return offered.parse(entry)
    except ValueError:
        return {}


@contextmanager
def opened(path: Path, front_door: Path, options: Sequence[str]) -> Iterator[LookedUp]:
    """The image, for launches with these options; nothing of it runs.

    Raises UsageError for options that no launch has, ImageError and FileError for an image that cannot be read.
    """
    image = identify(path)
    if image.format.is_archive:
        raise ImageError(f"{path}: an archive", hint="make an image of it first: singularity build IMAGE.sif ARCHIVE")
    planned = launch.plan(front_door, image, options, (), verb="install")
    with translated(path.absolute()), launch.viewed(planned) as view:
        yield LookedUp(
            image=path,
            files=view,
            metadata=metadata.from_root(view),
            environment=environment.read(view, planned.environment, options),
            directory=planned.directory,
            refusal=planned.refusal,
        )
