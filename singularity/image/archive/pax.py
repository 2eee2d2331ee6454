r"""Records of pax headers, `LENGTH KEY=VALUE\n`: numbers, times, extended attributes and ACLs, read and written.

Formats: POSIX `pax`, section "pax Extended Header"; star(5) for `SCHILY.*`; libarchive's tar(5).
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from singularity.errors import ImageError
from singularity.image import acl
from singularity.image.xattrs import is_carried

NANO = 10**9
_DECIMAL = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")
_ESCAPES = re.compile(rb"%(25|3D)")
_XATTR, _XATTR_ENCODED = b"SCHILY.xattr.", b"LIBARCHIVE.xattr."
_ACLS = {b"SCHILY.acl.access": acl.ACCESS, b"SCHILY.acl.default": acl.DEFAULT}


def records(data: bytes, pairs: list[bytes]) -> dict[bytes, bytes]:
    r"""The records `LENGTH KEY=VALUE\n` of a pax header; repeated ones of GNU.sparse 0.0 go to `pairs`."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data) and data[at]:
        blank = data.find(b" ", at, at + 21)
        digits = data[at:blank] if blank > 0 else b""
        end = at + int(digits) if digits.isdigit() else 0
        equals = data.find(b"=", blank, end)
        if not blank < equals < end <= len(data) or data[end - 1 : end] != b"\n":
            raise ImageError("an extended header whose records make no sense: damaged")
        key, value = data[blank + 1 : equals], data[equals + 1 : end - 1]
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pairs.append(value)
        found[key] = value
        at = end
    return found


def decimal(text: bytes, what: str) -> int:
    """A whole number of a pax record, not negative."""
    if not text.isdigit() or len(text) > 20:
        raise ImageError(f"an extended header whose {what} is no number: damaged")
    return int(text)


def time(text: bytes) -> int:
    """Decimal seconds of a pax record, in nanoseconds; what is finer is cut off."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ImageError("an extended header whose time is no number: damaged")
    nanoseconds = int(match[2]) * NANO + int((match[3] or b"")[:9].ljust(9, b"0"))
    return -nanoseconds if match[1] else nanoseconds


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ImageError("an extended attribute that is no base64: damaged") from error


def attributes(records: Mapping[bytes, bytes], mode: int, left_out: Counter[str]) -> tuple[dict[bytes, bytes], int]:
    """Extended attributes, ACLs among them; and the mode, another one where an ACL is left out, which is counted."""
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(_XATTR):
            found[_ESCAPES.sub(lambda match: b"%" if match[1] == b"25" else b"=", key[len(_XATTR) :])] = value
        elif key.startswith(_XATTR_ENCODED):
            found.setdefault(unquote_to_bytes(key[len(_XATTR_ENCODED) :]), _base64(value))
        elif key == b"SCHILY.acl.ace":
            left_out["access control lists of NFSv4 are left out"] += 1
    for key, attribute in _ACLS.items():
        if key in records and attribute not in found:
            try:
                value = acl.from_text(records[key])
            except acl.NameOnlyError:
                left_out["access control lists name users without their numbers, and are left out"] += 1
                mode = acl.mode_without(records[key], mode) if attribute == acl.ACCESS else mode
                continue
            if value:
                found[attribute] = value
                mode = acl.mode_with(value, mode) if attribute == acl.ACCESS else mode
    if any(not key or b"\0" in key or len(key) > 255 or len(found[key]) > 65536 for key in found):
        raise ImageError("an extended attribute with an impossible name or size")
    return {key: found[key] for key in sorted(found) if is_carried(key)}, mode


def record(key: bytes, value: bytes) -> bytes:
    """One record, whose length counts its own digits."""
    rest = b" %s=%s\n" % (key, value)
    size = len(rest) + 1
    while len(b"%d" % size) + len(rest) != size:
        size = len(b"%d" % size) + len(rest)
    return b"%d" % size + rest


def seconds(nanoseconds: int) -> bytes:
    """The time for a record."""
    whole, fraction = divmod(abs(nanoseconds), NANO)
    text = b"%d.%09d" % (whole, fraction)
    return (b"-" if nanoseconds < 0 else b"") + text.rstrip(b"0").rstrip(b".")


def attribute_records(xattrs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """ACLs as text, which GNU tar and star read; the others under star's name, with `%` and `=` escaped."""
    found = {}
    texts = {attribute: key for key, attribute in _ACLS.items()}
    for name, value in xattrs.items():
        text = acl.to_text(value) if name in texts else None
        if text is not None:
            found[texts[name]] = text
        else:
            found[_XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D")] = value
    return found
