"""How an image was made, as a statement about its root file system: SLSA's provenance 1.0 in an in-toto statement 1.0,
in an envelope of DSSE. It lies in the SIF file as an object of its own, which signatures of the image cover; the
envelope itself is signed by keys in PEM only.

The subject is the primary partition, by its SHA-256: the same in every copy of the file, signed or not.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from singularity.errors import ImageError, SignatureError
from singularity.foreign_json import parse_json
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType, Descriptor, Sif
from singularity.trust import seals
from singularity.trust.pem import PemChecker, PemSeal

OBJECT_NAME = b"provenance.intoto.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
_STATEMENT = "https://in-toto.io/Statement/v1"
_SUBJECT = "primary partition"
_LIMIT = 4 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What lies in an image: the whole envelope, and what it says."""

    envelope: bytes
    statement: Mapping[str, Any]
    payload: bytes
    signatures: tuple[bytes, ...]


def envelope(file: BinaryIO, predicate: Mapping[str, Any], seal: PemSeal | None) -> bytes:
    """The object for an open SIF file. Raises ImageError for one without a root file system."""
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": _SUBJECT, "digest": {"sha256": _digest(file, _primary(sif.read(file)))}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    payload = json.dumps(statement, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    if seal is not None:
        return seal.sign(payload, PAYLOAD_TYPE)
    coded = base64.b64encode(payload).decode()
    return json.dumps({"payloadType": PAYLOAD_TYPE, "payload": coded, "signatures": []}).encode() + b"\n"


def find(file: BinaryIO) -> Provenance | None:
    """What an open SIF file says of how it was made; None where it says nothing. Raises ImageError."""
    content = sif.read(file)
    objects = [each for each in content.descriptors if each.name == OBJECT_NAME and each.type == DataType.GENERIC_JSON]
    if len(objects) > 1:
        raise ImageError("its provenance is there more than once")
    return decode(sif.read_object(file, objects[0], limit=_LIMIT)) if objects else None


def decode(data: bytes) -> Provenance:
    """The parts of an envelope. Raises ImageError for none of this kind."""
    try:
        outer = parse_json(data)
        if outer["payloadType"] != PAYLOAD_TYPE:
            raise ValueError("another payload type")
        payload = base64.b64decode(outer["payload"], validate=True)
        signatures = tuple(base64.b64decode(each["sig"], validate=True) for each in outer["signatures"])
        statement = parse_json(payload)
        if statement["_type"] != _STATEMENT or not isinstance(statement["predicate"], dict):
            raise ValueError("no statement")
        for each in statement["subject"]:
            _ = each["name"], each["digest"]["sha256"]
    except (ValueError, KeyError, TypeError, binascii.Error, ImageError) as error:
        raise ImageError("its provenance is malformed") from error
    return Provenance(envelope=data, statement=statement, payload=payload, signatures=signatures)


def check(file: BinaryIO, checker: PemChecker | None) -> Provenance | None:
    """The same, which is about this image, and where it is signed is signed by `checker`'s key, if there is one.

    Raises SignatureError.
    """
    try:
        found = find(file)
        if found is None:
            return None
        about = {(each["name"], each["digest"]["sha256"]) for each in found.statement["subject"]}
        if about != {(_SUBJECT, _digest(file, _primary(sif.read(file))))}:
            raise SignatureError("its provenance is that of another image")
    except ImageError as error:
        raise SignatureError(str(error)) from error
    signed = seals.authenticated(found.payload, PAYLOAD_TYPE)
    if checker is not None and not all(checker.key.has_signed(signed, each) for each in found.signatures):
        raise SignatureError("its provenance was signed with another key, or does not fit its signature")
    return found


def _primary(content: Sif) -> Descriptor:
    primary = content.primary()
    if primary is None:
        raise ImageError("provenance is of root file systems, and there is none in it")
    return primary


def _digest(file: BinaryIO, primary: Descriptor) -> str:
    hashed = hashlib.sha256()
    file.seek(primary.offset)
    left = primary.size
    while left and (data := file.read(min(left, _CHUNK))):
        hashed.update(data)
        left -= len(data)
    return hashed.hexdigest()
