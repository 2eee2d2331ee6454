"""Names of images: which scopes of a policy they lie in, and whether a signature speaks of them."""

from singularity.errors import ImageError
from singularity.policy.model import Identity, Match
from singularity.registry import reference as references
from singularity.registry.reference import Reference


def scopes(named: Reference) -> list[str]:
    """Those that a policy, or a file of `registries.d`, may have for an image: from its full name to its domain."""
    repository = f"{named.host}/{named.repository}"
    found = [str(named)]
    if named.tag and named.digest:
        found += [str(named._replace(digest=None)), str(named._replace(tag=""))]
    while repository:
        found.append(repository)
        repository = repository.rpartition("/")[0]
    host = named.host
    while "." in host:
        host = host.partition(".")[2]
        found.append(f"*.{host}")
    return found


def fits(identity: Identity, signed: str, wanted: Reference) -> bool:
    """Whether the name in a signature, a foreign text, is that of the image that is wanted."""
    try:
        said = references.parse(signed)
    except ImageError:
        return False
    is_name_alone = "@" not in signed and ":" not in signed.rpartition("/")[2]
    repository = f"{said.host}/{said.repository}"
    asked = f"{wanted.host}/{wanted.repository}"
    match identity.match:
        case Match.EXACT:
            return not is_name_alone and str(said) == str(wanted)
        case Match.REPOSITORY:
            return repository == asked
        case Match.EXACT_REFERENCE:
            return not is_name_alone and str(said) == identity.name
        case Match.EXACT_REPOSITORY:
            return repository == identity.name
        case Match.REMAP:
            asked = _remapped(asked, identity)
    if wanted.tag:  # what the digest beside it says, if there is one, holds in any case
        return not is_name_alone and said.digest is None and (repository, said.tag) == (asked, wanted.tag)
    return repository == asked


def _remapped(name: str, identity: Identity) -> str:
    if name == identity.prefix or name.startswith(f"{identity.prefix}/"):
        return identity.signed_prefix + name.removeprefix(identity.prefix)
    return name
