"""What a signature of an image says: "simple signing", by which both GnuPG's and sigstore's signatures are of one form.

Source: containers-signature(5). Whatever is unknown in the part that is critical makes it no signature.
"""

import json
from dataclasses import dataclass
from typing import Any

from singularity.content import digest
from singularity.content.digest import Digest
from singularity.errors import ImageError, SignatureError

OPENPGP, SIGSTORE = "atomic container signature", "cosign container image signature"
LIMIT = 4 << 20  # bytes of a signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The manifest that was signed, and the name that it was signed for."""

    manifest: Digest
    name: str


def decode(data: bytes, kind: str) -> Claim:
    """The claim in a payload that somebody has signed. `kind` is OPENPGP or SIGSTORE. Raises SignatureError."""
    try:
        document = json.loads(data, object_pairs_hook=_once)
        _exactly(document, {"critical", "optional"})
        critical = document["critical"]
        _exactly(critical, {"type", "image", "identity"})
        _exactly(critical["image"], {"docker-manifest-digest"})
        _exactly(critical["identity"], {"docker-reference"})
        name = critical["identity"]["docker-reference"]
        if critical["type"] != kind or not isinstance(name, str):
            raise SignatureError(f'is of the kind "{str(critical["type"])[:80]}", and not "{kind}"')
        optional = document["optional"]
        if not (isinstance(optional, dict) or (optional is None and kind == SIGSTORE)):
            raise ValueError("optional")
        creator, timestamp = (optional or {}).get("creator", ""), (optional or {}).get("timestamp", 0)
        if not isinstance(creator, str) or isinstance(timestamp, bool) or int(timestamp) != timestamp:
            raise ValueError("optional")
        return Claim(manifest=digest.parse(critical["image"]["docker-manifest-digest"]), name=name)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, ImageError) as error:
        raise SignatureError("is malformed") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a member that stands there twice")
    return dict(pairs)


def _exactly(value: Any, names: set[str]) -> None:
    if not isinstance(value, dict) or value.keys() != names:
        raise ValueError("other members than there should be")
