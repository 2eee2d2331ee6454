"""`singularity migrate`: what Apptainer's users and sites have. The files are as Apptainer 1.4.5 writes them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import machine
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REMOTES = """\
Active: lab
Remotes:
    DefaultRemote:
        URI: cloud.apptainer.org
        System: true
        Exclusive: false
    lab:
        URI: library.example.org
        Token: a-token
        System: false
        Exclusive: false
        Keyservers:
            - URI: https://keys.example.org
            - URI: https://skipped.example.org
              Skip: true
Credentials:
    - URI: docker://old.example.org
      Auth: Basic YWxpY2U6c2VjcmV0
      Insecure: false
"""
LAYER, IMAGE = b"a layer\n", b"an image\n"


class Newcomer:
    """Somebody with a home directory, who types commands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.theirs = home / ".apptainer"
        self.ours = home / ".singularity"
        self.theirs.mkdir(mode=0o700, parents=True)

    def __call__(self, *words: str | Path, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if "CACHEDIR" not in name}
        done = subprocess.run(
            [sys.executable, "-I", "-m", "singularity", *map(str, words)],
            env={**environment, "HOME": str(self.home), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def migrate(self, *words: str | Path, **variables: str) -> dict[str, list[str]]:
        """The rest of the lines, by their first word."""
        found: dict[str, list[str]] = {"taken": [], "there": [], "left": []}
        for line in self("migrate", *words, **variables).stdout.splitlines():
            state, _, rest = line.partition(" ")
            found[state].append(" ".join(rest.split()))
        return found

    def write(self, name: str, data: str | bytes, mode: int = 0o600) -> Path:
        path = self.theirs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        path.chmod(mode)
        return path


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    return Newcomer(tmp_path / "home")


@pytest.fixture
def moving(newcomer: Newcomer) -> Newcomer:
    """One who has something of everything."""
    newcomer.write("remote.yaml", REMOTES)
    login = base64.b64encode(b"alice:word").decode()
    newcomer.write("docker-config.json", json.dumps({"auths": {"new.example.org": {"auth": login}}}))
    newcomer("key", "newpair", "--name", "Alice", "--email", "a@example.org", "--comment", "", "--password", "")
    shutil.move(newcomer.ours / "keys", newcomer.theirs / "keys")
    shutil.rmtree(newcomer.ours)
    newcomer.write(f"cache/blob/blobs/sha256/{hashlib.sha256(LAYER).hexdigest()}", LAYER)
    newcomer.write(f"cache/library/sha256.{hashlib.sha256(IMAGE).hexdigest()}", IMAGE)
    return newcomer


def tree(place: Path) -> Mapping[str, bytes]:
    return {str(each.relative_to(place)): each.read_bytes() for each in place.rglob("*") if each.is_file()}


@pytest.mark.needs("gpg")
def test_all_that_a_user_has_is_taken_once_and_theirs_stays(moving: Newcomer) -> None:
    before = tree(moving.theirs)
    fingerprint = "".join(
        moving("key", "list", SINGULARITY_KEYSDIR=str(moving.theirs / "keys"))
        .stdout.split("Fingerprint:")[1]
        .split()[:1]
    )
    expected = [
        "remote lab",
        "key server https://keys.example.org",
        "login old.example.org",
        "login new.example.org",
        f"key {fingerprint}: Alice <a@example.org>",
        f"secret key {fingerprint}: Alice <a@example.org>",
        "cache layers: 1 of 1, 0.0 MB",
        "cache images: 1 of 1, 0.0 MB",
    ]
    assert moving.migrate("--dry-run") == {"taken": expected, "there": [], "left": []}
    assert not moving.ours.exists()
    assert moving.migrate() == {"taken": expected, "there": [], "left": []}
    again = moving.migrate()
    assert (again["taken"], again["left"]) == ([], [])
    assert len(again["there"]) == len(expected)
    assert tree(moving.theirs) == before
    remotes = yaml.safe_load((moving.ours / "remote.yaml").read_text())
    assert remotes["Active"] == "lab"
    assert remotes["Remotes"]["lab"]["Token"] == "a-token"
    assert "DefaultRemote" not in remotes["Remotes"]
    assert "new.example.org" in moving("registry", "list").stdout
    assert "keys.example.org" in moving("keyserver", "list").stdout
    assert "skipped" not in moving("keyserver", "list").stdout
    assert fingerprint in moving("key", "list", "--secret").stdout
    for name in ("remote.yaml", "docker-config.json", "keys/pgp-secret", "keyservers.json"):
        assert (moving.ours / name).stat().st_mode & 0o077 == 0
    blob = moving.ours / "cache/blob/blobs/sha256" / hashlib.sha256(LAYER).hexdigest()
    assert blob.stat().st_nlink == 2


def test_what_is_here_is_not_replaced(newcomer: Newcomer) -> None:
    newcomer("remote", "add", "--no-login", "lab", "other.example.org")
    newcomer("registry", "login", "--username", "bob", "--password", "mine", "docker://127.0.0.1:1", status=255)
    newcomer.write("remote.yaml", REMOTES)
    found = newcomer.migrate()
    assert "remote lab" in found["there"]
    remotes = yaml.safe_load((newcomer.ours / "remote.yaml").read_text())
    assert remotes["Remotes"]["lab"]["URI"] == "other.example.org"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("remote.yaml", "a: [", "no YAML"),
        ("docker-config.json", "nonsense", "not a file of credentials"),
        ("keys/pgp-public", b"\x99nonsense", "keys/pgp-public"),
        ("remote.yaml", "Remotes: 5\nCredentials: 7\n", ""),
        ("remote.yaml", "Credentials: [{URI: 'docker://x', Auth: '%%'}]\n", "it is not understood"),
        ("docker-config.json", '{"auths": {"a.example.org": 7, "b c": {}}, "credHelpers": []}', ""),
    ],
)
def test_files_that_make_no_sense_end_nothing(newcomer: Newcomer, name: str, data: str | bytes, message: str) -> None:
    newcomer.write(name, data)
    newcomer.write(f"cache/blob/blobs/sha256/{hashlib.sha256(LAYER).hexdigest()}", LAYER)
    found = newcomer.migrate()
    assert len(found["left"]) == bool(message)
    assert message in "".join(found["left"])
    assert found["taken"][-1] == "cache layers: 1 of 1, 0.0 MB"


