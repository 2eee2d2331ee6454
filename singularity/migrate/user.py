"""What a user has: remotes and their tokens, key servers, logins to registries, keys, and the cache.

The directory is the family's: `remote.yaml`, `docker-config.json`, `keys/pgp-public`, `keys/pgp-secret`, `cache`.
"""

import binascii
import os
import re
import stat
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from singularity import files, paths
from singularity.cache import image_store
from singularity.cache.blob_store import Store
from singularity.content.digest import Digest
from singularity.errors import ImageError, SingularityError, UsageError
from singularity.library import remotes
from singularity.migrate.report import Outcome, Step, left, taken
from singularity.registry import credentials
from singularity.registry.access import Access
from singularity.trust import keyring, keyserver

_KINDS = ("library", "oras")  # of images in the cache that are called by their digests
_IMAGE, _BLOB = re.compile(r"sha256\.[0-9a-f]{64}"), re.compile(r"[0-9a-f]{64}")
_KIND_OF_CREDENTIALS = re.compile(r"(docker|oras|https?)://(.+)")


# ---- servers and logins ----


def _remotes(path: Path, change: bool) -> Iterator[Outcome]:
    found = remotes.merge(path, site=False, change=change)
    yield from (taken("remote", name, new=new) for name, new in found.remotes.items())
    for uri in found.keyservers:
        try:
            yield _key_server(uri, change)
        except SingularityError as error:
            yield left("key server", uri, error)
    for uri, authorization in found.logins.items():
        try:
            yield _login(uri, authorization, change)
        except SingularityError as error:
            yield left("login", uri, error)


def _key_server(uri: str, change: bool) -> Outcome:
    place = keyserver.KeyServer(uri=uri.rstrip("/")).url  # raises for what is none
    new = place not in {each.url for each in keyserver.configured()}
    if new and change:
        with suppress(UsageError):  # another process has added it meanwhile
            keyserver.add(uri, insecure=False, order=None)
    return taken("key server", uri, new=new)


def _login(uri: str, authorization: str, change: bool) -> Outcome:
    """One of the time when logins stood in the list of remotes: for a registry, or for a key server."""
    kind = _KIND_OF_CREDENTIALS.fullmatch(uri)
    if kind is None or not authorization:
        return left("login", uri, "it is not understood")
    if kind[1] in ("http", "https"):
        new = not keyserver.find(uri).authorization
        if new and change:
            keyserver.set_login(uri, authorization)
        return taken("login", uri, new=new)
    try:
        words = b64decode(authorization.removeprefix("Basic ").encode(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return left("login", uri, "it is not understood")
    username, _, password = words.partition(":")
    host = kind[2].partition("/")[0]
    new = host not in {each.host for each in credentials.logins(Access())}
    if new and change:
        credentials.save(host, username, password, Access())
    return taken("login", host, new=new)


def _logins(path: Path, change: bool) -> Iterator[Outcome]:
    for host, new in credentials.merge(path, Access(), change=change).items():
        yield taken("login", host, new=new)


# ---- keys ----


def _public_keys(path: Path, change: bool) -> Iterator[Outcome]:
    yield from keys(keyring.Ring(path), keyring.public(), "key", change=change)


def _secret_keys(path: Path, change: bool) -> Iterator[Outcome]:
    yield from keys(keyring.Ring(path), keyring.secret(), "secret key", change=change)


def keys(theirs: keyring.Ring, ours: keyring.Ring, what: str, *, change: bool) -> Iterator[Outcome]:
    """Those of one ring are added to another one; what is known of a key in both comes together."""
    known = {key.fingerprint for key in ours.listed()}
    for key in theirs.listed():
        yield taken(what, key.fingerprint, new=key.fingerprint not in known, said=key.user)
    if change and not known.issuperset(key.fingerprint for key in theirs.listed()):
        ours.add(b"".join(theirs.blocks()))


# ---- the cache ----


def _cache(path: Path, change: bool) -> Iterator[Outcome]:
    """Layers and images get a second name: they take no room, and each program forgets them for itself."""
    ours = paths.cache_place()
    if ours.exists() and ours.samefile(path):
        yield taken("cache", str(path), new=False, said="both programs use it")
        return
    if change:
        ours = paths.cache_directory()
    for what, named, adopt in (
        ("layers", _named(path / "blob/blobs/sha256", _BLOB), _adopt_blob),
        ("images", [each for kind in _KINDS for each in _named(path / kind, _IMAGE)], _adopt_image),
    ):
        sizes = [each.stat().st_size for each in named if adopt(each, ours, change)]
        if named:
            said = f"{len(sizes)} of {len(named)}, {sum(sizes) / 1e6:.1f} MB" if sizes else str(len(named))
            yield taken("cache", what, new=bool(sizes), said=said)


def _adopt_blob(blob: Path, cache: Path, change: bool) -> bool:
    """Whoever reads a blob checks its digest, so nobody need do it here."""
    if change:
        return Store(cache / "blob").adopt(blob, Digest("sha256", blob.name))
    return not (cache / "blob/blobs/sha256" / blob.name).exists()


def _adopt_image(image: Path, cache: Path, change: bool) -> bool:
    place, key = cache / image.parent.name, image.name
    if image_store.find(place, key) is not None:
        return False
    if change:

        def make(target: Path) -> None:
            files.give_second_name(image, target)
            if image_store.digest_of(target) != key.removeprefix("sha256."):
                target.unlink()
                raise ImageError(f"{image}: damaged")

        try:
            image_store.have(paths.private(place), key, make, "takes over the same image")
        except ImageError:  # it is fetched when it is wanted
            return False
    return True


def _named(directory: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The user's own files in a directory, by names that mean something."""
    try:
        found = sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [each for each in found if pattern.fullmatch(each.name) and _is_own(each.lstat())]


def _is_own(status: os.stat_result) -> bool:
    """Who owns a file can change it after it was checked, by whatever name."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


STEPS: Sequence[Step] = (
    ("remotes", "remote.yaml", _remotes),
    ("logins", "docker-config.json", _logins),
    ("keys", "keys/pgp-public", _public_keys),
    ("keys", "keys/pgp-secret", _secret_keys),
    ("cache", "cache", _cache),
)
