"""Which image is meant: by tag, by digest, by platform, among all that a source has."""

import logging
from collections.abc import Iterable, Sequence

from singularity.console import VERBOSE
from singularity.content.document import REFERENCE_NAME, Descriptor, Index
from singularity.content.platform import Platform
from singularity.errors import ImageError

logger = logging.getLogger(__name__)

_CONTAINERD_NAME = "io.containerd.image.name"
_VARIANTS = {"arm": ("v7", "v6", "v5", ""), "arm64": ("", "v8"), "amd64": ("", "v1")}
"""Variants that the usual machine of an architecture runs, the best first."""


def by_tag(index: Index, tag: str, name: str) -> list[Descriptor]:
    """The images of a layout that have a tag; all, when none was asked for. Raises ImageError."""
    images = [each for each in index.manifests if not each.is_attestation]
    if not tag:
        return images
    found = [each for each in images if tag in _names(each)]
    if not found:
        known = sorted({label for each in images for label in _names(each) if label})
        raise ImageError(f'{name}: no image "{tag}" in it', hint=_listed(known))
    return found


def _names(each: Descriptor) -> set[str]:
    """A tag, or a whole name with the tag at its end."""
    whole = each.annotations.get(_CONTAINERD_NAME, "")
    return {each.annotations.get(REFERENCE_NAME, ""), whole, whole.rpartition(":")[2] if ":" in whole else ""} - {""}


def by_platform(images: Sequence[Descriptor], wanted: Platform, name: str) -> Descriptor:
    """The image that runs on `wanted`. Raises ImageError when there is none, or when it is not clear which."""
    images = [each for each in images if not each.is_attestation]
    if not images:
        raise ImageError(f"{name}: no image in it")
    places = [(each, _rank(each.platform, wanted)) for each in images]
    fitting = [(each, rank) for each, rank in places if rank is not None]
    if not fitting:
        known = ", ".join(sorted({str(each.platform) for each in images if each.platform}))
        raise ImageError(f"{name}: no image for {wanted} in it", hint=f"there are {known}" if known else "")
    best = min(rank for _, rank in fitting)
    chosen = [each for each, rank in fitting if rank == best]
    if len({each.digest for each in chosen}) > 1:
        labels = {label for each in chosen for label in _names(each)}
        raise ImageError(f"{name}: {len(chosen)} images in it", hint=_listed(sorted(labels)))
    if chosen[0].platform:
        logger.log(VERBOSE, "%s: the image for %s: %s", name, chosen[0].platform, chosen[0].digest)
    return chosen[0]


def _rank(platform: Platform | None, wanted: Platform) -> int | None:
    """How well an image fits, 0 best; None: not at all. One that does not say is tried."""
    if platform is None or not platform.architecture:
        return 0
    if platform.os not in ("", wanted.os) or platform.architecture != wanted.architecture:
        return None
    if wanted.variant:
        return 0 if platform.variant == wanted.variant else None
    usual = _VARIANTS.get(wanted.architecture, ("",))
    return usual.index(platform.variant) if platform.variant in usual else None


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    return f"name one: {', '.join(known[:20])}" if known else "name one by its digest: PATH@sha256:..."
