"""How a command was told to fetch images: for which machine, by which ways, and whether to keep them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from singularity import config, paths
from singularity.errors import UsageError
from singularity.registry import access as accesses
from singularity.registry.access import Access
from singularity.variables import named, truth, variable

if TYPE_CHECKING:
    from collections.abc import Callable

    from singularity.content.platform import Platform

_OS = "linux"
_MACHINES = {
    "x86_64": "amd64", "i386": "386", "i686": "386", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm",
    "ppc64le": "ppc64le", "ppc64": "ppc64", "s390x": "s390x", "riscv64": "riscv64", "mips64": "mips64",
    "loongarch64": "loong64",
}  # fmt: skip


class Fetch(NamedTuple):
    """What options, variables and the configuration say; empty where they say nothing."""

    architecture: str = ""  # in the words of Go; empty: this machine's
    variant: str = ""
    access: Access = Access()
    cache: bool = True  # what is fetched is kept, and what was kept is used
    verify: bool = False  # what the cache has is read again before it is used
    offline: bool = False  # what a name meant last is used where its registry cannot be reached
    library: str = ""  # URL of the library
    daemon: str = ""  # address of the Docker daemon
    packed: Path | None = None  # where layers may be that are packed already, and need not be fetched
    told: "Callable[[str], object] | None" = None  # the digest that a name meant in its registry
    temporary: Path | None = None  # where temporary files go, if not where they usually do

    @property
    def platform(self) -> "Platform":
        """The platform that images are wanted for."""
        from singularity.content.platform import Platform

        return Platform(os=_OS, architecture=self.architecture or _host(), variant=self.variant)

    @property
    def scratch(self) -> Path:
        """Where temporary files go."""
        return self.temporary or paths.temporary()


def _host() -> str:
    machine = os.uname().machine
    return _MACHINES.get(machine, machine)


def from_options(given: Mapping[str, Any]) -> Fetch:
    """What the options of a command say; those that it has not may be missing. Raises UsageError.

    Keys: platform, arch, arch_variant, no_https, authfile, docker_login, disable_cache, verify_cache, offline, library,
    docker_host, tmpdir.
    """
    architecture, variant = _platform(given.get("platform") or "")
    asked = given.get("arch") or ""
    if asked and architecture:
        raise UsageError("--arch and --platform say the same: give one of them")
    asked, _, of_arch = asked.partition("/")
    tmpdir = given.get("tmpdir") or ""
    return Fetch(
        architecture=_MACHINES.get(asked, asked) or architecture,
        variant=given.get("arch_variant") or of_arch or variant,
        access=accesses.from_environment(
            no_https=bool(given.get("no_https")),
            authfile=str(given.get("authfile") or ""),
            login=bool(given.get("docker_login")),
        ),
        cache=not given.get("disable_cache"),
        verify=bool(given.get("verify_cache")) or truth(variable("VERIFY_CACHE")),
        offline=bool(given.get("offline")) or truth(variable("OFFLINE")) or config.truth("cache offline"),
        library=given.get("library") or variable("LIBRARY"),
        daemon=given.get("docker_host") or variable("DOCKER_HOST"),
        temporary=paths.temporary(tmpdir) if tmpdir else None,
    )


def _platform(text: str) -> tuple[str, str]:
    """Architecture and variant of `OS/ARCHITECTURE[/VARIANT]`; the operating system may be left out."""
    if not text:
        return "", ""
    words = text.split("/")
    if words[0] == _OS:
        words = words[1:]
    elif len(words) > 1 and words[0] in ("windows", "darwin", "freebsd"):
        raise UsageError(f"{named('PLATFORM', text, '--platform')} {text}: containers are {_OS}'s")
    if not 1 <= len(words) <= 2 or not all(words):
        name = named("PLATFORM", text, "--platform")
        raise UsageError(f"{name} {text}: no platform", hint="such as linux/arm64, or linux/arm/v7")
    architecture = _MACHINES.get(words[0], words[0])
    return architecture, words[1] if len(words) > 1 else ""
