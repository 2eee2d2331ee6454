"""What `cache list` prints, and the short way to it: a plain command line goes without all that options need."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence

from singularity.cache import listing
from singularity.cache.listing import BLOBS, CONTAINERS, LAYERS, PACKAGES, TYPES, CacheEntry

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def lines(found: Sequence[CacheEntry], *, verbose: bool) -> Iterator[str]:
    """A line for each entry where that is wanted, and sums."""
    if verbose:
        yield from _table(found)
    yield f"There are {_sum(found, CONTAINERS)} and {_sum(found, BLOBS)} of space"
    if any(each.type.counted in (LAYERS, PACKAGES) for each in found):
        yield f"There are {_sum(found, LAYERS)} and {_sum(found, PACKAGES)} of space"
    yield f"Total space used: {size(sum(each.size for each in found))}"


def in_short(arguments: Sequence[str]) -> bool:
    """Carries out `cache list ARGUMENTS` when there are none, for a program; False: nothing was done."""
    if arguments or os.isatty(1):
        return False
    try:
        text = "".join(
            f"{line}\n" for line in lines(list(listing.entries(list(TYPES.values()))), verbose=False)
        ).encode()
        return os.write(1, text) == len(text)
    except Exception:  # the long way meets the same, and says it
        return False


def document(found: Sequence[CacheEntry]) -> list[dict[str, object]]:
    """The entries for programs; times in seconds since 1970, sizes in bytes."""
    users = _users()
    return [
        {
            "type": each.type.name,
            "name": each.name,
            "size": each.size,
            "created": int(each.used),
            "used": int(_last_used(each)),
            "used_by": _used_by(each, users),
        }
        for each in found
    ]


def _table(found: Sequence[CacheEntry]) -> Iterator[str]:
    from datetime import UTC, datetime

    from singularity.console import escape

    users, now = _users(), time.time()
    yield f"{'NAME':<24} {'DATE CREATED':<22} {'SIZE':<16} {'TYPE':<12} {'LAST USED':<12} USED BY".rstrip()
    for each in found:
        date = datetime.fromtimestamp(each.used, UTC).astimezone()
        ago = age(now - _last_used(each))
        by = escape(", ".join(_used_by(each, users)))
        name = f"{escape(each.name)[:22]:<24} {date:%Y-%m-%d %H:%M:%S}"
        yield f"{name}    {size(each.size):<16} {each.type.name:<12} {ago:<12} {by}".rstrip()
    yield ""


def _users() -> dict[str, set[str]]:
    from singularity import paths
    from singularity.cache import users

    return users.of_blobs(paths.cache_place() / "blob")


def _last_used(entry: CacheEntry) -> float:
    return max(entry.used, entry.touched)


def _used_by(entry: CacheEntry, users: Mapping[str, set[str]]) -> list[str]:
    """The images that an entry belongs to, or what its type says of it."""
    digest = entry.name.removeprefix("sha256-").partition(".")[0].partition(" ")[0]
    return sorted(users.get(digest, ())) or ([entry.what] if entry.what else [])


def age(seconds: float) -> str:
    """How long ago something was, in one unit: `now`, `5 min ago`, `3 days ago`."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "min")):
        count = int(max(seconds, 0) // unit)
        if count:
            return f"{count} {name}{'s' if count > 1 and name != 'min' else ''} ago"
    return "now"


def _sum(found: Sequence[CacheEntry], counted: str) -> str:
    sizes = [each.size for each in found if each.type.counted == counted]
    return f"{len(sizes)} {counted}(s) using {size(sum(sizes))}"


def size(number: int) -> str:
    """Bytes for people: two decimals, of KiB and upwards."""
    amount, unit = number / 1024, 0
    while amount >= 1024 and unit + 1 < len(_UNITS):
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.2f} {_UNITS[unit]}"
