"""The envelopes of signatures: which kinds there are, and what a kind of signer and of checker has to do."""

import base64
import binascii
import json
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from singularity.errors import SignatureError
from singularity.trust import clearsign

PAYLOAD_TYPE = "application/vnd.sylabs.sif-metadata+json"
SSH_BEGIN, SSH_END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
LEGACY = b"SIFHASH:\n"
LIMIT = 4 << 20  # bytes of a signature


class Kind(Enum):
    """Who can have made a signature; the value is its name in messages."""

    OPENPGP = "OpenPGP"
    PEM = "PEM key"
    SSH = "SSH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A signature, taken apart and not yet checked."""

    kind: Kind
    document: bytes  # what is signed
    signature: bytes  # packets of OpenPGP, a raw signature, or an armored one of SSH
    key_id: str = ""  # of PEM: a hint

    @property
    def is_legacy(self) -> bool:
        """Whether it is of before 2020, when descriptors were not signed (CVE-2020-13845, -13846, -13847)."""
        return self.document.startswith(LEGACY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who has made a signature, as far as was checked."""

    kind: Kind
    name: str
    fingerprint: str = ""  # 40 hexadecimal digits, upper case, of OpenPGP; else as the tool of the kind has it
    local: bool = True  # by a key that was here; False: that a server has given

    @property
    def is_openpgp(self) -> bool:
        """Whether the fingerprint is one of OpenPGP, which output of the family has room for."""
        return self.kind is Kind.OPENPGP


class Checker(Protocol):
    """Knows whose signatures of one kind count."""

    @property
    def kind(self) -> Kind:
        """The signatures that it can check."""
        ...

    def check(self, sealed: Sealed, entity: bytes) -> Signer:
        """Who has signed. Raises SignatureError: nobody who counts. `entity` is what the descriptor names the
        key; nothing where there is no descriptor.
        """
        ...


class Seal(Protocol):
    """Has a key, and signs with it."""

    kind: Kind
    entity: bytes  # the fingerprint of a key of OpenPGP; empty for others

    def sign(self, document: bytes) -> bytes:
        """The whole of a signature object. Raises SignatureError."""
        ...


def opened(data: bytes) -> Sealed:
    """The parts of a signature. Raises SignatureError for none of a known form."""
    if len(data) > LIMIT:
        raise SignatureError(f"a signature of more than {LIMIT >> 20} MiB")
    if data.startswith(b"-----BEGIN PGP"):
        message = clearsign.decode(data)
        return Sealed(kind=Kind.OPENPGP, document=message.text, signature=message.signature)
    line, end_of_line, rest = data.partition(b"\n")
    if end_of_line and rest.startswith(SSH_BEGIN.encode()):
        return Sealed(kind=Kind.SSH, document=line + end_of_line, signature=rest)
    return _envelope(data)


def enveloped(document: bytes, signature: bytes, key_id: str, kind: str = PAYLOAD_TYPE) -> bytes:
    """A DSSE envelope, as the family writes it. `kind` is the type of the document."""
    coded, signed = (base64.b64encode(each).decode() for each in (document, signature))
    found = {"payloadType": kind, "payload": coded, "signatures": [{"keyid": key_id, "sig": signed}]}
    return json.dumps(found, separators=(",", ":")).encode() + b"\n"


def authenticated(document: bytes, kind: str = PAYLOAD_TYPE) -> bytes:
    """The bytes that a signature in a DSSE envelope is of."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(document), document)


def _envelope(data: bytes) -> Sealed:
    try:
        found = json.loads(data)
        (one,) = found["signatures"]
        document, signature = (base64.b64decode(each, validate=True) for each in (found["payload"], one["sig"]))
        sealed = Sealed(kind=Kind.PEM, document=document, signature=signature, key_id=str(one.get("keyid", "")))
        if enveloped(document, signature, sealed.key_id).rstrip() != data.rstrip(b"\n"):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise SignatureError("a signature of no known form") from error
    return sealed
