"""The working directory of one build: root file systems of its stages, and the few files that scripts need."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from singularity import process
from singularity.build.architecture import Architecture
from singularity.sources.fetch import Fetch

_HANDED_ON = (
    "TERM", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY",
    "ftp_proxy", "FTP_PROXY",
)  # fmt: skip


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


def network_environment() -> Mapping[str, str]:
    """What tools and scripts that use the network get from our environment."""
    return {name: os.environ[name] for name in _HANDED_ON if os.environ.get(name)}


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
        **network_environment(),
    }
