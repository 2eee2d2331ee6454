"""Manifests, indexes and configurations, as values; Docker's and OCI's forms of them are told apart nowhere else.

Sources: OCI image specification 1.1 (`image-index`, `manifest`, `config`, `descriptor`), Docker's image manifest
version 2, schema 2. Documents are foreign: each function takes bytes and raises ImageError alone, whatever they hold
(security requirements P5, N5).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from singularity.content import digest
from singularity.content.digest import Digest
from singularity.content.media_types import INDEX_TYPES as INDEX_TYPES
from singularity.content.media_types import MANIFEST_LIMIT as MANIFEST_LIMIT
from singularity.content.media_types import MANIFEST_TYPES as MANIFEST_TYPES
from singularity.content.media_types import SCHEMA_1
from singularity.content.platform import Platform
from singularity.errors import ImageError
from singularity.foreign_json import objects, parse_json

CONFIG_LIMIT = 16 << 20
_LIST_LIMIT = 4096  # layers of an image, or images of an index
_SIZE_LIMIT = 1 << 50

_LAYERS = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_COMPRESSIONS = ("", "+gzip", "+zstd", ".gzip", ".zstd")
LAYER_TYPES = frozenset(kind + compression for kind in _LAYERS for compression in _COMPRESSIONS)
_ARTIFACTS_THAT_ARE_IMAGES = ("", "application/vnd.oci.image.config.v1+json")
REFERENCE_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A blob as a document speaks of it; size in bytes."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    artifact_type: str = ""  # of what a manifest holds instead of an image
    annotations: Mapping[str, str] = field(default_factory=dict)
    has_urls: bool = False  # a layer that is to be had elsewhere only; nothing is fetched from there

    @property
    def is_layer(self) -> bool:
        """Whether it is a tar archive with files."""
        return self.media_type in LAYER_TYPES

    @property
    def is_attestation(self) -> bool:
        """Whether it only speaks of another image of the index."""
        unknown = self.platform is not None and self.platform.architecture == "unknown"
        artifact = self.platform is None and self.artifact_type not in _ARTIFACTS_THAT_ARE_IMAGES
        return unknown or artifact or self.annotations.get("vnd.docker.reference.type") == "attestation-manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Several images under one name, or all images of a layout."""

    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image: its configuration, and its layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What an image says about how it is run; lists are empty where it says nothing."""

    platform: Platform
    diff_ids: tuple[Digest, ...]  # of the layers, uncompressed
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()  # NAME=VALUE
    labels: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    user: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)  # the whole object that the above is from
    history: tuple[str, ...] = ()  # what made each layer, in their order, as far as it says that


def parse(data: bytes, media_type: str, name: str) -> Index | Manifest:
    """An index or a manifest; `media_type` is what it was said to be, empty where nothing was.

    `name` stands in messages.
    """
    document = _object(_json(data, name, MANIFEST_LIMIT), name)
    said = text(document, "mediaType", name)
    if media_type.startswith(SCHEMA_1) or said.startswith(SCHEMA_1) or document.get("schemaVersion") == 1:
        raise ImageError(f"{name}: an image in Docker's old format (schema 1)", hint="push it again with today's tools")
    if "layers" in document and "manifests" in document:
        raise ImageError(f"{name}: both an index and a manifest", hint="damaged, or made to deceive")
    kinds = INDEX_TYPES if "manifests" in document else MANIFEST_TYPES
    for each in (said, media_type):
        if each and each not in kinds:
            raise ImageError(f'{name}: its content is not of the type "{each[:100]}"')
    if said and media_type and said != media_type:
        raise ImageError(f'{name}: of the type "{said}", but it was announced as "{media_type}"')
    if "manifests" in document:
        return Index(manifests=_descriptors(document, "manifests", name))
    if "layers" not in document or "config" not in document:
        raise ImageError(f"{name}: neither an index nor a manifest of an image")
    return Manifest(
        config=_descriptor(document["config"], f"{name}: config"),
        layers=_descriptors(document, "layers", name),
        annotations=_strings(document, "annotations", name),
    )


def parse_config(data: bytes, name: str) -> Config:
    """The configuration of an image; `name` stands in messages."""
    document = _object(_json(data, name, CONFIG_LIMIT), name)
    raw = _member(document, "config", name)
    rootfs = _member(document, "rootfs", name)
    return Config(
        platform=_platform(document, name),
        diff_ids=tuple(digest.parse(each) for each in _list(rootfs, "diff_ids", name)),
        entrypoint=words(raw, "Entrypoint", name),
        command=words(raw, "Cmd", name),
        environment=words(raw, "Env", name),
        labels=_strings(raw, "Labels", name),
        working_directory=_plain(raw, "WorkingDir", name),
        user=_plain(raw, "User", name),
        raw=raw,
        history=_history(document),
    )


def _history(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What is said of steps that made a layer; nothing depends on it, so that nothing in it is wrong."""
    texts = (each.get("created_by") for each in objects(document.get("history")) if not each.get("empty_layer"))
    return tuple(" ".join(each.split()) if isinstance(each, str) else "" for each in texts)


