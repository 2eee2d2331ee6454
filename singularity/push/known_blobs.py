"""Which repository of a registry has what the user pushed, so that the registry need not be sent it for another one.

`pushed.json` in the user's directory: `{HOST: {DIGEST: REPOSITORY}}`, the oldest first. It is only a hint: without
it, or where it is wrong, everything is sent.
"""

import json
import logging
from collections.abc import Iterable
from contextlib import suppress

from singularity import files, paths
from singularity.content.digest import Digest
from singularity.errors import ImageError, SingularityError
from singularity.foreign_json import parse_json

logger = logging.getLogger(__name__)

_NAME = "pushed.json"
_LIMIT = 1000  # digests of one registry
_SIZE_LIMIT = 16 << 20  # bytes


class Pushed:
    """What is known of one registry."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._known = _read().get(host, {})

    def where(self, digest: Digest) -> str:
        """The repository that has a blob; empty where none is known."""
        return self._known.get(str(digest), "")

    def remember(self, digests: Iterable[Digest], repository: str) -> None:
        """Notes where blobs are from now on; that it cannot be written is no failure."""
        try:
            place = paths.user_directory() / _NAME
            everything = _read()
            known = everything.get(self._host, {})
            for each in digests:
                known.pop(str(each), None)
                known[str(each)] = repository
            everything[self._host] = dict([*known.items()][-_LIMIT:])
            with files.replacing(place, overwrite=True, mode=0o600) as new, open(new.fd, "w", closefd=False) as out:
                json.dump(everything, out, indent=1)
        except (SingularityError, OSError) as error:
            logger.debug("Not noted where it was pushed to: %s", error)


def _read() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    with suppress(OSError, SingularityError):
        with (paths.user_directory() / _NAME).open("rb") as file:
            data = file.read(_SIZE_LIMIT)
        document = parse_json(data)
        if not isinstance(document, dict):
            raise ImageError(f"{_NAME}: no object")
        for host, known in document.items():
            if isinstance(known, dict):
                found[host] = {key: value for key, value in known.items() if isinstance(value, str)}
    return found
