"""Caches: of others, filled by `cache seed`, listed and cleaned, and with a limit."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders import Layout, layer
from test_pull import damage, listed, singularity

from singularity import config, paths
from singularity.cache import image_names, image_store, listing, places
from singularity.errors import FileError
from singularity.sources import fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Front, Registry

pytestmark = [pytest.mark.needs("mksquashfs"), pytest.mark.usefixtures("no_proxy")]


@pytest.fixture(scope="module")
def image(plain_registry: Registry, storage: Path) -> str:
    layout = Layout(storage / "cached")
    layout.add(layout.image([layer(("etc", None), ("etc/greeting", b"hello\n"))], config={}), "t")
    plain_registry.fill(f"oci:{layout.path}:t", "caching/greeting:1")
    return "caching/greeting:1"


def cache_of(place: Path) -> dict[str, str]:
    return {"SINGULARITY_CACHEDIR": str(place)}


def test_a_seeded_cache_is_used_by_others_who_can_only_read_it(front: Front, image: str, tmp_path: Path) -> None:
    """Issue 4, 5."""
    site = tmp_path / "site"
    before = os.umask(0o077)
    try:
        singularity("cache", "seed", "--no-https", site, f"docker://{front.host}/{image}", cwd=tmp_path)
    finally:
        os.umask(before)
    wrong = [path for path in site.rglob("*") if path.stat().st_mode & 0o044 != 0o044 and path.name[0] != "."]
    assert [path for path in wrong if "partial" not in path.parts] == []
    asked = len(front.asked)
    more = {"SINGULARITY_CACHEPATH": f"/nowhere:{site}", **cache_of(tmp_path / "own")}
    words = ["pull", "--no-https", f"docker://{front.host}/{image}"]
    contents = sorted(site.rglob("*"))
    said = singularity(*words, cwd=tmp_path, more=more).stderr
    assert re.fullmatch(r"INFO:    Digest: sha256:\w{64}\nINFO:    Image: greeting_1.sif, \d+ KiB\n", said)
    assert {each.method for each in front.asked[asked:]} == {"HEAD"}
    assert listed(tmp_path / "greeting_1.sif")["etc/greeting"] == b"hello\n"
    assert not (tmp_path / "greeting_1.sif").samefile(next(site.rglob("image.sif")))
    assert sorted(site.rglob("*")) == contents
    # Layers only: what is made of them is made anew.
    shutil.rmtree(site / "oci-tmp")
    blobs = front.count("/blobs/")
    singularity(*words, "--force", cwd=tmp_path, more=more)
    assert front.count("/blobs/") == blobs
    assert list((tmp_path / "own/cache/blob/blobs").rglob("*")) == []


def test_a_copy_of_a_seeded_cache_that_lost_fractions_of_seconds_is_as_good(
    front: Front, image: str, tmp_path: Path
) -> None:
    singularity("cache", "seed", "--no-https", tmp_path / "a", f"docker://{front.host}/{image}", cwd=tmp_path)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").rglob("*"):
        os.utime(path, (path.stat().st_atime_ns // 10**9, path.stat().st_mtime_ns // 10**9))
    (entry,) = (tmp_path / "b/oci-tmp").iterdir()
    assert image_store.find(None, image_names.key(entry), [tmp_path / "b/oci-tmp"]) == entry / "image.sif"


def test_r_f5_a_damaged_image_of_others_is_passed_over(front: Front, image: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    singularity("cache", "seed", "--no-https", site, f"docker://{front.host}/{image}", cwd=tmp_path)
    (entry,) = (site / "oci-tmp").iterdir()
    assert image_store.find(None, image_names.key(entry), [site / "oci-tmp"], verify=True) == entry / "image.sif"
    damage(entry / "image.sif")
    assert image_store.find(None, image_names.key(entry), [site / "oci-tmp"]) is not None
    assert image_store.find(None, image_names.key(entry), [site / "oci-tmp"], verify=True) is None
    assert (entry / "made").exists(), "others' caches are only read"


@pytest.mark.parametrize("which", ["", "oci-tmp", "oci-tmp/{key}", "oci-tmp/{key}/image.sif"])
def test_what_others_could_have_changed_is_not_used(front: Front, image: str, tmp_path: Path, which: str) -> None:
    """F5: the cache is never shared writable between users."""
    site = tmp_path / "site"
    singularity("cache", "seed", "--no-https", site, f"docker://{front.host}/{image}", cwd=tmp_path)
    (entry,) = (site / "oci-tmp").iterdir()
    path = site / which.format(key=entry.name)
    path.chmod(path.stat().st_mode | 0o020)
    assert image_store.find(None, image_names.key(entry), [site / "oci-tmp"]) is None
    path.chmod(path.stat().st_mode & ~0o020)
    assert image_store.find(None, image_names.key(entry), [site / "oci-tmp"]) is not None


@pytest.mark.needs("root")
def test_r_f2_a_cache_is_its_owners_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SINGULARITY_CACHEDIR", str(tmp_path / "own"))
    assert paths.cache_directory().stat().st_mode & 0o777 == 0o700
    (tmp_path / "own/cache").chmod(0o777)
    assert paths.cache_directory().stat().st_mode & 0o777 == 0o700
    (tmp_path / "others/cache").mkdir(parents=True)
    os.chown(tmp_path / "others/cache", 1234, 1234)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/cache").symlink_to(tmp_path / "others/cache")
    for place in ("others", "linked"):
        monkeypatch.setenv("SINGULARITY_CACHEDIR", str(tmp_path / place))
        with pytest.raises(FileError, match="belongs to user 1234, not to you"):
            paths.cache_directory()
        assert places.find().own is None, "it is done without"


def test_the_configuration_and_the_variable_name_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "singularity.conf").write_text(
        "# cache path = /no\ncache path = /a, /b\nCache  Path=/c\ncache size limit = 3\ncache offline = yes\n"
    )
    monkeypatch.setattr(paths, "site_directory", lambda: tmp_path)
    config._lines.cache_clear()
    try:
        monkeypatch.setenv("SINGULARITY_CACHEPATH", "/d:relative::/a")
        assert places.others_of_site() == tuple(map(Path, ("/d", "/a", "/b", "/c")))
        assert places.limit() == 3 << 20
        monkeypatch.setenv("SINGULARITY_CACHE_SIZE_LIMIT", "7")
        assert places.limit() == 7 << 20
        assert fetch.from_options({}).offline
        assert places.find(fetch.from_options({"disable_cache": True}).cache) == places.Caches()
    finally:
        config._lines.cache_clear()


@pytest.fixture
def place() -> Path:
    return paths.cache_directory()


@pytest.fixture
def aged(place: Path) -> Callable[[str, int, int], Path]:
    def make(name: str, size: int, days: int) -> Path:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        if path.name == "image.sif":
            (path.parent / "made").write_text(f"{size} {path.stat().st_mtime_ns}")
        os.utime(path, ns=(path.stat().st_atime_ns - days * 86400 * 10**9, path.stat().st_mtime_ns))
        return path

    return make


def test_what_was_used_longest_ago_goes_first(aged: Callable[[str, int, int], Path]) -> None:
    old = aged(f"blob/blobs/sha256/{'a' * 64}", 1 << 20, 9)
    older = aged("oci-tmp/one/image.sif", 1 << 20, 10)
    kept_ = aged("oci-tmp/two/image.sif", 1 << 20, 11)
    new = aged(f"blob/blobs/sha256/{'b' * 64}", 1 << 20, 0)
    package = aged("debootstrap/x.deb", 9 << 20, 99)
    listing.trim(5 << 20)
    assert all(path.exists() for path in (old, older, kept_, new))
    listing.trim((3 << 20) + 100, [kept_])
    assert [path.exists() for path in (old, older, kept_, new)] == [True, False, True, True]
    assert not older.parent.exists()
    listing.trim(1, [kept_])
    assert [path.exists() for path in (old, older, kept_, new, package)] == [False, False, True, True, True]


def test_a_limit_is_kept_when_something_new_comes(
    front: Front, image: str, tmp_path: Path, place: Path, aged: Callable[[str, int, int], Path]
) -> None:
    old = aged("net/old/image.sif", 3 << 20, 1)
    words = ["pull", "--no-https", f"docker://{front.host}/{image}"]
    singularity(*words, cwd=tmp_path, more={"SINGULARITY_CACHE_SIZE_LIMIT": "2"})
    assert not old.exists()
    assert len(list((place / "oci-tmp").iterdir())) == 1


def test_what_is_just_being_made_is_not_cleaned_away(place: Path) -> None:
    from singularity import locks

    (place / "oci-tmp/x").mkdir(parents=True)
    (entry,) = listing.entries([listing.TYPES["oci-tmp"]])
    with locks.locked(place / "oci-tmp/x/made", "makes it"):
        assert not listing.remove(entry)
    assert listing.remove(entry)
    assert not (place / "oci-tmp/x").exists()


def test_an_image_with_two_names_counts_once(aged: Callable[[str, int, int], Path]) -> None:
    path = aged("oci-tmp/x/image.sif", 5 << 20, 0)
    assert image_store.named(path, "debian.sif").samefile(path)
    (entry,) = listing.entries([listing.TYPES["oci-tmp"]])
    assert 5 << 20 < entry.size < 6 << 20
    assert entry.what == "debian.sif"
