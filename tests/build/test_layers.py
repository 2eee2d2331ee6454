"""Layers where they cannot be had, and layers of ordinary users."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from builds import USER, as_user

from singularity import digest
from singularity.image.root import Root

if TYPE_CHECKING:
    from builds import Build

pytestmark = pytest.mark.needs("busybox", "mksquashfs", "root")
Definition = Callable[[str], Path]

REFUSED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import syscalls
syscalls.refuse([syscalls.Refusal(*eval(sys.argv[2]))])
os.execv(sys.argv[3], sys.argv[3:])
"""
STEPS = "%post\n    echo post ran >&2\n    touch /made\n    rm /etc/passwd\n%test\n    test -e /made\n"
IDS = f"user:500000:65536\n{USER}:500000:65536\n"
OVERLAY = ("mount", errno.EINVAL, 3, 0)  # flags: every other mount of a build has some
NAMESPACES = ("unshare", errno.EPERM)


def refused(
    build: Build, refusal: tuple[object, ...], *words: str | Path, **env: str
) -> subprocess.CompletedProcess[str]:
    """A build on a kernel that refuses something."""
    tests = Path(machine.__file__).parent
    argv = [sys.executable, "-c", REFUSED, str(tests), repr(refusal), *build.argv("--verbose", "build", *words)]
    return subprocess.run(
        argv,
        cwd=build.directory,
        env=build.env(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_overlays_everything_is_done_each_time(build: Build, definition: Definition, base: Path) -> None:
    path = definition(STEPS)
    for name in ("a.sif", "b.sif"):
        done = refused(build, OVERLAY, name, path)
        assert done.returncode == 0, done.stderr
        assert (
            "VERBOSE: Nothing is kept for the next build: no overlay file system in the cache: Invalid" in done.stderr
        )
        assert "VERBOSE: No layers: no overlay file system in " in done.stderr
        assert "post ran" in done.stderr
    root = build.root_of("b.sif")
    assert (root / "made").exists()
    assert not (root / "etc" / "passwd").exists()
    assert (base / "etc" / "passwd").exists()
    assert build.leftovers() == []


def test_without_overlays_the_image_is_the_same(build: Build, definition: Definition) -> None:
    path = definition("%post\n    touch /made\n    rm /etc/passwd\n")
    done = refused(build, OVERLAY, "a.sif", path, SOURCE_DATE_EPOCH="1700000000")
    assert done.returncode == 0, done.stderr
    build.ok("build", "b.sif", path, SOURCE_DATE_EPOCH="1700000000")
    assert (build.directory / "a.sif").read_bytes() == (build.directory / "b.sif").read_bytes()


def test_without_namespaces_images_are_still_converted(build: Build, base: Path) -> None:
    done = refused(build, NAMESPACES, "a.sif", base)
    assert done.returncode == 0, done.stderr
    assert "VERBOSE: No layers, and nothing for the cache: no mount namespace: Operation not permitted" in done.stderr
    assert (build.root_of("a.sif") / "bin" / "busybox").exists()


def test_a_throw_away_layer_needs_layers(build: Build, definition: Definition) -> None:
    done = refused(build, OVERLAY, "--writable-tmpfs", "a.sif", definition(STEPS))
    assert done.returncode == 255
    assert "FATAL:   --writable-tmpfs needs an overlay file system, which cannot be had here" in done.stderr
    assert build.leftovers() == []


@pytest.mark.needs("overlay")
def test_a_directory_that_holds_the_working_directory_is_refused(build: Build, base: Path) -> None:
    """It would come to lie in itself."""
    (base / "var").mkdir()
    message = build.fails("build", "--tmpdir", base / "var", "a.sif", "base")
    assert message == "base: the working directory lies in it (name another with --tmpdir)"
    assert list((base / "var").iterdir()) == []


# Ordinary users.


@pytest.mark.needs("userns", "overlay", "installation")
@pytest.mark.parametrize("ids", ["", IDS])
def test_an_ordinary_users_build_resumes(build: Build, definition: Definition, ids: str) -> None:
    steps = STEPS + "%appinstall tool\n    mkdir /opt\n    echo x >/opt/file\n"
    definition(f"{steps}    false\n")
    done = as_user(build, "build", "a.sif", "x.def", ids=ids)
    assert done.returncode == 255
    assert "post ran" in done.stderr
    assert "x.def:12: %appinstall tool failed with status 1" in done.stderr
    definition(f"{steps}    rm -r /opt\n    mkdir /opt\n")
    done = as_user(build, "build", "a.sif", "x.def", ids=ids)
    assert done.returncode == 0, done.stderr
    assert "INFO:    Using the cache: %post" in done.stderr
    assert "post ran" not in done.stderr.replace("echo post ran", "")
    done = as_user(build, "build", "b.sif", "x.def", ids=ids)
    assert "INFO:    Using the cache: %appinstall tool" in done.stderr
    dry = as_user(build, "build", "--dry-run", "c.sif", "x.def", ids=ids)
    assert dry.stdout.count("; from the cache)") == 3
    root = build.root_of("b.sif")
    assert (root / "made").exists()
    assert not (root / "etc" / "passwd").exists()
    assert list((root / "opt").iterdir()) == []
    assert build.leftovers() == []


@pytest.mark.needs("userns", "overlay", "installation")
def test_layers_with_subordinate_owners_are_swept_and_cleaned(build: Build, definition: Definition) -> None:
    """Only root of the user namespace may remove what belongs to those ids."""
    (build.directory / "base" / "bin" / "chown").symlink_to("busybox")
    script = "mkdir -p /closed/deep\n touch /closed/deep/file\n chown -R 33:34 /closed\n chmod 700 /closed\n"
    definition(f"%post\n {script}")
    done = as_user(build, "build", "a.sif", "x.def", ids=IDS)
    assert done.returncode == 0, done.stderr
    status = (build.root_of("a.sif") / "closed").stat()
    assert (status.st_uid, status.st_gid) == (33, 34)
    layers = build.directory / "kept" / "cache" / "build"
    owners = {path.lstat().st_uid for path in layers.rglob("*")}
    assert 500000 + 32 in owners
    done = plain(build, "cache", "clean", "--force", "--type", "build")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("INFO:    Removing build cache entry") == 2
    assert list(layers.iterdir()) == []


def plain(build: Build, *words: str) -> subprocess.CompletedProcess[str]:
    """As `as_user`, with the owners of the cache as they are."""
    return as_user(build, *words, ids=IDS, own=False)


def test_digests_tell_changes_apart(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d" / "f").write_text("one")
    (top / "l").symlink_to("d")
    content, status = digest.by_content(top), digest.by_status(top, changes=False)
    assert (status.size, status.files) == (3, 4)
    os.utime(top / "d" / "f", (0, 0))
    assert digest.by_content(top) == content
    assert digest.by_status(top, changes=False).digest != status.digest
    (top / "d" / "f").write_text("two")
    assert digest.by_content(top) != content
    changed = digest.by_content(top)
    (top / "d" / "f").chmod(0o600)
    assert digest.by_content(top) != changed
    with Root(top) as root:
        root.link("/l", "x")
    assert digest.by_content(top) != changed
