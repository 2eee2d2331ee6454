"""Packages of Python, as pip and others note them: `*.dist-info`, and `*.egg-info` of older tools.

Sources: the Python Packaging User Guide, "Recording installed projects" and "Core metadata specifications".
"""

import csv
import posixpath
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser

from singularity.image.tree import Kind
from singularity.packages.model import Manager, Package, Survey, needed, warn

_HEAD_LIMIT = 1 << 20  # letters, the description behind them left out


def read(survey: Survey) -> Iterator[Package]:
    """The distributions in every directory of the image, also those that others bring along."""
    for path, walked in survey.walked.items():
        if path.endswith(".dist-info") and walked.node.kind is Kind.DIRECTORY:
            note, listed = f"{path}/METADATA", _recorded
        elif path.endswith(".egg-info") and walked.node.kind is Kind.DIRECTORY:
            note, listed = f"{path}/PKG-INFO", _installed
        elif path.endswith(".egg-info") and walked.node.kind is Kind.FILE:
            note, listed = path, _nothing_listed
        else:
            continue
        said = HeaderParser().parsestr(survey.text(note).partition("\n\n")[0][:_HEAD_LIMIT])
        one = {key.lower(): " ".join(str(value).split()) for key, value in reversed(said.items())}
        if not one.get("name") or not one.get("version"):
            continue
        yield Package(
            manager=Manager.PYTHON,
            name=one["name"],
            version=one["version"],
            license=one.get("license-expression") or _short(one.get("license", "")) or _classified(said),
            supplier=one.get("author-email") or one.get("author", ""),
            homepage=one.get("home-page", ""),
            summary=one.get("summary", ""),
            place=path,
            files=survey.listed(listed(survey, path)),
            trees=(path,) if walked.node.kind is Kind.DIRECTORY else (),
            needs=needed(str(each) for each in said.get_all("requires-dist", []) if "extra ==" not in str(each)),
        )


def _short(text: str) -> str:
    """The name of a licence; whole texts of some are left out."""
    return text if len(text) <= 100 and text != "UNKNOWN" else ""


def _classified(said: Message) -> str:
    classifiers = [str(each) for each in said.get_all("classifier", [])]
    return ", ".join(each.rpartition("::")[2].strip() for each in classifiers if each.startswith("License ::"))


def _recorded(survey: Survey, path: str) -> Iterator[str]:
    try:
        for row in csv.reader(survey.text(f"{path}/RECORD").splitlines()):
            if row:
                yield posixpath.normpath(posixpath.join(posixpath.dirname(path), row[0]))
    except csv.Error as error:
        warn(f"{path}/RECORD", error)


def _installed(survey: Survey, path: str) -> Iterator[str]:
    for line in survey.text(f"{path}/installed-files.txt").splitlines():
        yield posixpath.normpath(posixpath.join(path, line))


def _nothing_listed(survey: Survey, path: str) -> Iterator[str]:
    del survey
    yield path
