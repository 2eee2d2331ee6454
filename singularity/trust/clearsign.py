"""Clear-signed messages of OpenPGP, taken apart: the text that is signed, and the signature's packets.

Which bytes a signature is about is decided here and nowhere else: GnuPG gets both apart, as data and as a detached
signature over it. A message has one spelling only, so that nothing can hide before, behind or in it.
"""

import base64
import re
from dataclasses import dataclass

from singularity.errors import SignatureError

_LIMIT = 4 << 20
_BEGIN, _SIGNATURE, _END = (
    "-----BEGIN PGP SIGNED MESSAGE-----", "-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----",
)  # fmt: skip
_HASH = re.compile(r"Hash: (SHA(?:224|256|384|512))")
_ARMOR_HEADER = re.compile(r"(Version|Comment|Charset|MessageID): [\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class ClearSigned:
    """A message in its parts."""

    text: bytes  # lines end with \n, the last one without
    signature: bytes  # packets


def decode(data: bytes) -> ClearSigned:
    """The parts of a message. Raises SignatureError."""
    try:
        if len(data) > _LIMIT:
            raise ValueError
        lines = data.decode("ascii").removesuffix("\n").split("\n")
        end = lines.index("")
        at = lines.index(_SIGNATURE)
        if lines[0] != _BEGIN or lines[-1] != _END or not all(map(_HASH.fullmatch, lines[1:end])) or at <= end:
            raise ValueError
        text = [_undashed(line) for line in lines[end + 1 : at]]
        return ClearSigned("\n".join(text).encode(), _dearmored(lines[at + 1 : -1]))
    except (ValueError, UnicodeDecodeError) as error:
        raise SignatureError("no clear-signed message of the form that signatures have") from error


def _undashed(line: str) -> str:
    """A line as it was signed. Raises ValueError where it could be read in two ways."""
    plain = line.removeprefix("- ")
    if plain != plain.rstrip(" \t\r") or (plain.startswith("-") and plain == line) or not plain.isprintable():
        raise ValueError
    return plain


def _dearmored(lines: list[str]) -> bytes:
    start = lines.index("")
    if not all(map(_ARMOR_HEADER.fullmatch, lines[:start])):
        raise ValueError
    body = lines[start + 1 :]
    checksum = body.pop() if body and body[-1].startswith("=") else ""
    data = base64.b64decode("".join(body), validate=True)
    if base64.b64encode(data).decode() != "".join(body) or len({len(line) for line in body[:-1]}) > 1:
        raise ValueError
    if checksum and base64.b64decode(checksum[1:], validate=True) != _crc24(data):
        raise ValueError
    return data


def _crc24(data: bytes) -> bytes:
    """The checksum of armor (RFC 4880, 6.1)."""
    value = 0xB704CE
    for byte in data:
        value ^= byte << 16
        for _ in range(8):
            value = (value << 1) ^ (0x1864CFB if value & 0x800000 else 0)
    return (value & 0xFFFFFF).to_bytes(3, "big")
