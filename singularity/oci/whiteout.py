"""Whiteouts: members of a layer that stand for what it takes away from those below it."""

from enum import Enum

from singularity.errors import ImageError
from singularity.image.limits import shown
from singularity.image.tree import Kind

MARK = b".wh."
_OPAQUE = b".wh..wh..opq"
_OF_AUFS = b".wh..wh."  # its own notes, which old layers brought along


class Mark(Enum):
    """What such a member says."""

    WHITEOUT = "what lower layers have of this name is gone"
    OPAQUE = "what lower layers have in this directory is gone"
    NOTE = "nothing that concerns others than aufs"


def mark(path: bytes, kind: Kind) -> Mark | None:
    """What a member says as a whiteout; None: it is a file of its own. Raises ImageError for what looks like one only.

    The name that a WHITEOUT takes away is its own without MARK (security requirement T6).
    """
    if MARK not in path:
        return None
    *above, name = path.split(b"/")
    if any(part.startswith(_OF_AUFS) for part in above) or (name.startswith(_OF_AUFS) and name != _OPAQUE):
        return Mark.NOTE
    if any(part.startswith(MARK) for part in above):
        raise ImageError(f"{shown(path)}: a file below a whiteout")
    if not name.startswith(MARK):
        return None
    if name == _OPAQUE and kind is not Kind.DIRECTORY:
        return Mark.OPAQUE
    if name.removeprefix(MARK) in (b"", b".", b"..") or kind is Kind.DIRECTORY:
        raise ImageError(f"{shown(path)}: no whiteout that can be")
    return Mark.WHITEOUT
