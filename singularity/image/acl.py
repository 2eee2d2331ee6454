"""POSIX access control lists: the text that archives hold, and the bytes that the kernel does.

The kernel's form, in `system.posix_acl_access` and `system.posix_acl_default`, is version 2 and then 8 bytes an entry:
tag, permissions, id, little-endian and sorted (linux/posix_acl_xattr.h). The text is that of POSIX.1e draft 17, with
star's fourth field: the number of a user or group whose name the second field has.
"""

import struct
from collections.abc import Mapping

from singularity.errors import ImageError

ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_NOBODY = 0xFFFFFFFF
_TAGS = {  # word: of the owner and of all, of those who are named
    b"user": (0x01, 0x02),
    b"group": (0x04, 0x08),
    b"mask": (0x10, 0x10),
    b"other": (0x20, 0x20),
}
_WORDS: Mapping[int, tuple[bytes, bool]] = {
    tag: (word, named) for word, tags in _TAGS.items() for named, tag in ((True, tags[1]), (False, tags[0]))
}
_LETTERS = ((b"r", 4), (b"w", 2), (b"x", 1))


class NameOnlyError(ImageError):
    """An entry names a user or group without its number, which is known only where the archive was made."""


def from_text(text: bytes) -> bytes:
    """The kernel's form; empty for a list without entries. Raises ImageError, and NameOnlyError of them."""
    entries = []
    for line in text.replace(b",", b"\n").split(b"\n"):
        entry = line.partition(b"#")[0].strip()
        if entry:
            entries.append(_entry(entry))
    if not entries:
        return b""
    return struct.pack("<I", _VERSION) + b"".join(_ENTRY.pack(*entry) for entry in sorted(entries))


def _entry(text: bytes) -> tuple[int, int, int]:
    """Tag, permissions and id of `user:NAME:rwx:NUMBER`, of which the last part may be missing."""
    word, *fields = text.split(b":")
    if word not in _TAGS or not 1 <= len(fields) <= 3:
        raise ImageError(f"an access control list with the entry {text[:80]!r}")
    if len(fields) == 1:  # `mask:rwx`
        fields.insert(0, b"")
    name, letters, number = fields[0], fields[1], fields[2] if len(fields) == 3 else fields[0]
    permissions = sum(bit for letter, bit in _LETTERS if letter in letters)
    if letters.strip(b"rwx-"):
        raise ImageError(f"an access control list with the permissions {letters[:80]!r}")
    unnamed, named = _TAGS[word]
    if not name or named == unnamed:
        return unnamed, permissions, _NOBODY
    if not number.isdigit() or len(number) > 10 or int(number) >= _NOBODY:
        raise NameOnlyError(f"an access control list that names {name[:80]!r} without its number")
    return named, permissions, int(number)


def to_text(data: bytes) -> bytes | None:
    """The text for the kernel's form, ids as numbers; None where the bytes are no list that we know."""
    if len(data) < 4 or (len(data) - 4) % _ENTRY.size or struct.unpack_from("<I", data) != (_VERSION,):
        return None
    lines = []
    for tag, permissions, number in _ENTRY.iter_unpack(data[4:]):
        if tag not in _WORDS or permissions > 7:
            return None
        word, named = _WORDS[tag]
        letters = b"".join(letter if permissions & bit else b"-" for letter, bit in _LETTERS)
        if named and tag not in (0x10, 0x20):
            lines.append(b"%s:%d:%s:%d" % (word, number, letters, number))
        else:
            lines.append(b"%s::%s" % (word, letters))
    return b",".join(lines)


def mode_with(data: bytes, mode: int) -> int:
    """The mode that the kernel shows for a file with this access list: the mask stands for the group."""
    of: dict[int, int] = {tag: permissions & 7 for tag, permissions, _ in _ENTRY.iter_unpack(data[4:])}
    group = of.get(0x10, of.get(0x04, mode >> 3 & 7))
    return mode & ~0o777 | of.get(0x01, mode >> 6 & 7) << 6 | group << 3 | of.get(0x20, mode & 7)


def mode_without(text: bytes, mode: int) -> int:
    """The mode for a file whose access list is left out: the group has its own permissions, not the mask's."""
    for line in text.replace(b",", b"\n").split(b"\n"):
        if line.strip().startswith(b"group::"):
            own = sum(bit for letter, bit in _LETTERS if letter in line.strip()[7:10])
            return mode & ~0o070 | (mode & (own << 3))
    return mode & ~0o070
