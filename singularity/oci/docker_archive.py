"""Archives that `docker save` makes, and podman, skopeo and buildah in the same form.

`manifest.json` lists the images, each with the path of its configuration and those of its layers, the lowest first.
Layers have no digests of their own there: the configuration says what each is uncompressed, and is itself named by its
digest. Format: Docker image specification 1.2.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from singularity.content import digest, document
from singularity.content.digest import Checked, Digest
from singularity.content.platform import Platform
from singularity.errors import ImageError
from singularity.oci import files, image, layout
from singularity.oci.files import Files
from singularity.oci.image import Image, Layer
from singularity.oci.reference import Reference

_LIST = "manifest.json"
_NAMED = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Saved:
    """One image of the list."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


def lists(place: Files) -> list[bytes]:
    """What all images of an archive follow from: the list of them, and their configurations."""
    if not place.has(_LIST):
        return layout.lists(place)
    data = files.read(place, _LIST, document.MANIFEST_LIMIT)
    name = f"{place.name}: {_LIST}"
    images = [_saved(each, name) for each in document.parse_list(data, name)]
    return [data, *(files.read(place, each.config, document.CONFIG_LIMIT) for each in images)]


def find(place: Files, reference: Reference, wanted: Platform) -> Image:
    """The image that a reference means, in such an archive or in an OCI layout. Raises ImageError and FileError."""
    if not place.has(_LIST):
        if layout.is_layout(place):
            return layout.find(place, reference, wanted)
        raise ImageError(f"{place.name}: no archive of an image", hint=f"it lacks {_LIST}")
    name = f"{place.name}: {_LIST}"
    saved = [
        _saved(each, name) for each in document.parse_list(files.read(place, _LIST, document.MANIFEST_LIMIT), name)
    ]
    return _image(place, _chosen(saved, reference, place), wanted)


def _saved(entry: Mapping[str, Any], name: str) -> _Saved:
    config = document.text(entry, "Config", name)
    if not config:
        raise ImageError(f"{name}: an image without a configuration")
    return _Saved(
        config=config, layers=document.words(entry, "Layers", name), tags=document.words(entry, "RepoTags", name)
    )


def _chosen(saved: list[_Saved], reference: Reference, place: Files) -> _Saved:
    known = sorted(tag for each in saved for tag in each.tags)
    hint = f"there are {', '.join(known[:20])}" if known else ""
    if reference.digest is not None:
        found = [each for each in saved if _digest_of_name(each.config) == reference.digest]
    elif reference.tag:
        found = [each for each in saved if any(_is_named(tag, reference.tag) for tag in each.tags)]
    else:
        found = saved
    if not found:
        raise ImageError(f'{place.name}: no image "{reference.tag or reference.digest or ""}" in it', hint=hint)
    if len({each.config for each in found}) > 1:
        raise ImageError(
            f"{place.name}: {len(found)} images in it", hint=f"name one: {hint.removeprefix('there are ')}"
        )
    return found[0]


def _is_named(tag: str, wanted: str) -> bool:
    """`wanted` is a whole name, the end of one, or only the tag: `library/debian:stable`, `debian:stable`, `stable`."""
    whole = wanted if ":" in wanted.rpartition("/")[2] else f"{wanted}:latest"
    return tag == wanted or tag.rpartition(":")[2] == wanted or f"/{tag}".endswith(f"/{whole}")


def _digest_of_name(path: str) -> Digest | None:
    match = _NAMED.fullmatch(path)
    return Digest("sha256", match[1]) if match else None


def _image(place: Files, saved: _Saved, wanted: Platform) -> Image:
    data = files.read(place, saved.config, document.CONFIG_LIMIT)
    found, named = digest.of(data), _digest_of_name(saved.config)
    name = f"{place.name}: {saved.config}"
    if named is not None and named != found:
        raise ImageError(f"{name}: its content is not what its name says", hint="damaged? make the archive again")
    config = document.parse_config(data, name)
    image.check_platform(config, wanted, place.name)
    image.check_layers(config, len(saved.layers), name)
    layers = tuple(
        Layer(name=f"{place.name}: {path}", content=content, open=_opener(place, path))
        for path, content in zip(saved.layers, config.diff_ids, strict=True)
    )
    return Image(name=place.name, digest=found, config=config, layers=layers)


def _opener(place: Files, path: str) -> Callable[[], Checked]:
    """What is stored has no digest; that of its content is checked by whoever unpacks it."""

    def open_() -> Checked:
        return Checked(place.open(path), None, f"{place.name}: {path}")

    return open_
