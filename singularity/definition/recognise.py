"""Whether a file is a definition, which no image may replace. By itself: `pull` asks this, and reads none."""

import re
from pathlib import Path

from singularity.errors import UsageError

_LOOK = 1 << 16  # bytes in which an image has a NUL, and a definition a line that is a sign of it
_SIGN = re.compile(
    rb"^(?:\s*(?:bootstrap|osbuild|ostype)\s*:|DistType\s|%[a-z]+\s|(?-i:FROM)\s+\S+(?:\s+AS\s+\S+)?\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
_DOCKERFILE = re.compile(r"(?:.+\.)?(?:Dockerfile|Containerfile)(?:\..+)?", re.IGNORECASE)


def is_definition(path: Path) -> bool:
    """Whether a file is text that a definition could be, by its name or a line in it. Raises OSError."""
    with path.open("rb") as file:
        data = file.read(_LOOK)
    if not data or b"\0" in data:
        return False
    named = path.name.endswith(".def") or path.name.startswith("Singularity") or bool(_DOCKERFILE.fullmatch(path.name))
    return named or bool(_SIGN.search(data))


def refuse_target(target: Path, *, hint: str) -> None:
    """Raises UsageError for a target that is a definition file, --force or not: TARGET and SOURCE may be exchanged."""
    try:
        if not target.is_file() or not is_definition(target):
            return
    except OSError:
        return  # what must be there, and readable, is asked for later
    raise UsageError(f"{target}: a definition file is never replaced", hint=hint)
