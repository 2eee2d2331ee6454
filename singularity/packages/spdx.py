"""The list of an image's packages as an SPDX 2.3 document in JSON.

Source: the SPDX specification 2.3 and its JSON schema. What a package says of its licence is told as a comment: most of
it is no expression of SPDX, and nobody has concluded anything.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from singularity.packages import document, purl
from singularity.packages.document import Content, Subject
from singularity.packages.inventory import Loose
from singularity.packages.model import Package

_NONE = "NOASSERTION"
_ODD = re.compile(r"[^A-Za-z0-9.-]+")
_MAIL = re.compile(r"\s*([^<>()]+?)\s*<([^<>\s()]+@[^<>\s()]+)>\s*")
_IMAGE = "SPDXRef-Image"
_ALGORITHMS = {"md5": "MD5", "sha256": "SHA256"}


def made(subject: Subject, found: Content) -> dict[str, Any]:
    """The document; packages in order, each number in its identifier."""
    ids = {id(package): _id("Package", number, package.name) for number, package in enumerate(found.packages, 1)}
    files = {each.path: _id("File", number, each.path) for number, each in enumerate(found.loose, 1)}
    relations = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)]
    relations += [_relation(_IMAGE, "CONTAINS", each) for each in ids.values()]
    # Not the image CONTAINS: the specification allows that of packages alone all of whose files are listed.
    relations += [_relation("SPDXRef-DOCUMENT", "DESCRIBES", each) for each in files.values()]
    relations += [_relation(ids[id(outer)], "CONTAINS", ids[id(inner)]) for outer, inner in found.contained]
    said = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": subject.name,
        "documentNamespace": f"urn:uuid:{document.identity(subject, found)}",
        "creationInfo": {
            "created": document.stamp(subject),
            "creators": [f"Tool: {document.TOOL}-{document.VERSION}"],
        },
        "packages": [_image(subject), *(_package(each, found, ids[id(each)]) for each in found.packages)],
        "files": [_file(each, files[each.path]) for each in found.loose],
        "relationships": relations,
    }
    return {key: value for key, value in document.cleaned(said).items() if value != []}


def _id(what: str, number: int, name: str) -> str:
    return f"SPDXRef-{what}-{number}-{_ODD.sub('-', name)[-60:].strip('-')}".rstrip("-")


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _image(subject: Subject) -> dict[str, Any]:
    version = subject.labels.get("org.opencontainers.image.version", "")
    sums = {"checksums": [{"algorithm": "SHA256", "checksumValue": subject.sha256}]} if subject.sha256 else {}
    return {
        "SPDXID": _IMAGE,
        "name": subject.name,
        **({"versionInfo": version} if version else {}),
        "primaryPackagePurpose": "CONTAINER",
        **_unknown(),
        **sums,
        **({"comment": "the checksum is of the primary partition of the SIF file"} if sums else {}),
    }


def _unknown() -> dict[str, Any]:
    return {
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": _NONE,
        "copyrightText": _NONE,
    }


def _package(package: Package, found: Content, name: str) -> dict[str, Any]:
    about = {
        "homepage": package.homepage if is_url(package.homepage) else "",
        "summary": package.summary,
        "sourceInfo": f"from {package.place}" + (f", built from {package.source}" if package.source else ""),
        "licenseComments": f"the package says: {package.license}" if package.license else "",
        "supplier": _supplier(package.supplier),
    }
    sums = [
        {"algorithm": _ALGORITHMS[name], "checksumValue": value.lower()}
        for name, value in package.digests.items()
        if re.fullmatch(r"[0-9A-Fa-f]{32}|[0-9A-Fa-f]{64}", value) and len(value) == (32 if name == "md5" else 64)
    ]
    reference = {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": purl.of(package, found.distribution),
    }
    return {
        "SPDXID": name,
        "name": package.name,
        "versionInfo": package.version,
        **_unknown(),
        **{key: value for key, value in about.items() if value},
        **({"checksums": sums} if sums else {}),
        "externalRefs": [reference],
    }


def _supplier(text: str) -> str:
    """As the format has it: a person with an address, or a name alone, of which nobody knows what it is."""
    match = _MAIL.fullmatch(text)
    if match:
        return f"Person: {match[1]} ({match[2]})"
    plain = " ".join(re.sub(r"[<>()]", " ", text).split())
    return f"Organization: {plain}" if plain and "\n" not in text else _NONE


def is_url(text: str) -> bool:
    """Whether it is an address of the web that every reader takes."""
    if not re.fullmatch(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?(/[A-Za-z0-9._~:/?#@!$&'*+,;=%-]*)?", text):
        return False
    return bool(urlsplit(text).hostname)


def _file(loose: Loose, name: str) -> dict[str, Any]:
    return {
        "SPDXID": name,
        "fileName": f".{loose.path}",
        "fileTypes": ["BINARY"],
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": loose.sha1},
            {"algorithm": "SHA256", "checksumValue": loose.sha256},
        ],
        "licenseConcluded": _NONE,
        "licenseInfoInFiles": [_NONE],
        "copyrightText": _NONE,
        "comment": f"ELF, of no package; build id {loose.build_id or 'none'}",
    }
