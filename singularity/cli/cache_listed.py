"""What `cache list` prints, and the short way to it: a plain command line goes without all that options need."""

import os
from collections.abc import Iterator, Sequence

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
    """Carries out `cache list ARGUMENTS` when there are none; False: nothing was done."""
    if arguments:
        return False
    try:
        text = "".join(
            f"{line}\n" for line in lines(list(listing.entries(list(TYPES.values()))), verbose=False)
        ).encode()
        return os.write(1, text) == len(text)
    except Exception:  # the long way meets the same, and says it
        return False


def _table(found: Sequence[CacheEntry]) -> Iterator[str]:
    from datetime import UTC, datetime

    from singularity.console import escape

    yield f"{'NAME':<24} {'DATE CREATED':<22} {'SIZE':<16} TYPE"
    for each in found:
        date = datetime.fromtimestamp(each.used, UTC).astimezone()
        what = f" ({escape(each.what)})" if each.what else ""
        yield f"{escape(each.name)[:22]:<24} {date:%Y-%m-%d %H:%M:%S}    {size(each.size):<16} {each.type.name}{what}"
    yield ""


def _sum(found: Sequence[CacheEntry], counted: str) -> str:
    sizes = [each.size for each in found if each.type.counted == counted]
    return f"{len(sizes)} {counted}(s) using {size(sum(sizes))}"


def size(number: int) -> str:
    """Bytes for people: two decimals, of KiB and upwards."""
    amount, unit = number / 1024, 0
    while amount >= 1024 and unit + 1 < len(_UNITS):
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.2f} {_UNITS[unit]}"
