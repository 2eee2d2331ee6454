"""Bootstrap agents: each fills an empty directory with the root file system that a header asks for."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.errors import DefinitionError
from singularity.sources.fetch import Fetch

if TYPE_CHECKING:
    from singularity.oci.image import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of an agent before its module is imported."""

    place: str = ""  # what `From` names; empty: it is not asked for
    module: str = ""  # of this package; empty: the one of its name
    tools: tuple[str, ...] = ()  # that it starts: the first of them that is installed


AGENTS = {
    "arch": Known(tools=("pacman",)),
    "busybox": Known(),
    "debootstrap": Known(tools=("debootstrap", "mmdebstrap")),
    "doi": Known(module="oras", place="10.PREFIX/SUFFIX[/FILE]"),
    "dnf": Known(module="yum", tools=("dnf", "yum")),
    "docker": Known(place="[HOST/]NAME[:TAG][@DIGEST]"),
    "docker-archive": Known(module="oci", place="FILE, or FILE:NAME:TAG"),
    "docker-daemon": Known(module="docker", place="NAME:TAG"),
    "library": Known(module="oras", place="[ENTITY/[COLLECTION/]]NAME[:TAG]"),
    "localimage": Known(place="PATH of an image file or a directory"),
    "mmdebstrap": Known(tools=("mmdebstrap",)),
    "oci": Known(place="DIRECTORY, or DIRECTORY:TAG"),
    "oci-archive": Known(module="oci", place="FILE, or FILE:TAG"),
    "oras": Known(place="HOST/NAME[:TAG]"),
    "scratch": Known(),
    "shub": Known(module="oras", place="[HOST/]USER/NAME[:TAG]"),
    "yum": Known(tools=("dnf", "yum")),
    "zypper": Known(tools=("zypper",)),
}
FETCHED = frozenset({"docker", "docker-daemon", "doi", "library", "oras", "shub"})  # those that are a `FetchingAgent`
LAYERED = frozenset({"docker", "docker-archive", "docker-daemon", "oci", "oci-archive"})  # that are a `LayeredAgent`


class Agent(Protocol):
    """A module of this package."""

    def check(self, stage: Stage, name: str) -> None:
        """Raises DefinitionError when the header lacks something, but for `From`; `name` is the definition file's."""

    def bootstrap(self, stage: Stage, root: Path, workspace: Workspace) -> None:
        """Fills `root`, an empty directory unless the build begins with something. Raises SingularityError."""

    def source_digest(self, stage: Stage) -> str | None:
        """What the source is now, for the build cache.

        Empty when the header says all there is to know (a mirror), a digest for local files, None when what comes of
        it must not be kept. Raises SingularityError when the source cannot be read.
        """


class FetchingAgent(Agent, Protocol):
    """An agent that must know how images are to be fetched to say what its source is."""

    def fetched_digest(self, stage: Stage, fetch: Fetch) -> str | None:
        """As `source_digest`."""


class LayeredAgent(Agent, Protocol):
    """An agent whose images are made of layers, which need not be unpacked to become an image file."""

    def opened(self, stage: Stage, fetch: Fetch) -> AbstractContextManager["Image"]:
        """The image that the header names, for as long as its layers are read. Raises SingularityError."""


def find(stage: Stage, name: str) -> Agent:
    """The agent of a stage, its header checked; `name` is the definition file's. Raises DefinitionError."""
    from difflib import get_close_matches

    field = stage.header["bootstrap"]
    if stage.agent not in AGENTS:
        known_ones = [*AGENTS, "dockerfile"]
        near = ["dockerfile"] if stage.agent == "buildkit" else get_close_matches(stage.agent, known_ones, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known_ones)}"
        raise DefinitionError(f'unknown bootstrap agent "{field.value}"', name=name, line=field.line, hint=hint)
    known = AGENTS[stage.agent]
    if known.place:
        require(stage, "From", name, f"From: {known.place}")
    agent = cast("Agent", import_module(f"{__name__}.{known.module or stage.agent}"))
    agent.check(stage, name)
    return agent


def source_digest(stage: Stage, name: str, fetch: Fetch) -> str | None:
    """What the source of a stage is now, as its agent says it. Raises SingularityError."""
    agent = find(stage, name)
    if stage.agent in FETCHED:
        return cast("FetchingAgent", agent).fetched_digest(stage, fetch)
    return agent.source_digest(stage)


def require(stage: Stage, keyword: str, name: str, hint: str) -> str:
    """The value of a header keyword that the agent cannot do without. Raises DefinitionError."""
    value = stage.value(keyword.lower())
    if not value:
        line = stage.header["bootstrap"].line
        raise DefinitionError(f"bootstrap agent {stage.agent} needs {keyword}", name=name, line=line, hint=hint)
    return value
