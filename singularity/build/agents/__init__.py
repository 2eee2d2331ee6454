"""Bootstrap agents: each fills an empty directory with the root file system that a header asks for."""

from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.errors import DefinitionError
from singularity.sources.fetch import Fetch

if TYPE_CHECKING:
    from singularity.oci.image import Image

AGENTS = {
    "arch": "Arch Linux and its relatives, from a mirror",
    "busybox": "one static program and its commands",
    "debootstrap": "Debian, Ubuntu and their relatives, from a mirror",
    "dnf": "Fedora, Red Hat and their relatives, from a mirror",
    "docker": "an image in a registry",
    "docker-archive": "an image in a file that docker save made",
    "docker-daemon": "an image that a Docker daemon on this machine has",
    "library": "an image in a library",
    "localimage": "an image file or a directory",
    "mmdebstrap": "the same as debootstrap, by another tool",
    "oci": "an image in a directory of the OCI layout",
    "oci-archive": "an image in a file of the OCI layout",
    "oras": "a SIF file in a registry",
    "scratch": "nothing",
    "shub": "an image of Singularity Hub, or of a server like it",
    "yum": "the same as dnf",
    "zypper": "openSUSE and SUSE Linux Enterprise, from a mirror",
}
TOOLS: dict[str, tuple[str, ...]] = {  # that agents start, the first of each that is installed
    "arch": ("pacman",),
    "debootstrap": ("debootstrap", "mmdebstrap"),
    "dnf": ("dnf", "yum"),
    "mmdebstrap": ("mmdebstrap",),
    "yum": ("dnf", "yum"),
    "zypper": ("zypper",),
}
FETCHED = frozenset({"docker", "docker-daemon", "library", "oras", "shub"})  # those that are a `FetchingAgent`
LAYERED = frozenset({"docker", "docker-archive", "docker-daemon", "oci", "oci-archive"})  # that are a `LayeredAgent`
_OF_DOCKERFILES = frozenset({"buildkit", "dockerfile"})


class Agent(Protocol):
    """A module of this package."""

    def check(self, stage: Stage, name: str) -> None:
        """Raises DefinitionError when the header lacks something; `name` is the definition file's, for messages."""

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
        known = f"known are {', '.join(AGENTS)}"
        if stage.agent in _OF_DOCKERFILES:
            what = f'bootstrap agent "{field.value}": there is none in this version'
            hint = "build with docker or buildah, and save the image: docker-archive and oci-archive read that"
            raise DefinitionError(what, name=name, line=field.line, hint=hint)
        near = get_close_matches(stage.agent, list(AGENTS), n=1)
        hint = f'did you mean "{near[0]}"?' if near else known
        raise DefinitionError(f'unknown bootstrap agent "{field.value}"', name=name, line=field.line, hint=hint)
    agent = cast("Agent", import_module(f"{__name__}.{stage.agent.replace('-', '_')}"))
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
