"""Working directories that nobody owns any more, and directories that are nobody else's whatever the umask says."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from singularity import files, kernel, paths
from singularity.cache import places

DAY = 86_400.0


def left(place: Path, name: str, *, lock: bool, age: float) -> Path:
    """A working directory as a killed run leaves it."""
    path = place / f"{files.WORKING_PREFIX}{name}"
    (path / "root/etc").mkdir(parents=True)
    if lock:
        (path / ".lock").touch()
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def begin(place: Path) -> None:
    with files.temporary_directory(place):
        pass


@contextmanager
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("lock", [True, False], ids=["locked", "lock gone"])
def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path, *, lock: bool) -> None:
    """R-F1: without a lock too, where a kill came while it was removed, or somebody tidied up."""
    path = left(tmp_path, "left", lock=lock, age=2 * DAY)
    begin(tmp_path)
    assert not path.exists()


def test_what_may_still_be_in_use_stays(tmp_path: Path) -> None:
    young = [left(tmp_path, "just made", lock=False, age=100.0), left(tmp_path, "locked soon", lock=True, age=1.0)]
    held = left(tmp_path, "held", lock=True, age=2 * DAY)
    with (held / ".lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        begin(tmp_path)
        assert all(path.exists() for path in (*young, held))


def test_what_is_to_be_kept_is_kept(tmp_path: Path) -> None:
    with files.temporary_directory(tmp_path, keep=True) as path:
        (path / "root").mkdir()
    os.utime(path, (time.time() - 2 * DAY, time.time() - 2 * DAY))
    begin(tmp_path)
    assert (path / "root").is_dir()


def test_parents_of_the_cache_are_the_users_alone(tmp_path: Path) -> None:
    """R-F2: under a umask of 0."""
    with open_umask():
        paths.private(tmp_path / "home/.singularity/cache")
        places.public(tmp_path / "site/images/cache")
    modes = {path: path.stat().st_mode & 0o777 for path in sorted(tmp_path.rglob("*"))}
    assert set(modes.values()) == {0o700, 0o755}
    assert {mode for path, mode in modes.items() if path.is_relative_to(tmp_path / "home")} == {0o700}


@pytest.mark.needs("root")
def test_what_a_signal_left_mounted_goes_with_the_directory(tmp_path: Path) -> None:
    with files.temporary_directory(tmp_path) as place:
        for name in ("a b", "a b/c", "a b-c"):
            (place / name).mkdir()
            kernel.mount("tmpfs", str(place / name), "tmpfs", 0)
        (place / "a b" / "c" / "file").touch()
        assert kernel.mounts_below(str(place)) == [str(place / "a b"), str(place / "a b-c")]
    assert not place.exists()


@pytest.mark.needs("root")
def test_nothing_is_detached_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real" / "mount").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    kernel.mount("tmpfs", str(tmp_path / "real" / "mount"), "tmpfs", 0)
    with pytest.raises(OSError, match="levels of symbolic links"):
        kernel.detach(str(tmp_path / "link" / "mount"))
    assert kernel.mounts_below(str(tmp_path)) == [str(tmp_path / "real" / "mount")]
    kernel.detach(str(tmp_path / "real" / "mount"))
    assert kernel.mounts_below(str(tmp_path)) == []
