"""The same inputs give the same image, bit for bit, on other days and in other directories."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest

from singularity.build import reproducible
from singularity.errors import BuildError
from singularity.image import contents
from singularity.image.identify import identify
from singularity.image.root import Root
from singularity.image.sif import format as sif
from singularity.image.tree import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builds import Build

pytestmark = pytest.mark.needs("root", "busybox", "mksquashfs", "mke2fs", "mkfs.erofs", "faketime")

CONVERSIONS = Path(__file__).with_name("conversions.py")
EPOCH = 1_600_000_000
FORMATS = ("sif", "squashfs", "erofs", "ext3", "tar", "tar.gz", "tar.xz", "tar.zst", "tar.bz2")
DEFINITION = """Bootstrap: localimage
From: base
%files
    data /opt/data
    data/link /opt/another
%post
    echo made >/opt/made
    mkdir -p /var/log /var/cache/ldconfig
    date >/opt/made-at-an-hour
    rm /opt/made-at-an-hour
    ln /opt/made /opt/hard
%environment
    export OWN=value
%runscript
    exec /bin/sh "$@"
%test
    /bin/true 2>/dev/null || :
%labels
    Author me
%help
    text
"""


class Place:
    """A directory with the inputs of a build, made there anew."""

    def __init__(self, directory: Path, base: Path, day: str) -> None:
        self.directory = directory
        self.day = day
        directory.mkdir(parents=True)
        shutil.copytree(base, directory / "base", symlinks=True)
        os.utime(directory / "base" / "etc" / "passwd", (EPOCH - 100, EPOCH - 100))
        (directory / "data").mkdir()
        for name in "zebra", "ant", "mole":
            (directory / "data" / name).write_text(name * 100)
        (directory / "data" / "link").symlink_to("ant")
        (directory / "x.def").write_text(DEFINITION)
        (directory / "tmp").mkdir()

    def build(self, source: str, target: str, form: str, *options: str, env: Mapping[str, str]) -> str:
        """The digest of what a build on that day makes."""
        given = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "TMPDIR": str(self.directory / "tmp"), **env}
        argv = ["faketime", self.day, sys.executable, "-I", CONVERSIONS, source, target, form, *options]
        done = subprocess.run(argv, cwd=self.directory, env=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return hashlib.sha256((self.directory / target).read_bytes()).hexdigest()


@pytest.fixture
def places(build: Build, base: Path, tmp_path: Path) -> tuple[Place, Place]:
    del build
    near = Place(tmp_path / "a", base, "2027-03-04 05:06:07")
    far = Place(tmp_path / "another" / "directory" / "with a longer name", base, "2031-08-09 23:59:58")
    return near, far


@pytest.mark.parametrize("form", FORMATS)
def test_a_definition_makes_one_image_with_a_time_given(places: tuple[Place, Place], form: str) -> None:
    target = f"x.{form}"
    kind = form.partition(".")[0]
    env = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    first, second = (place.build("x.def", target, kind, env=env) for place in places)
    assert first == second
    with contents.tree(identify(places[0].directory / target)) as tree:
        times = {entry.member.path: entry.member.mtime for entry in tree if entry.member.kind is not Kind.HARD_LINK}
    assert max(times.values()) == EPOCH * 10**9
    assert times[b"etc/passwd"] == (EPOCH - 100) * 10**9


@pytest.mark.parametrize("form", FORMATS)
def test_so_does_an_archive_that_is_streamed(places: tuple[Place, Place], form: str) -> None:
    env = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    for place in places:
        subprocess.run(
            ["tar", "-C", place.directory, "--mtime=@5", "-cf", place.directory / "b.tar", "base"], check=True
        )
    first, second = (place.build("b.tar", f"x.{form}", form.partition(".")[0], env=env) for place in places)
    assert first == second


def test_the_number_of_processors_does_not_matter(places: tuple[Place, Place]) -> None:
    env = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    before = os.sched_getaffinity(0)
    digests = []
    for form in ("sif", "tar.gz", "tar.xz"):
        for processors in (before, {min(before)}):
            os.sched_setaffinity(0, processors)
            try:
                digests.append(places[0].build("x.def", f"x.{form}", form.partition(".")[0], "--force", env=env))
            finally:
                os.sched_setaffinity(0, before)
    assert len(set(digests)) == len(digests) // 2


def test_without_a_time_images_are_not_the_same(places: tuple[Place, Place]) -> None:
    first, second = (place.build("x.def", "x.sif", "sif", env={}) for place in places)
    assert first != second


def test_an_option_takes_the_time_of_the_image_that_is_built_on(places: tuple[Place, Place]) -> None:
    """--reproducible: the time that the base says it was made at, else 1970."""
    first, second = (place.build("x.def", "x.sif", "sif", "--reproducible", env={}) for place in places)
    assert first == second
    assert labels(places[0].directory / "x.sif")["org.label-schema.build-date"].startswith("Thursday_01_January_1970")
    created = {"org.opencontainers.image.created": "2020-01-02T03:04:05Z"}
    for place in places:
        (place.directory / "base" / ".singularity.d").mkdir()
        (place.directory / "base" / ".singularity.d" / "labels.json").write_text(json.dumps(created))
    first, second = (place.build("x.def", "y.sif", "sif", "--reproducible", env={}) for place in places)
    assert first == second
    assert labels(places[0].directory / "y.sif")["org.label-schema.build-date"].startswith("Thursday_02_January_2020")


def labels(image: Path) -> dict[str, str]:
    content = identify(image).content
    assert content is not None
    found = content.find(sif.DataType.GENERIC_JSON)
    assert found is not None
    with image.open("rb") as file:
        document = json.loads(sif.read_object(file, found))
    result: dict[str, str] = document["data"]["attributes"]["labels"]
    return result


def test_what_the_environment_says_goes_before_the_option(places: tuple[Place, Place]) -> None:
    env = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    places[0].build("x.def", "x.sif", "sif", "--reproducible", env=env)
    assert labels(places[0].directory / "x.sif")["org.label-schema.build-date"].startswith("Sunday_13_September_2020")


@pytest.mark.parametrize("text", ["soon", "-1", "1e9", str(1 << 32)])
def test_nonsense_for_a_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(BuildError, match="not seconds since 1970"):
        reproducible.source_date_epoch()


def test_logs_caches_and_dates_of_passwords_go(tmp_path: Path) -> None:
    for name, text in {
        "var/log/dpkg.log": "2026-11-24 installed",
        "var/log/apt/history.log": "2026",
        "var/cache/ldconfig/aux-cache": "times of files",
        "var/lib/apt/lists/mirror_Release": "Date:",
        "etc/machine-id": "0123",
        "etc/shadow": "root:*:20781:0:99999:7:::\nold:x:5:0:99999:7:::\nnever:!::0:99999:7:::\n",
        "etc/kept": "kept",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "var/log/link").symlink_to("/etc/kept")
    (tmp_path / "etc/shadow").chmod(0o640)
    with Root(tmp_path) as root:
        reproducible.clear(root, 10 * 86400)
    assert (tmp_path / "var/log/dpkg.log").read_text() == (tmp_path / "var/log/apt/history.log").read_text() == ""
    assert (tmp_path / "etc/machine-id").read_text() == ""
    assert list((tmp_path / "var/lib/apt/lists").iterdir()) == list((tmp_path / "var/cache/ldconfig").iterdir()) == []
    shadow = "root:*:10:0:99999:7:::\nold:x:5:0:99999:7:::\nnever:!::0:99999:7:::\n"
    assert (tmp_path / "etc/shadow").read_text() == shadow
    assert (tmp_path / "etc/shadow").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "etc/kept").read_text() == "kept"


@pytest.mark.needs("network", "debootstrap")
def test_a_debian_system_from_its_mirror(places: tuple[Place, Place], build: Build) -> None:
    """The example. Package managers date logs, caches and passwords; with --reproducible that is put right."""
    example = (machine.CHECKOUT / "examples" / "debian.def").read_text()
    assert "    apt-get update\n" in example
    for place in places:  # the mirror's signatures are not those of the faked day
        text = example.replace("    apt-get update\n", "    useradd -m somebody\n    ldconfig\n")
        (place.directory / "debian.def").write_text(text)
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(each.build, "debian.def", "x.sif", "sif", "--reproducible", env={}) for each in places]
    first, second = (run.result() for run in runs)
    assert first == second
    image = places[0].directory / "x.sif"
    root = build.root_of(image)
    assert "ID=debian" in (root / "etc" / "os-release").read_text()
    assert sorted(path.name for path in (root / "dev").iterdir() if not path.is_dir()) == []
    assert 20 << 20 < image.stat().st_size < 120 << 20
