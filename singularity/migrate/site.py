"""What a site has: directives that its administrator changed, remotes, keys, capabilities, networks, signatures.

The directory is the family's: `apptainer.conf` or `singularity.conf`, `remote.yaml`, `global-pgp-public`,
`capability.json`, `network/*.conflist`, `ecl.toml`, `nvliblist.conf`, `rocmliblist.conf`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from singularity import capabilities, directives, files, paths
from singularity.errors import UsageError
from singularity.foreign_json import parse_json
from singularity.library import remotes
from singularity.migrate.report import Outcome, Step, left, taken
from singularity.migrate.user import keys
from singularity.trust import keyring

_LIMIT = 1 << 20  # bytes
_SHOWN = 3  # entries of a list
_CONFIGURATION = "singularity.conf"
_WITHOUT_MEANING = "there is no such directive here"


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_LIMIT).decode("utf-8", "surrogateescape")


def _directives(path: Path, change: bool) -> Iterator[Outcome]:
    """Those with another value than the comment above them says is the default."""
    place = paths.site_directory() / _CONFIGURATION
    theirs, ours = directives.Configuration(_text(path)), directives.Configuration(_text(place))
    before = ours.text
    for name in theirs.names():
        try:
            there, listed = ours.values(name), ours.find(name).kind == "LIST"
        except UsageError:
            there, listed = [], False
        values, default = theirs.values(name, listed=listed), theirs.find(name).default
        if not values or values in ([default], default.split()[:1]):  # behind which a word may explain it
            continue
        shown = f"{name} = {', '.join(values)}"
        if not there and not listed:
            yield left("directive", shown, _WITHOUT_MEANING)
            continue
        try:
            ours.set(name, values)
        except UsageError as error:
            yield left("directive", shown, error)
            continue
        yield taken("directive", shown, new=ours.values(name) != there)
    if change and ours.text != before:
        with place.open("rb") as old, files.replacing(place, overwrite=True, like=old.fileno()) as new:
            files.write_at(new.fd, ours.text.encode("utf-8", "surrogateescape"), 0)


def _remotes(path: Path, change: bool) -> Iterator[Outcome]:
    for name, new in remotes.merge(path, site=True, change=change).remotes.items():
        yield taken("remote", name, new=new)


def _keys(path: Path, change: bool) -> Iterator[Outcome]:
    yield from keys(keyring.Ring(path, private=False), keyring.site(), "key", change=change)


def _capabilities(path: Path, change: bool) -> Iterator[Outcome]:
    theirs, ours = capabilities.read(path), capabilities.read()
    lists = {"users": ours.users, "groups": ours.groups}
    for kind, found in (("users", theirs.users), ("groups", theirs.groups)):
        for who, names in found.items():
            before = lists[kind].get(who, [])
            lists[kind] = capabilities.changed(lists[kind], who, add=names)
            said = ", ".join(names)
            yield taken("capabilities", f"{kind.removesuffix('s')} {who}", new=lists[kind][who] != before, said=said)
    if change and (lists["users"], lists["groups"]) != (ours.users, ours.groups):
        capabilities.write(capabilities.Policy(users=lists["users"], groups=lists["groups"]))


def _networks(path: Path, change: bool) -> Iterator[Outcome]:
    """By the names that they have in their files, as `--network` knows them."""
    place = paths.site_directory() / "network"
    known = {_network_name(each) for each in place.glob("*.conflist")}
    for each in sorted(path.glob("*.conflist")):
        name, target = _network_name(each), place / each.name
        new = name not in known and not target.exists()
        if new and change:
            files.write(target, _text(each).encode("utf-8", "surrogateescape"), overwrite=False, mode=0o644)
        yield taken("network", name, new=new)


def _network_name(path: Path) -> str:
    document = parse_json(_text(path).encode("utf-8", "surrogateescape"))
    name = document.get("name") if isinstance(document, dict) else None
    return name if isinstance(name, str) else path.stem


def _libraries(path: Path, change: bool) -> Iterator[Outcome]:
    """Their lists have other defaults, and an entry too many hides libraries of images: an administrator decides."""
    del change
    theirs, ours = (_first_words(each) for each in (path, paths.site_directory() / path.name))
    more = [each for each in theirs if each not in ours]
    if more:
        shown = f"{', '.join(more[:_SHOWN])}{'...' if len(more) > _SHOWN else ''}"
        yield left(path.name, f"{len(more)} entries more ({shown})", "compare; those stay out that hide an image's own")


def _first_words(path: Path) -> list[str]:
    return [line.split()[0] for line in _text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _execution_list(path: Path, change: bool) -> Iterator[Outcome]:
    """The rules are understood as they are; the keys that they name must be made known first."""
    import tomllib

    del change
    try:
        document = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        yield left("signatures", str(path), error)
        return
    if document.get("activated") is True:
        how = f'"require signature" first (singularity key signers), then "execution control list = {path}"'
        yield left("signatures", str(path), how)


STEPS: Sequence[Step] = (
    ("directives", "apptainer.conf", _directives),
    ("directives", _CONFIGURATION, _directives),
    ("remotes", "remote.yaml", _remotes),
    ("keys", keyring.GLOBAL, _keys),
    ("capabilities", "capability.json", _capabilities),
    ("networks", "network", _networks),
    ("libraries", "nvliblist.conf", _libraries),
    ("libraries", "rocmliblist.conf", _libraries),
    ("signatures", "ecl.toml", _execution_list),
)
