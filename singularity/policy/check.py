"""Whether a policy lets an image in. Who calls uses just the manifest that was judged: by its digest."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from singularity.console import VERBOSE
from singularity.content.digest import Digest
from singularity.errors import SignatureError
from singularity.policy import claims, identity, model, stored
from singularity.policy.claims import Claim
from singularity.policy.model import Kind, Policy, Requirement
from singularity.registry.access import Access
from singularity.registry.reference import Reference

logger = logging.getLogger(__name__)

_REGISTRIES = "docker"  # the transport of policies that images in registries have
_HINT = "who runs it anyway changes that file"


def admit(named: Reference, manifest: Callable[[], Digest], access: Access, files: Sequence[Path]) -> None:
    """Returns where the policies in `files` let an image of a registry in, whose manifest is what `manifest` finds.

    It is asked for where signatures count. Raises SignatureError, and what fetching raises.
    """
    for policy, requirement in _demands(_REGISTRIES, identity.scopes(named), files):
        what = f"{named}: refused by {policy.path}"
        if requirement.kind is Kind.REJECT:
            raise SignatureError(what, hint=_HINT)
        if requirement.unknown:
            missing = f"it asks for {requirement.unknown}, which is not checked here"
            raise SignatureError(f"{what}: {missing}", hint="sigstoreSigned by keyPath or keyData is")
        judged = manifest()
        reasons = _unsigned(named, judged, requirement, access)
        if reasons is not None:
            reason = "; ".join(dict.fromkeys(reasons)) or f"no signature of {judged.short} is there"
            raise SignatureError(f"{what}: not signed as it asks: {reason}", hint=_HINT)
        logger.log(VERBOSE, "%s: signed as %s asks", named, policy.path)


def admit_other(transport: str, place: str, files: Sequence[Path]) -> None:
    """The same for what is in no registry, and so has no signatures. Raises SignatureError."""
    scopes = []
    if transport.startswith("oci") or transport == "docker-archive":
        path, _, tag = place.rpartition(":") if ":" in place.rpartition("/")[2] else (place, "", "")
        absolute = Path(path).resolve()
        scopes = [*([f"{absolute}:{tag}"] if tag else []), *map(str, (absolute, *absolute.parents[:-1]))]
    for policy, requirement in _demands(transport, scopes, files):
        what = f"{transport}:{place}: refused by {policy.path}"
        if requirement.kind is Kind.REJECT:
            raise SignatureError(what, hint=_HINT)
        raise SignatureError(f"{what}: it asks for signatures, and only registries have them", hint=_HINT)


def _demands(transport: str, scopes: list[str], files: Sequence[Path]) -> list[tuple[Policy, Requirement]]:
    """All that is asked for; all files are read before the first of it counts."""
    policies = [model.read(path) for path in files]
    return [
        (policy, each)
        for policy in policies
        for each in policy.requirements(transport, scopes)
        if each.kind is not Kind.ACCEPT
    ]


def _unsigned(named: Reference, manifest: Digest, requirement: Requirement, access: Access) -> list[str] | None:
    """Why no signature is what is asked for, in the words of each; None where one is."""
    place = stored.storage(named)
    check = _openpgp if requirement.kind is Kind.SIGNED_BY else _sigstore
    reasons = []
    for claim in check(named, manifest, requirement, place, access):
        try:
            said = claim()
            if said.manifest != manifest:
                raise SignatureError(f"a signature of another manifest, {said.manifest.short}")
            if not identity.fits(requirement.identity, said.name, named):
                raise SignatureError(f'signed as "{said.name[:200]}", which is another name')
        except SignatureError as error:
            reasons.append(error.what)
        else:
            return None
    return reasons


_Claims = Iterable[Callable[[], Claim]]


def _openpgp(
    named: Reference, manifest: Digest, requirement: Requirement, place: stored.Storage, access: Access
) -> _Claims:
    from singularity.trust import openpgp

    del access
    keys = requirement.read_keys()
    for message in stored.beside(named, manifest, place):

        def claim(message: bytes = message) -> Claim:
            try:
                return claims.decode(openpgp.opened_message(message, keys, claims.LIMIT), claims.OPENPGP)
            except SignatureError as error:
                raise SignatureError(f"a signature that {error.what}") from error

        yield claim


def _sigstore(
    named: Reference, manifest: Digest, requirement: Requirement, place: stored.Storage, access: Access
) -> _Claims:
    from singularity.trust import pem

    keys = [pem.public_key(data.replace(b"\r\n", b"\n")) for data in requirement.read_keys()]
    for each in stored.attached(named, manifest, place, access):

        def claim(each: stored.Attached = each) -> Claim:
            if not any(key.key_id and key.has_signed(each.payload, each.signature) for key in keys):
                raise SignatureError("a signature that was made with another key, or does not fit what it is about")
            try:
                return claims.decode(each.payload, claims.SIGSTORE)
            except SignatureError as error:
                raise SignatureError(f"a signature that {error.what}") from error

        yield claim
