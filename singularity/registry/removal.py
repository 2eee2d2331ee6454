"""Taking images away from a registry, no more of them than was asked for."""

from singularity.content.digest import Digest
from singularity.errors import RegistryError
from singularity.registry.client import Registry, unknown
from singularity.registry.reference import Reference

_NO_SUCH_REQUEST = (400, 405, 501)  # how registries refuse it
_SHOWN = 10  # tags in a message


def remove(registry: Registry, reference: Reference) -> None:
    """Removes a tag; by its digest an image, and all its tags with it.

    Many registries remove images and no tags: there an image goes that has no other tag. Raises RegistryError.
    """
    if _removed(registry, reference):
        return
    if reference.digest is None:
        found = registry.digest(reference)
        others = [
            tag
            for tag in sorted(registry.tags(reference.repository))
            if tag != reference.tag and _stands_for(registry, reference._replace(tag=tag), found)
        ]
        if others:
            what = f"{reference}: the registry removes no tags, and the image has others: {', '.join(others[:_SHOWN])}"
            raise RegistryError(what, hint=f"all of them go with {reference.host}/{reference.repository}@{found}")
        if _removed(registry, reference._replace(digest=found)):
            return
    raise RegistryError(f"{reference}: the registry removes no images", hint="its administrator does")


def _removed(registry: Registry, reference: Reference) -> bool:
    """False where the registry does not do that."""
    place = registry.own(reference.repository)
    scopes = (f"repository:{place.repository}:pull,delete",)
    try:
        registry.send(place, "DELETE", f"manifests/{reference.target}", accept=(200, 202, 204), scopes=scopes).drain()
    except RegistryError as error:
        if error.status in _NO_SUCH_REQUEST:
            return False
        raise unknown(error, reference) from error
    return True


def _stands_for(registry: Registry, reference: Reference, wanted: Digest) -> bool:
    try:
        return registry.digest(reference) == wanted
    except RegistryError as error:
        if error.status == 404:  # listed, and gone
            return False
        raise