def test_a_damaged_image_and_a_link_are_not_taken(newcomer: Newcomer) -> None:
    digest = hashlib.sha256(IMAGE).hexdigest()
    newcomer.write(f"cache/oras/sha256.{digest}", b"another image\n")
    (newcomer.theirs / "cache/library").mkdir()
    (newcomer.theirs / f"cache/library/sha256.{digest}").symlink_to("/etc/passwd")
    assert newcomer.migrate() == {"taken": [], "there": ["cache images: 1"], "left": []}
    assert not list(newcomer.ours.rglob("image.sif"))


@pytest.mark.needs("root")
def test_what_is_of_others_in_the_cache_is_not_taken(newcomer: Newcomer) -> None:
    """They could change it later, when nobody checks it any more."""
    for kind in ("library/sha256.", "blob/blobs/sha256/"):
        path = f"cache/{kind}{hashlib.sha256(IMAGE).hexdigest()}"
        newcomer.write(path, IMAGE)
        os.chown(newcomer.theirs / path, 65534, 65534)
    assert newcomer.migrate() == {"taken": [], "there": [], "left": []}


def test_two_at_once_take_all_and_fail_at_nothing(newcomer: Newcomer) -> None:
    newcomer.write("remote.yaml", REMOTES)
    for number in range(200):
        data = str(number).encode()
        newcomer.write(f"cache/blob/blobs/sha256/{hashlib.sha256(data).hexdigest()}", data)
        newcomer.write(f"cache/library/sha256.{hashlib.sha256(data).hexdigest()}", data)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: newcomer.migrate(), range(4)))
    assert [each["left"] for each in found] == [[]] * 4
    assert len(list((newcomer.ours / "cache/blob/blobs/sha256").iterdir())) == 200
    assert newcomer.migrate()["taken"] == []


