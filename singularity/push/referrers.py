"""What is said about an image, beside it in its registry: an artifact whose subject is the image's manifest.

Source: OCI distribution specification 1.1, "Listing Referrers"; a registry that does not know it gets the list under a
tag made of the digest, as the specification says. Whoever copies images with what refers to them takes it along.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from singularity.content import digest, document
from singularity.content.digest import Digest
from singularity.content.document import INDEX_TYPES
from singularity.content.media_types import MANIFEST_LIMIT
from singularity.errors import ImageError, RegistryError
from singularity.push import writer
from singularity.registry import endpoint as endpoints
from singularity.registry.client import Registry
from singularity.registry.reference import Reference

_EMPTY = "application/vnd.oci.empty.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_PREDICATE = "in-toto.io/predicate-type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is said about an image, and in which form."""

    data: bytes
    media_type: str
    notes: Mapping[str, str] = field(default_factory=dict)  # annotations


def provenance(envelope: bytes, predicate: str) -> Statement:
    """An attestation in an envelope of DSSE."""
    return Statement(data=envelope, media_type="application/vnd.dsse.envelope.v1+json", notes={_PREDICATE: predicate})


def attach(registry: Registry, named: Reference, image: writer.Document, said: Statement) -> Digest:
    """Puts a statement beside an image that is there; its digest. Raises NetworkError and RegistryError."""
    config, blob = writer.small(_EMPTY, b"{}"), writer.small(said.media_type, said.data)
    for each in (blob, config):
        registry.upload(named.repository, each.descriptor, each.open)
    notes = {"annotations": dict(said.notes)} if said.notes else {}
    content: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": writer.MANIFEST,
        "artifactType": said.media_type,
        "config": writer.described(config.descriptor),
        "layers": [writer.described(blob.descriptor) | notes],
        "subject": {"mediaType": image.media_type, "digest": str(image.digest), "size": len(image.manifest)},
        **notes,
    }
    data = writer.encoded(content)
    found = registry.put_manifest(named._replace(tag="", digest=digest.of(data)), data, writer.MANIFEST)
    if not registry.lists_referrers(named.repository, image.digest):
        entry = {"mediaType": writer.MANIFEST, "digest": str(found), "size": len(data)}
        _list(registry, named, image.digest, entry | {"artifactType": said.media_type} | notes)
    return found


def _list(registry: Registry, named: Reference, subject: Digest, entry: dict[str, Any]) -> None:
    """Adds it to the list that stands in for the registry's own."""
    tag = named._replace(tag=f"{subject.algorithm}-{subject.digits[:64]}", digest=None)
    listed: list[dict[str, Any]] = []
    try:
        before = registry.manifest(tag)
    except RegistryError as error:
        if not endpoints.is_missing(error):
            raise
    else:
        if before.media_type not in INDEX_TYPES:
            raise ImageError(f"{tag}: no list of what refers to an image")
        listed = document.parse_object(before.data, str(tag)).get("manifests") or []
    others = [each for each in listed if each.get("digest") != entry["digest"]]
    data = writer.encoded({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [*others, entry]})
    if len(data) > MANIFEST_LIMIT:
        raise ImageError(f"{tag}: {len(others)} artifacts refer to it, too many")
    registry.put_manifest(tag, data, _INDEX)
