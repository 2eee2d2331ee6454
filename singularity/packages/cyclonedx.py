"""The list of an image's packages as a CycloneDX 1.6 document in JSON.

Source: the CycloneDX specification 1.6 (ECMA-424) and its JSON schema.
"""

import re
from typing import Any

from singularity.packages import document, purl
from singularity.packages.document import Content, Subject
from singularity.packages.inventory import Loose
from singularity.packages.model import Package
from singularity.packages.spdx import is_url

_ALGORITHMS = {"md5": ("MD5", 32), "sha256": ("SHA-256", 64)}
_OURS = "singularity"  # what names of properties begin with


def made(subject: Subject, found: Content) -> dict[str, Any]:
    """The document; components in order, each number in its reference."""
    references = {id(package): f"package-{number}" for number, package in enumerate(found.packages, 1)}
    inside: dict[int, str] = {}
    for outer, inner in found.contained:
        inside.setdefault(id(inner), references[id(outer)])
    components = [_package(each, found, references[id(each)], inside.get(id(each), "")) for each in found.packages]
    components += [_file(each, f"file-{number}") for number, each in enumerate(found.loose, 1)]
    said = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{document.identity(subject, found)}",
        "version": 1,
        "metadata": {
            "timestamp": document.stamp(subject),
            "tools": {"components": [{"type": "application", "name": document.TOOL, "version": document.VERSION}]},
            "component": _image(subject),
        },
        "components": [*_distribution(found), *components],
        "dependencies": [{"ref": "image", "dependsOn": sorted(references.values())}] if references else [],
    }
    cleaned: dict[str, Any] = document.cleaned(said)
    return cleaned


def _image(subject: Subject) -> dict[str, Any]:
    version = subject.labels.get("org.opencontainers.image.version", "")
    hashes = [{"alg": "SHA-256", "content": subject.sha256}] if subject.sha256 else []
    named = {"version": version, "hashes": hashes}
    properties = [_property("hash-of", "the primary partition of the SIF file")] if hashes else []
    return {
        "type": "container",
        "bom-ref": "image",
        "name": subject.name,
        **{key: value for key, value in named.items() if value},
        **({"properties": properties} if properties else {}),
    }


def _distribution(found: Content) -> list[dict[str, Any]]:
    said = found.distribution
    if not said.get("ID"):
        return []
    version = {"version": said["VERSION_ID"]} if said.get("VERSION_ID") else {}
    named = {"name": said["ID"], **version, "description": said.get("PRETTY_NAME", "")}
    return [{"type": "operating-system", "bom-ref": "distribution", **named}]


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"{_OURS}:{name}", "value": value}


def _package(package: Package, found: Content, reference: str, outer: str) -> dict[str, Any]:
    hashes = [
        {"alg": _ALGORITHMS[name][0], "content": value.lower()}
        for name, value in package.digests.items()
        if re.fullmatch(rf"[0-9A-Fa-f]{{{_ALGORITHMS[name][1]}}}", value)
    ]
    about: dict[str, Any] = {
        "supplier": {"name": package.supplier} if package.supplier else None,
        "description": package.summary,
        "hashes": hashes,
        "licenses": [{"license": {"name": package.license}}] if package.license else None,
        "externalReferences": [{"type": "website", "url": package.homepage}] if is_url(package.homepage) else None,
    }
    properties = [("manager", package.manager.name.lower()), ("place", package.place), ("source", package.source)]
    properties += [("architecture", package.architecture), ("contained-in", outer)]
    return {
        "type": "library",
        "bom-ref": reference,
        "name": package.name,
        "version": package.version,
        **{key: value for key, value in about.items() if value},
        "purl": purl.of(package, found.distribution),
        "properties": [_property(name, value) for name, value in properties if value],
    }


def _file(loose: Loose, reference: str) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": reference,
        "name": loose.path,
        "hashes": [{"alg": "SHA-1", "content": loose.sha1}, {"alg": "SHA-256", "content": loose.sha256}],
        "properties": [_property("elf-build-id", loose.build_id)] if loose.build_id else [],
    }
