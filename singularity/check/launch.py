"""What a launch would mount, as the front door tells it: `singularity exec --dry-run=json`, in which nothing runs."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from singularity import process
from singularity.check.view import View
from singularity.errors import ToolError, UsageError
from singularity.image import lookup
from singularity.image.identify import Format, Image, Partition
from singularity.image.stacked import overlay

_FORMATS = {"directory": Format.DIRECTORY, "squashfs": Format.SQUASHFS, "ext": Format.EXT, "erofs": Format.EROFS}
_USAGE = 1  # exit status of the front door


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that is put at a path of the container."""

    kind: str  # bind, directory, file, mount, link, place
    source: str
    target: str
    reason: str
    skipped: str = ""  # why not


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A file system of which the container's is made."""

    path: Path
    partition: Partition
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A launch as it would be made."""

    layers: tuple[Layer, ...]  # the image first, what lies over it after
    steps: tuple[Step, ...] = ()
    directory: str = "/"  # in the container, where the program starts
    refusal: str = ""  # why there would be none
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # of the caller

    @property
    def host_libraries(self) -> tuple[Step, ...]:
        """The libraries of the host that are brought in for a device."""
        bound = (each for each in self.steps if each.kind == "bind" and not each.skipped)
        return tuple(each for each in bound if ".so" in Path(each.target).name and "--bind" not in each.reason)


def plan(
    front_door: Path, image: Image, options: Sequence[str], words: Sequence[str], *, verb: str = "check"
) -> Launch:
    """Asks the front door. Raises UsageError for options that it does not understand, ToolError when it is missing."""
    environment = _environment()
    argv = [str(front_door), "exec", *options, "--dry-run=json", str(image.path), *(words or ["true"])]
    told = process.call(argv, purpose="plan the launch", environment=environment)
    complaints = told.complaints.splitlines()
    warnings = tuple(line.removeprefix("WARNING:").strip() for line in complaints if line.startswith("WARNING:"))
    own = (Layer(path=image.path, partition=image.root), *(Layer(path=image.path, partition=p) for p in image.overlays))
    if told.status == _USAGE:
        raise UsageError(f"{verb}: {_last(complaints)}", hint="options of a launch stand before IMAGE")
    if told.status != 0:
        return Launch(layers=own, refusal=_last(complaints), warnings=warnings, environment=environment)
    try:
        return _read(json.loads(told.output), warnings, environment)
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(f"{front_door}: cannot understand its plan: {error!r}") from error


def _environment() -> dict[str, str]:
    """The caller's, less what would make the plan another one's, or say more than it."""
    leave_out = ("IMAGE", "MESSAGELEVEL", "DEBUG", "VERBOSE", "QUIET", "SILENT", "DRY_RUN", "DOCKER_PASSWORD")
    names = {f"{prefix}{key}" for prefix in ("SINGULARITY_", "APPTAINER_") for key in leave_out}
    return {name: value for name, value in os.environ.items() if name not in names}


def _last(complaints: Sequence[str]) -> str:
    line = next((each for each in reversed(complaints) if each.startswith(("FATAL:", "ERROR:"))), "")
    return line.partition(":")[2].strip() or (complaints[-1] if complaints else "for no reason that is told")


def _read(document: Any, warnings: tuple[str, ...], environment: Mapping[str, str]) -> Launch:
    return Launch(
        layers=tuple(_layer(each) for each in document["root"]),
        steps=tuple(
            Step(
                kind=each["step"],
                source=_text(each["source"]),
                target=_text(each["target"]),
                reason=_text(each["reason"]),
                skipped=_text(each["skipped"] or ""),
            )
            for each in document["steps"]
        ),
        directory=_text(document["directory"] or "/"),
        warnings=warnings,
        environment=environment,
    )


def _layer(part: Any) -> Layer:
    format_ = _FORMATS[part["filesystem"]]
    return Layer(
        path=Path(_text(part["source"])),
        partition=Partition(format=format_, offset=part["offset"], size=part["size"]),
        writable=part["writable"],
    )


def _text(told: str) -> str:
    """A text of the plan, each of whose bytes is told as a character (launcher/plan/print.c)."""
    return os.fsdecode(told.encode("latin-1"))


@contextmanager
def viewed(launch: Launch) -> Iterator[View]:
    """What the program would see. Raises ImageError for a damaged image, FileError for one that cannot be read."""
    with ExitStack() as stack:
        order = [*launch.layers[:1], *sorted(launch.layers[1:], key=lambda each: each.writable)]
        layers = [stack.enter_context(lookup.opened(each.path, each.partition)) for each in order]
        for above in range(1, len(layers)):
            layers[above] = overlay(layers[above])
        view = View(list(reversed(layers)))
        for step in launch.steps:
            if not step.skipped and step.target.startswith("/"):
                _show(view, step)
        yield view


def _show(view: View, step: Step) -> None:
    if step.kind == "bind":
        view.mount(step.source, step.target)
    elif step.kind == "mount" and step.source == "proc":
        view.mount("/proc", step.target)
    elif step.kind in ("directory", "mount", "file"):
        view.make(step.target, directory=step.kind != "file")
