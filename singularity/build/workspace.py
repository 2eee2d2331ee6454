"""The working directory of one build: root file systems of its stages, and the few files that scripts need."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from singularity import process
from singularity.build import gate
from singularity.build.architecture import Architecture
from singularity.sources.fetch import Fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Directories of one build, all of them private."""

    directory: Path
    architecture: Architecture
    cache: bool  # whether downloads are kept
    fetch: Fetch = field(default_factory=Fetch)  # how images are fetched

    @property
    def images(self) -> Fetch:
        """How images are fetched, for the architecture and in the directory of the build."""
        wanted = self.fetch.architecture or self.architecture.sif
        return self.fetch._replace(architecture=wanted, temporary=self.directory)

    def script(self, name: str, text: str) -> Path:
        """A file with a script for the host."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        return path


def script_environment() -> Mapping[str, str]:
    """The environment of scripts in the image: from nothing, as a launch with --cleanenv has it."""
    d = "/.singularity.d/env/91-environment.sh"
    labels = "/.build.labels"
    return {
        "PATH": process.SYSTEM_PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "xterm",
        "DEBIAN_FRONTEND": "noninteractive",
        "SINGULARITY_ENVIRONMENT": d,
        "APPTAINER_ENVIRONMENT": d,
        "SINGULARITY_LABELS": labels,
        "APPTAINER_LABELS": labels,
        **gate.environment(),
    }