@pytest.mark.needs("root")
def test_files_of_others_are_left(newcomer: Newcomer) -> None:
    os.chown(newcomer.write("remote.yaml", REMOTES), 4321, 4321)
    assert newcomer.migrate()["left"] == [f"remotes {newcomer.theirs}/remote.yaml: belongs to user 4321, not to you"]


def test_where_nothing_is_there_that_is_said(newcomer: Newcomer, tmp_path: Path) -> None:
    newcomer.theirs.rmdir()
    assert "There is nothing to take over: no ~/.apptainer" in newcomer("migrate").stderr
    assert "no such directory" in newcomer("migrate", "--from", tmp_path / "nowhere", status=255).stderr
    newcomer.ours.mkdir()
    assert "its own files" in newcomer("migrate", "--from", newcomer.ours, status=1).stderr


CONFIGURATION = """\
# MOUNT HOME: [BOOL]
# DEFAULT: yes
mount home = no

# MOUNT TMP: [BOOL]
# DEFAULT: yes
mount tmp = yes

# BIND PATH: [STRING]
# DEFAULT: Undefined
#bind path = /opt
bind path = /etc/hosts
bind path = /scratch

# ENABLE OVERLAY: [yes/no/driver/try]
# DEFAULT: yes
enable overlay = driver

# MKSQUASHFS PROCS: [UINT]
# DEFAULT: 0 (All CPUs)
mksquashfs procs = 0

# MEMORY FS TYPE: [tmpfs/ramfs]
# DEFAULT: tmpfs
memory fs type = ramfs
"""


@pytest.mark.needs("root", "installation")
def test_what_a_site_has(tmp_path: Path) -> None:
    """Into a configuration of the test's own, where the installation has its."""
    prefix = machine.prefix()
    assert prefix is not None
    theirs, ours = tmp_path / "etc", tmp_path / "ours"
    shutil.copytree(prefix / "etc/singularity", ours)
    (theirs / "network").mkdir(parents=True)
    (theirs / "apptainer.conf").write_text(CONFIGURATION)
    (theirs / "remote.yaml").write_text(REMOTES)
    (theirs / "capability.json").write_text('{"users": {"alice": ["CAP_NET_RAW"]}}')
    (theirs / "ecl.toml").write_text("activated = true\n")
    (theirs / "nvliblist.conf").write_text("# a list\nlibcuda.so\nlibcuda_of_the_site.so\n")
    for name, network in (("00_bridge", "bridge"), ("50_lab", "lab")):
        (theirs / f"network/{name}.conflist").write_text(json.dumps({"name": network, "plugins": [{"type": "ptp"}]}))

    def run(*words: str | Path) -> list[str]:
        script = f'mount --bind {ours} {prefix}/etc/singularity && exec {prefix}/bin/singularity "$@"'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [" ".join(line.split()) for line in done.stdout.splitlines()]

    def migrate(*words: str) -> list[str]:
        return run("migrate", "--site", "--from", theirs, *words)

    before = tree(ours)
    lines = migrate("--dry-run")
    assert tree(ours) == before
    assert migrate() == lines
    rules = f'"require signature" first (singularity key signers), then "execution control list = {theirs}/ecl.toml"'
    assert lines == [
        "taken directive mount home = no",
        "taken directive bind path = /etc/hosts, /scratch",
        "left directive enable overlay = driver: enable overlay: 'driver' is not one of yes, no, try",
        "left directive memory fs type = ramfs: there is no such directive here",
        "taken remote lab",
        "taken capabilities user alice: CAP_NET_RAW",
        "there network bridge",
        "taken network lab",
        "left nvliblist.conf 1 entries more (libcuda_of_the_site.so): compare; those stay out that hide an image's own",
        f"left signatures {theirs}/ecl.toml: {rules}",
    ]
    assert not [line for line in migrate() if line.startswith("taken")]
    text = (ours / "singularity.conf").read_text()
    assert "\nmount home = no\n" in text
    assert "\nbind path = /scratch\n" in text
    assert text.count("bind path = /etc/hosts\n") == 1
    assert "alice" in " ".join(run("capability", "list"))
