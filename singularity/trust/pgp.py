"""Who signs and whose signatures count, in OpenPGP: keys of the rings, and those that key servers give."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from singularity import files
from singularity.errors import NetworkError, RegistryError, SignatureError
from singularity.trust import keyring, openpgp, pipes
from singularity.trust.keyring import Ring
from singularity.trust.openpgp import Key
from singularity.trust.seals import Kind, Sealed, Signer

logger = logging.getLogger(__name__)

_FINGERPRINT = 20  # bytes of version 4 of OpenPGP


@dataclass(frozen=True, slots=True)
class PgpChecker:
    """Signatures by keys of these rings count, and by others where `fetch` finds them: it takes a fingerprint."""

    rings: tuple[Ring, ...]
    fetch: Callable[[str], bytes] | None = None
    allowed: frozenset[str] | None = None  # fingerprints; None: all keys of the rings
    kind: Kind = Kind.OPENPGP

    def check(self, sealed: Sealed, entity: bytes) -> Signer:
        """Whose key it is; the primary one must be that of the descriptor."""
        paths = [ring.path for ring in self.rings if ring.blocks()]
        local = True
        try:
            key = openpgp.verify(sealed.document, sealed.signature, paths)
        except openpgp.UnknownKeyError as unknown:
            if self.fetch is None:
                raise
            local = False
            fingerprint = entity.hex().upper() or unknown.key_id
            try:
                key = self._fetched(sealed, fingerprint, self.fetch)
            except (NetworkError, RegistryError) as error:
                raise SignatureError(f"was made with a key that is in no ring here: {fingerprint}; {error}") from error
            logger.warning("the key %s comes from a key server: nobody here has said whose it is", key.fingerprint)
        if entity and bytes.fromhex(key.fingerprint) != entity:
            raise SignatureError(f"was made with the key {key.fingerprint}, and not the one that it names")
        if self.allowed is not None and key.fingerprint not in self.allowed:
            raise SignatureError(f"was made with the key {key.fingerprint}, which does not count here")
        return Signer(kind=self.kind, name=key.user, fingerprint=key.fingerprint, local=local)

    def _fetched(self, sealed: Sealed, fingerprint: str, fetch: Callable[[str], bytes]) -> Key:
        with files.temporary_directory(Path("/tmp")) as directory:  # noqa: S108 - a private one in it
            ring = directory / "fetched"
            ring.write_bytes(fetch(fingerprint))
            return openpgp.verify(sealed.document, sealed.signature, [ring])


class PgpSeal:
    """Signs with a secret key of the user's ring, which it has opened before anything is to be signed."""

    kind = Kind.OPENPGP

    def __init__(self, ring: Ring, number: int | None) -> None:
        blocks = ring.blocks()
        keys = [openpgp.keys_in(block)[0] for block in blocks]
        chosen = keyring.choose(keys, number)
        self._block, self.key = blocks[chosen], keys[chosen]
        self.entity = bytes.fromhex(self.key.fingerprint)
        if len(self.entity) != _FINGERPRINT:
            raise SignatureError(f"{self.key.fingerprint}: not a key of version 4 of OpenPGP")
        if self.key.refused or self.key.weakness:
            raise SignatureError(
                f"{self.key.fingerprint}: a key that is {self.key.refused or 'too weak'} signs nothing"
            )
        self._passphrase: str | None = None
        try:
            self.sign(b"{}")
        except openpgp.LockedError:
            self._passphrase = pipes.ask(f"key passphrase for {self.key.user}")
            self.sign(b"{}")  # a wrong one is told before the work

    def sign(self, document: bytes) -> bytes:
        """A clear-signed message."""
        return openpgp.clear_sign(document, self._block, self.key.fingerprint, self._passphrase)
