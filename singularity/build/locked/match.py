"""Which of the files that were fetched a package of the image came in: by the digest that a package manager has noted,

else by the names that package managers give files.
"""

import re
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import replace

from singularity.build.locked.document import Fetched, Installed

_BETWEEN = re.compile(r"[-_.]+")  # alike in names of Python's packages, and in file names made of them
_EPOCH = re.compile(r"\d+:")
_INDEX = re.compile(r"[a-z0-9]+")


def matched(packages: Iterable[Installed], fetched: Iterable[Fetched]) -> Iterator[Installed]:
    """The packages, with URL and digest of the file where there is one of their digest, or of name and version."""
    by_word: dict[str, list[tuple[str, Fetched]]] = {}
    by_digest: dict[str, Fetched] = {}
    for each in fetched:
        by_digest.setdefault(each.sha256, each)
        base = urllib.parse.unquote(urllib.parse.urlsplit(each.url).path.rpartition("/")[2]).lower()
        first = _INDEX.match(base)
        if each.sha256 and first:
            by_word.setdefault(first[0], []).append((base, each))
    for package in packages:
        first = _INDEX.match(package.name.rpartition("/")[2].lower())
        if package.sha256:
            found = by_digest.get(package.sha256)
        else:
            found = next(_of(package, by_word.get(first[0], []) if first else []), None)
        yield replace(package, file=found.url if found else "", sha256=found.sha256 if found else "")


def _of(package: Installed, files: Iterable[tuple[str, Fetched]]) -> Iterator[Fetched]:
    """NAME-VERSION or NAME_VERSION begins the name of a package's file, whoever made it."""
    name = "[-_.]+".join(map(re.escape, _BETWEEN.split(package.name.rpartition("/")[2].lower())))
    version = _EPOCH.sub("", package.version.lower(), count=1)
    for text in dict.fromkeys((version, version.rpartition("-")[0])):
        form = re.compile(rf"{name}[-_](?:\d+:)?{re.escape(text)}(?![a-z0-9+~]|\.\d)") if text else None
        for base, each in files:
            if form is not None and form.match(base):
                yield each
