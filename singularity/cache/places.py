"""The caches that a command uses: the user's own, and before it those that others keep."""

import logging
from pathlib import Path
from typing import NamedTuple

from singularity import config, files, paths
from singularity.errors import FileError
from singularity.variables import variable

logger = logging.getLogger(__name__)


class Caches(NamedTuple):
    """Directories with the types of entries that `cache` knows below them."""

    own: Path | None = None  # None: nothing is kept
    others: tuple[Path, ...] = ()  # only read
    public: bool = False  # everybody may read what is put into the own one

    def place(self, kind: str) -> Path | None:
        """The directory of a type in the own cache; made where it is missing. Raises FileError."""
        if self.own is None:
            return None
        place = self.own / kind
        return public(place) if self.public else paths.private(place)

    def elsewhere(self, kind: str) -> tuple[Path, ...]:
        """The directories of a type in the other caches."""
        return tuple(each / kind for each in self.others)


def public(path: Path) -> Path:
    """The directory, made where it is missing, that everybody may read. Raises FileError."""
    with FileError.about(path):
        files.make_directories(path, 0o755)
        path.chmod(0o755)
    return path


def find(keep: bool = True) -> Caches:
    """The caches of a command, none where nothing is to be kept; with a warning where the user can have none."""
    if not keep:
        return Caches()
    others = others_of_site()
    try:
        return Caches(own=paths.cache_directory(), others=others)
    except FileError as error:
        logger.warning("%s: what is fetched is not kept", error)
        return Caches(others=others)


def others_of_site() -> tuple[Path, ...]:
    """Those of SINGULARITY_CACHEPATH, then those of the configuration file."""
    named = [*variable("CACHEPATH").split(":"), *config.listed("cache path")]
    return tuple(dict.fromkeys(Path(each) for each in named if each.startswith("/")))


def limit() -> int | None:
    """The bytes that images and blobs of the user's own cache may have together; None without a limit."""
    said = variable("CACHE_SIZE_LIMIT")
    mebibytes = int(said) if said.isdecimal() else config.number("cache size limit")
    return mebibytes << 20 if mebibytes else None


def trim(caches: Caches, used: Path) -> None:
    """Makes room in the user's own cache, where there is a limit, after something new came into it; `used` stays."""
    most = None if caches.own is None or caches.public else limit()
    if most is not None:
        from singularity.cache import listing

        listing.trim(most, [used])