def parse_list(data: bytes, name: str) -> list[dict[str, Any]]:
    """A list of objects, as the `manifest.json` of a Docker archive is."""
    document = _json(data, name, MANIFEST_LIMIT)
    if not isinstance(document, list) or len(document) > _LIST_LIMIT:
        raise ImageError(f"{name}: no list of images")
    return [_object(each, name) for each in document]


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """A small document that is an object."""
    return _object(_json(data, name, MANIFEST_LIMIT), name)


def _json(data: bytes, name: str, limit: int) -> Any:
    if len(data) > limit:
        raise ImageError(f"{name}: {len(data)} bytes, more than the {limit} that such a document may have")
    with ImageError.named(name):
        return parse_json(data)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ImageError(f"{name}: no JSON object")
    return value


def _member(document: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    value = document.get(key)
    return {} if value is None else _object(value, f"{name}: {key}")


def _list(document: Mapping[str, Any], key: str, name: str) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _LIST_LIMIT:
        raise ImageError(f"{name}: {key} is no list, or too long a one")
    return value


def text(document: Mapping[str, Any], key: str, name: str) -> str:
    """A member that is a text; empty when it is missing or null."""
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ImageError(f"{name}: {key} is no text")
    return value


def _plain(document: Mapping[str, Any], key: str, name: str) -> str:
    value = text(document, key, name)
    if "\0" in value:
        raise ImageError(f"{name}: {key} holds a zero byte")
    return value


def words(document: Mapping[str, Any], key: str, name: str) -> tuple[str, ...]:
    """A member that is a list of texts; empty when it is missing or null."""
    values = _list(document, key, name)
    if not all(isinstance(each, str) for each in values):
        raise ImageError(f"{name}: {key} is no list of texts")
    if any("\0" in each for each in values):
        raise ImageError(f"{name}: {key} holds a zero byte")
    return tuple(values)


def _strings(document: Mapping[str, Any], key: str, name: str) -> dict[str, str]:
    values = _member(document, key, name)
    if not all(isinstance(each, str) for each in values.values()):
        raise ImageError(f"{name}: {key} holds what is no text")
    return values


def _platform(document: Mapping[str, Any], name: str) -> Platform:
    keys = ("os", "architecture", "variant")
    return Platform(**{key: text(document, key, name) for key in keys})


def _descriptors(document: Mapping[str, Any], key: str, name: str) -> tuple[Descriptor, ...]:
    return tuple(_descriptor(each, f"{name}: {key}") for each in _list(document, key, name))


def _descriptor(value: Any, name: str) -> Descriptor:
    document = _object(value, name)
    size = document.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _SIZE_LIMIT:
        raise ImageError(f"{name}: a blob without a possible size")
    platform = document.get("platform")
    with ImageError.named(name):
        name_of_blob = digest.parse(document.get("digest"))
    return Descriptor(
        media_type=text(document, "mediaType", name),
        digest=name_of_blob,
        size=size,
        platform=None if platform is None else _platform(_object(platform, name), name),
        artifact_type=text(document, "artifactType", name),
        annotations=_strings(document, "annotations", name),
        has_urls=bool(_list(document, "urls", name)),
    )
