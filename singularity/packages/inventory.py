"""All packages of an image, whose its files are, and the programs among them that are nobody's."""

import hashlib
import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from singularity.errors import ImageError
from singularity.image import elf
from singularity.image.lookup import Walked
from singularity.image.tree import Kind
from singularity.packages import apk, conda, dpkg, npm, pacman, python, r, rpm
from singularity.packages.model import SYSTEM, Manager, Package, Survey

logger = logging.getLogger(__name__)

_READERS = (dpkg, rpm, apk, pacman, conda, python, r, npm)
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_RELEASE_LIMIT = 1 << 20  # bytes
_HEAD = 64  # bytes of an ELF file's own header
_READ_LIMIT = 1 << 34  # of all programs: files of holes may have any size, and would be read to their ends
_PACKAGES_LIMIT = 200_000
_CHUNK = 1 << 20


class _Reader(Protocol):
    """A module that reads the notes of one package manager."""

    def read(self, survey: Survey) -> Iterator[Package]:
        """The packages that it has installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """A program or library that no package owns."""

    path: str
    size: int
    build_id: str  # hexadecimal; empty where it has none
    sha1: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What is in an image."""

    distribution: dict[str, str]  # of os-release
    packages: tuple[Package, ...]  # sorted by manager, name, version and place
    survey: Survey

    def of(self, *managers: Manager) -> list[Package]:
        """The packages of some managers."""
        return [each for each in self.packages if each.manager in managers]


class Owners:
    """Which packages a path belongs to; files that a package lists go before directories that are one's own."""

    def __init__(self, inventory: Inventory) -> None:
        survey = inventory.survey
        self._files: dict[str, list[Package]] = {}
        self._trees: dict[str, Package] = {}
        for package in inventory.packages:
            for path in dict.fromkeys(survey.real(each) for each in package.files):
                self._files.setdefault(path, []).append(package)
            for path in package.trees:
                self._trees.setdefault(survey.real(path), package)

    def of(self, path: str) -> list[Package]:
        """Those of the file at a path, of which no directory is a link."""
        found = self._files.get(path)
        if found:
            return found
        above = path
        while above:
            if above in self._trees:
                return [self._trees[above]]
            above = above.rpartition("/")[0]
        return []


def take(survey: Survey) -> Inventory:
    """Reads all notes of an image; of damaged ones a warning is logged. Raises ImageError for a damaged file system."""
    readers: tuple[_Reader, ...] = _READERS
    found = list(islice((each for reader in readers for each in reader.read(survey)), _PACKAGES_LIMIT + 1))
    if len(found) > _PACKAGES_LIMIT:
        raise ImageError(f"more than {_PACKAGES_LIMIT} packages")
    packages = tuple(sorted(found, key=lambda e: (e.manager.value, e.name, e.version, e.architecture, e.place)))
    return Inventory(distribution=_distribution(survey), packages=packages, survey=survey)


def contained(inventory: Inventory, owners: Owners) -> Iterator[tuple[Package, Package]]:
    """A package of the system or of conda, and a package of a language that came in it."""
    outer = {*SYSTEM, Manager.CONDA}
    for package in inventory.packages:
        if package.manager not in outer:
            place = inventory.survey.real(package.place)
            inner = f"{place}/METADATA", f"{place}/PKG-INFO", place
            found = (owner for path in inner for owner in owners.of(path) if owner.manager in outer)
            owner = next(found, None)
            if owner is not None:
                yield owner, package


def _distribution(survey: Survey) -> dict[str, str]:
    text = next((text for each in _OS_RELEASE if (text := survey.text(each, limit=_RELEASE_LIMIT))), "")
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, equals, value in pairs if equals}


def loose(survey: Survey, owners: Owners) -> list[Loose]:
    """The programs and libraries that no package owns, by path; what this user may not read is left out."""
    found, left, large = [], _READ_LIMIT, []
    for path, walked in survey.walked.items():  # those of one directory mostly lie near each other
        if walked.node.kind is Kind.FILE and walked.node.size >= _HEAD and not owners.of(path):
            if walked.node.size > left:
                large.append(path)
                continue
            program = _program(survey, walked)
            if program is not None:
                found.append(program)
                left -= program.size
    if large:
        what = "%s in the image, and %d other files: not looked at, since programs would be more than %d GiB"
        logger.warning(what, large[0], len(large) - 1, _READ_LIMIT >> 30)
    return sorted(found, key=lambda each: each.path)


def _program(survey: Survey, walked: Walked) -> Loose | None:
    try:
        with survey.content(walked) as file:
            if file.read(4) != b"\x7fELF":
                return None

            def read(size: int, offset: int) -> bytes:
                file.seek(offset)
                return file.read(size)

            build_id = elf.build_id(read)
            sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
            file.seek(0)
            while data := file.read(_CHUNK):
                sha1.update(data)
                sha256.update(data)
    except (OSError, struct.error):  # what this user may not read
        return None
    return Loose(
        path=walked.path, size=walked.node.size, build_id=build_id, sha1=sha1.hexdigest(), sha256=sha256.hexdigest()
    )
