"""An image that is added to those of a tag, which then has one for each architecture: an index of OCI.

The image goes under a tag of its own first, TAG-ARCHITECTURE, then the index under TAG. Nothing that is there can be
changed in part, so two that add at once may each put an index without the other's image: each looks afterwards for
images with such a tag that the index lacks, and whoever is last finds them all.
"""

import logging
from typing import TYPE_CHECKING, Any

from singularity.content import document
from singularity.content.document import CONFIG_LIMIT, MANIFEST_LIMIT, Manifest
from singularity.errors import ImageError, RegistryError
from singularity.foreign_json import parse_json
from singularity.image.sif import format as sif
from singularity.push.destination import InRegistry
from singularity.push.writer import Document, encoded

if TYPE_CHECKING:
    from singularity.registry.client import Document as Stored
    from singularity.registry.client import Registry
    from singularity.registry.reference import Reference

logger = logging.getLogger(__name__)

INDEX = "application/vnd.oci.image.index.v1+json"
_TRIES = 10
_HEAD = 128  # bytes of a SIF file that have its header


class InIndex(InRegistry):
    """A tag of a repository, and the architecture that the image is for."""

    def __init__(self, registry: "Registry", reference: "Reference", architecture: str) -> None:
        super().__init__(registry, reference)
        self._architecture = architecture

    def finish(self, image: Document) -> None:
        """Puts the image under its own tag, and the index that names it in place of another for its architecture."""
        own = self._reference._replace(tag=f"{self._reference.tag}-{self._architecture}")
        self._registry.put_manifest(own, image.manifest, image.media_type)
        for _ in range(_TRIES):
            wanted = {_architecture(each): each for each in [*self._there(), *self._tagged()]}
            entries = [wanted[name] for name in sorted(wanted)]
            data = encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
            if len(data) > MANIFEST_LIMIT:
                raise ImageError(f"{self._reference}: has too many images")
            self._registry.put_manifest(self._reference, data, INDEX)
            there = self._there()
            if all(each in there for each in self._tagged()):
                logger.info("%s has images for %s", self._reference, ", ".join(sorted(wanted)))
                return
        raise RegistryError(f"{self._reference}: others push to this tag at the same time", hint="try again")

    def _tagged(self) -> list[dict[str, Any]]:
        """The images with a tag of their architecture, as entries of an index."""
        found = []
        for tag in self._registry.tags(self._reference.repository):
            architecture = tag.removeprefix(f"{self._reference.tag}-")
            if architecture != tag and architecture in sif.ARCHITECTURES:
                manifest = self._stored(self._reference._replace(tag=tag))
                found += [_entry(manifest, architecture)] if manifest else []  # listed, and not there yet
        return found

    def _there(self) -> list[dict[str, Any]]:
        """What the tag stands for now, as entries of an index."""
        found = self._stored(self._reference)
        if found is None:
            return []
        parsed = document.parse(found.data, found.media_type, str(self._reference))
        if isinstance(parsed, Manifest):
            return [_entry(found, self._architecture_of(parsed))]
        listed = parse_json(found.data)["manifests"]
        return [each for each in listed if isinstance(each, dict)]

    def _stored(self, reference: "Reference") -> "Stored | None":
        try:
            return self._registry.manifest(reference)
        except RegistryError as error:
            if error.status != 404:
                raise
            return None

    def _architecture_of(self, manifest: Manifest) -> str:
        """Of an image that was pushed alone: its configuration says it, or the head of the SIF file that it is."""
        repository = self._reference.repository
        if manifest.layers and ".sif." in manifest.layers[0].media_type:
            layer = manifest.layers[0]
            head = self._registry.blob_part(repository, layer, 0, min(_HEAD, layer.size))
            return sif.architecture_name(sif.decode_header(head.ljust(_HEAD, b"\0")).architecture)
        with self._registry.open_blob(repository, manifest.config) as blob:
            config = document.parse_config(blob.read(CONFIG_LIMIT), str(self._reference))
        return config.platform.architecture


def _entry(manifest: "Stored", architecture: str) -> dict[str, Any]:
    return {
        "mediaType": manifest.media_type,
        "digest": str(manifest.digest),
        "size": len(manifest.data),
        "platform": {"architecture": architecture, "os": "linux"},
    }


def _architecture(entry: dict[str, Any]) -> str:
    platform = entry.get("platform")
    return str(platform.get("architecture", "")) if isinstance(platform, dict) else ""
