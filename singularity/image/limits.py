"""What an archive may hold, and the rules for its names: the same for every format (security requirements T1, T5)."""

from dataclasses import dataclass

from singularity.errors import ImageError

_NO_ID = 0xFFFFFFFF  # which chown(2) understands as "leave it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused beyond these, so that no archive keeps us busy for ever or fills memory."""

    members: int = 5_000_000
    path: int = 4096  # bytes of a path, or of a symbolic link's text
    component: int = 255  # bytes of one name
    total: int = 1 << 40  # bytes of data in all files together, holes left out
    file: int = 1 << 44  # bytes of one file with its holes: what ext4 can hold
    extension: int = 1 << 20  # bytes of the extended header of one member
    segments: int = 1_000_000  # of one sparse file
    ratio: int = 1000  # bytes for each byte of the compressed file
    ratio_after: int = 1 << 30  # bytes before `ratio` is looked at
    seconds: int = 1 << 40  # away from 1970


LIMITS = Limits()


def member_path(name: bytes, limits: Limits = LIMITS) -> bytes:
    """The path of a member from the root, as `Member.path` has it: absolute names are relative to the root.

    Empty for the root itself. Raises ImageError: an empty name, `..`, NUL, a name or component that is too long.
    """
    parts = [part for part in name.split(b"/") if part and part != b"."]
    if not name:
        raise ImageError("a member without a name")
    if b".." in parts:
        raise ImageError(f'{shown(name)}: a name with ".." leads out of the archive')
    if b"\0" in name:
        raise ImageError(f"{shown(name)}: a name with a zero byte")
    if len(name) > limits.component:
        if any(len(part) > limits.component for part in parts):
            raise ImageError(f"{shown(name)}: a name longer than {limits.component} bytes")
        if len(name) > limits.path:
            raise ImageError(f"{shown(name)}: a path longer than {limits.path} bytes")
    return b"/".join(parts)


def link_target(text: bytes, path: bytes, limits: Limits = LIMITS) -> bytes:
    """The text of a symbolic link as it stands, when it can be one. Raises ImageError."""
    if not text or b"\0" in text or len(text) >= limits.path:
        why = "too long" if len(text) >= limits.path else "with a zero byte" if text else "empty"
        raise ImageError(f"{shown(path)}: a symbolic link whose target is {why}")
    return text


def owner(number: int, path: bytes, what: str) -> int:
    """A user's or group's number; negative ones are read as 32-bit numbers. Raises ImageError."""
    if -(1 << 31) <= number < 0:
        number &= 0xFFFFFFFF
    if not 0 <= number < _NO_ID:
        raise ImageError(f"{shown(path)}: {what} {number} is no id")
    return number


def shown(name: bytes) -> str:
    """A foreign name for a message: what is not UTF-8 as `\\xff`, cut where it is very long."""
    text = name.decode("utf-8", "backslashreplace")
    return text if len(text) <= 200 else f"{text[:120]}...{text[-60:]}"
