"""Which files of an image stay, for what its traces have used: pure paths, nothing is written.

What was looked up stays as it is, though nobody has read it: a program that asks for size and time of a file trusts the
answer. So stay all names of a file of which one does, for they cost nothing, and what every launch needs: the files
that describe the image, and those on which a launch mounts.
"""

import fnmatch
import logging
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from singularity.image.metadata import APPS, DIRECTORY
from singularity.image.tree import Kind
from singularity.packages import inventory
from singularity.packages.inventory import Owners
from singularity.packages.model import Survey

logger = logging.getLogger(__name__)

_TREES = (DIRECTORY, f"{APPS}/*/scif")
_FILES = (
    *("/environment", "/singularity", "/.exec", "/.run", "/.shell", "/.test"),
    *("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/nsswitch.conf"),
    *("/etc/localtime", "/etc/os-release", "/usr/lib/os-release", "/etc/ld.so.cache"),
    "/root",
)
_LINKS_LIMIT = 40
_ENCODINGS = "/encodings/__init__.py"  # of Python: the locale of a run decides which of them its start needs
_COMPILED = re.compile(r"(.*)/__pycache__/([^/.]+)\.[^/]+\.pyc")  # Python uses it for a source that is there, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What stays of an image, and what does not."""

    kept: frozenset[str]  # paths
    removed: tuple[str, ...]  # of a directory that goes whole, its own path alone
    files: int  # regular files in the image
    size: int  # bytes of those
    kept_files: int
    kept_size: int


@dataclass(slots=True)
class _Chosen:
    """The paths that stay, each with all directories above it."""

    survey: Survey
    paths: set[str] = field(default_factory=set)

    def add(self, path: str) -> None:
        while path and path not in self.paths:
            self.paths.add(path)
            path = path.rpartition("/")[0]

    def add_followed(self, path: str) -> None:
        """A file that somebody has named, and if it is a link, what it leads to."""
        for _ in range(_LINKS_LIMIT):
            path = self.survey.real(path)
            walked = self.survey.walked.get(path)
            if walked is None:
                return
            self.add(path)
            if walked.node.kind is not Kind.LINK:
                return
            path = posixpath.join(posixpath.dirname(path), walked.node.target)


def choose(survey: Survey, names: Iterable[str], keep: Iterable[str], *, whole_packages: bool) -> Selection:
    """The selection for the names of traces and the patterns of --keep; ImageError for a damaged image."""
    chosen = _Chosen(survey)
    found = [each for each in names if each in survey.walked]
    _add_used(chosen, found)
    _add_always(chosen)
    for pattern in keep:
        matching = list(_matching(survey, pattern))
        if not matching:
            logger.warning("--keep %s: nothing in the image is called so", pattern)
        for path in matching:
            chosen.add_followed(path)
    if whole_packages:
        _add_packages(chosen, found)
    _add_other_names(chosen)
    return _selection(survey, chosen.paths)


def _add_used(chosen: _Chosen, found: Iterable[str]) -> None:
    for path in found:
        chosen.add(path)
        compiled = _COMPILED.fullmatch(path)
        if compiled:
            chosen.add_followed(f"{compiled[1]}/{compiled[2]}.py")
    trees = tuple(each.removesuffix("__init__.py") for each in chosen.paths if each.endswith(_ENCODINGS))
    for path in chosen.survey.walked:
        if path.startswith(trees):
            chosen.add(path)


def _add_always(chosen: _Chosen) -> None:
    survey = chosen.survey
    for path in (*_FILES, *_top(survey)):
        if path in survey.walked:
            chosen.add(path)
    for pattern in _TREES:
        for path in _matching(survey, pattern):
            chosen.add(path)


def _top(survey: Survey) -> Iterator[str]:
    """Directories and links of the root directory: what mounts and other paths begin with."""
    for path, walked in survey.walked.items():
        if path.count("/") == 1 and walked.node.kind in (Kind.DIRECTORY, Kind.LINK):
            yield path


def _matching(survey: Survey, pattern: str) -> Iterator[str]:
    """What a pattern of fnmatch(3) names, where `*` stands for "/" too, and all that is below it.

    Directories above the first wildcard may be links.
    """
    pattern = "/" + pattern.strip("/")
    plain = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    real = re.sub(r"([*?\[])", r"[\1]", survey.node(plain)[0].rstrip("/"))
    matches = re.compile(fnmatch.translate(real + pattern[len(plain) :])).match
    trees: set[str] = set()
    for path, walked in survey.walked.items():  # a directory before what is in it
        if path.rpartition("/")[0] in trees or matches(path):
            if walked.node.kind is Kind.DIRECTORY:
                trees.add(path)
            yield path


def _add_packages(chosen: _Chosen, found: Iterable[str]) -> None:
    """All files of the packages of which a file is used."""
    survey = chosen.survey
    owners = Owners(inventory.take(survey))
    used = {id(each): each for path in found if not _is_directory(survey, path) for each in owners.of(path)}
    for package in used.values():
        for path in package.files:
            chosen.add_followed(path)
        for tree in package.trees:
            top = survey.real(tree)
            for path in survey.walked:
                if path == top or path.startswith(f"{top}/"):
                    chosen.add(path)


def _is_directory(survey: Survey, path: str) -> bool:
    return survey.walked[path].node.kind is Kind.DIRECTORY


def _add_other_names(chosen: _Chosen) -> None:
    names: dict[object, list[str]] = defaultdict(list)
    for path, walked in chosen.survey.walked.items():
        number = getattr(walked.inode, "number", None)
        if walked.node.kind is not Kind.DIRECTORY and number is not None:
            names[number].append(path)
    for paths in names.values():
        if len(paths) > 1 and not chosen.paths.isdisjoint(paths):
            for path in paths:
                chosen.add(path)


def _selection(survey: Survey, kept: set[str]) -> Selection:
    removed = []
    sizes: dict[bool, dict[object, int]] = {True: {}, False: {}}
    for path, walked in survey.walked.items():
        stays = path in kept
        if not stays and (not (above := path.rpartition("/")[0]) or above in kept):
            removed.append(path)
        if walked.node.kind is Kind.FILE:
            sizes[stays][getattr(walked.inode, "number", path)] = walked.node.size
    whole = sizes[True] | sizes[False]
    return Selection(
        kept=frozenset(kept),
        removed=tuple(removed),
        files=len(whole),
        size=sum(whole.values()),
        kept_files=len(sizes[True]),
        kept_size=sum(sizes[True].values()),
    )
