"""`singularity cache`: what is kept to be used again, and removing it."""

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from singularity.cache import listing
from singularity.cache.listing import BLOBS, TYPES, CacheEntry, Type
from singularity.cli import cache_listed
from singularity.cli.command import PATH, Commands, option
from singularity.cli.fetching import options as fetching_options
from singularity.cli.fetching import platform as platform_options
from singularity.errors import UsageError

if TYPE_CHECKING:
    from singularity.sources.fetch import Fetch

logger = logging.getLogger(__name__)

_DAY = 86400.0
_ALIASES = {"oci": "oci-tmp"}

command = Commands(
    "cache",
    {
        "list": "List what is in the cache",
        "clean": "Remove what is in the cache",
        "seed": "Fill a cache that others read",
    },
    usage=(
        "singularity cache list [options]",
        "singularity cache clean [options]",
        "singularity cache seed [options] DIRECTORY URI...",
    ),
    description=(
        "The cache is in ~/.singularity/cache, or in the directory that SINGULARITY_CACHEDIR names.",
        (
            "Before it come caches that are only read: those of SINGULARITY_CACHEPATH, with colons between "
            'them, and of "cache path" in the configuration file.'
        ),
        (
            'SINGULARITY_CACHE_SIZE_LIMIT, in MiB, or "cache size limit" in the configuration file is the most '
            "that images and blobs may have together: what was used longest ago goes first."
        ),
        f"Types of entries are {', '.join(TYPES)}; and all.",
    ),
    examples=("singularity cache list", "singularity cache clean --type build --days 7"),
)


_types = option(
    "-T", "--type", "types", multiple=True, metavar="TYPE[,...]", help=f"Only these, of {', '.join(TYPES)}; or all"
)


@command.below(
    "list",
    description=(
        (
            "What is in the cache: its size, when it was made and used last, and which image it is of; then sums. In a "
            "pipe the sums alone, unless --verbose is given."
        ),
    ),
    examples=(
        "singularity cache list",
        "singularity cache list -v --type build,archive",
        "singularity cache list --json --type blob",
    ),
)
@_types
@option("-v", "--verbose", is_flag=True, help="Show each entry in a pipe, too")
@option("-j", "--json", "as_json", is_flag=True, help="The entries as a JSON document")
def list_(types: tuple[str, ...], *, verbose: bool, as_json: bool) -> None:
    """A table of the entries, and sums."""
    found = list(listing.entries(_chosen(types)))
    if as_json:
        click.echo(json.dumps(cache_listed.document(found), indent=2))
        return
    for line in cache_listed.lines(found, verbose=verbose or sys.stdout.isatty()):
        click.echo(line)


@command.below(
    "clean",
    description=(
        "What is removed is made or fetched again when it is needed. Layers that a build is using stay.",
        "Layers of builds that were not used for 30 days go by themselves.",
    ),
    examples=("singularity cache clean", "singularity cache clean --type build --days 7 --force"),
)
@_types
@option("-D", "--days", type=click.IntRange(min=0), metavar="N", help="Only what is older than N days")
@option("-n", "--dry-run", is_flag=True, help="Say what would be removed, and remove nothing")
@option("-f", "--force", is_flag=True, help="Do not ask")
@option("-a", "--all", "all_", is_flag=True, hidden=True)
def clean(types: tuple[str, ...], *, days: int | None, dry_run: bool, force: bool, all_: bool) -> None:
    """Removes entries."""
    chosen = _chosen(() if all_ else types)
    before = time.time() - (days or 0) * _DAY
    found = [each for each in listing.entries(chosen) if days is None or each.used < before]
    if dry_run:
        for each in found:
            logger.info("Would remove %s", _named(each))
        return
    if not force and not _agrees(chosen, days):
        logger.info("Nothing is removed")
        return
    if os.geteuid() != 0 and any(each.layer for each in found):
        from singularity.namespaces import fakeroot

        fakeroot.become_root()  # files of layers may belong to the user's subordinate ids
    for each in found:
        if listing.remove(each):
            logger.info("Removing %s", _named(each))
        else:
            logger.info("In use: %s stays", _named(each))
    if any(each.type.counted == BLOBS for each in found):
        listing.forget_missing_blobs()


@command.below(
    "seed",
    description=(
        (
            'Fetches images into DIRECTORY as into a cache, for everybody to read: the directory that "cache path" in '
            "the configuration file or SINGULARITY_CACHEPATH names, shared by network or copied to where it is used."
        ),
        (
            "Launches and pulls of the same digest then find the image there, and layers that other images share; "
            "whoever fills it owns it, and nobody else may write to it."
        ),
    ),
    examples=(
        "singularity cache seed /srv/singularity-cache docker://debian:stable oras://registry.example.org/tools:1.2",
        "SINGULARITY_CACHEPATH=/srv/singularity-cache singularity exec docker://debian:stable true",
    ),
)
@platform_options
@option("--tmpdir", default="", metavar="DIR", group="Options", help="Where temporary files are made")
@fetching_options
@click.argument("directory", type=PATH)
@click.argument("uris", metavar="URI", nargs=-1, required=True)
def seed(directory: Path, uris: tuple[str, ...], *, fetch: "Fetch") -> None:
    """Fetches images."""
    from singularity import uri
    from singularity.cache import chunk_store
    from singularity.cache import places as caches
    from singularity.pull import images

    named = [(text, uri.parse(text)) for text in uris]
    unknown = [text for text, each in named if each is None]
    if unknown:
        raise UsageError(f"cache seed: {unknown[0]} is no URI", hint="such as docker://NAME:TAG")
    places = caches.Caches(own=caches.public(directory), public=True)
    for _, each in named:
        if each is not None:
            with images.available(each, fetch, places) as path:
                chunk_store.keep(path, public=True)  # others can write none
                logger.info("%s is in %s", each, path.parent)


def _chosen(given: tuple[str, ...]) -> list[Type]:
    """The types that the option names; all without it. Raises UsageError."""
    names = [_ALIASES.get(name, name) for word in given for name in word.replace(",", " ").split()]
    unknown = [name for name in names if name not in TYPES and name != "all"]
    if unknown:
        raise UsageError(f"--type: {', '.join(unknown)}", hint=f"known are {', '.join(TYPES)}, all")
    return [each for each in TYPES.values() if not names or "all" in names or each.name in names]


def _agrees(types: list[Type], days: int | None) -> bool:
    """Asks whoever is at the terminal. Raises UsageError where there is nobody."""
    if not os.isatty(0) or not os.isatty(2):
        raise UsageError("cache clean: there is nobody to ask", hint="--force cleans without asking")
    what = (
        "everything in your cache" if len(types) == len(TYPES) else f"{', '.join(each.name for each in types)} entries"
    )
    older = f" that are older than {days} days" if days else ""
    click.echo(f"This will delete {what}{older}.", err=True)
    click.echo("Do you want to continue? [y/N] ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _named(entry: CacheEntry) -> str:
    what = f" ({entry.what})" if entry.what else ""
    return f"{entry.type.name} cache entry: {entry.name}{what}"
