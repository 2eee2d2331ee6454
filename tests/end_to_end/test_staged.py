"""Launches of images of which this node has a copy: `stage`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from launching import Launcher

pytestmark = pytest.mark.formats("sif")
LOOK = ("cat", "/etc/image-name")


@pytest.fixture
def staged(launch: Launcher, image: Path) -> tuple[Launcher, Path, Path]:
    """A launcher, an image that its user has staged, and the copy."""
    mine = launch.home / "mine.sif"
    shutil.copy(image, mine)
    os.chown(mine, launch.account.uid, launch.account.uid)
    launcher = launch.with_env(SINGULARITY_STAGEDIR=str(launch.home_inside / "staged"))
    copy = launcher("stage", launch.home_inside / "mine.sif").ok().out.strip()
    return launcher, launch.home_inside / "mine.sif", Path(copy)


def image_of(launcher: Launcher, *words: str | Path) -> str:
    result = launcher("exec", *words, first=["--verbose"])
    assert result.status == 0, str(result)
    return result.err


def test_a_launch_finds_the_copy(staged: tuple[Launcher, Path, Path]) -> None:
    launcher, mine, copy = staged
    result = launcher("exec", mine, "sh", "-c", "echo $SINGULARITY_NAME", first=["--verbose"])
    assert f"the image is {copy}, staged from {mine}\n" in result.err
    assert result.out == "mine.sif\n"
    assert launcher("exec", mine, *LOOK).ok().err == ""
    other = launcher.with_env(SINGULARITY_STAGEDIR=None)
    assert "staged from" not in image_of(other, mine, *LOOK)


def test_an_image_that_was_changed_is_launched_itself(staged: tuple[Launcher, Path, Path]) -> None:
    launcher, mine, _ = staged
    os.utime(launcher.home / mine.name, (1, 1))
    assert "staged from" not in image_of(launcher, mine, *LOOK)


def test_a_file_that_only_says_that_it_is_as_old_is_another(staged: tuple[Launcher, Path, Path]) -> None:
    """Users set times of modification as they like, so that one image could pass for another."""
    launcher, mine, _ = staged
    path = launcher.home / mine.name
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "staged from" not in image_of(launcher, mine, *LOOK)


@pytest.mark.parametrize("what", ["writable for others", "another's", "a link", "another size"])
def test_a_copy_that_others_could_have_made_is_not_used(staged: tuple[Launcher, Path, Path], what: str) -> None:
    launcher, mine, copy = staged
    place = launcher.home / "staged"
    path = launcher.home / copy.relative_to(launcher.home_inside)
    if what == "writable for others":
        place.chmod(0o777)
    elif what == "another's":
        if os.geteuid() != 0:
            pytest.skip("not root")
        os.chown(place, 4321, 4321)
        place.chmod(0o755)
    elif what == "a link":
        place.rename(launcher.home / "elsewhere")
        place.symlink_to("elsewhere")
    else:
        with path.open("ab") as file:
            file.write(b"x")
    assert "staged from" not in image_of(launcher, mine, *LOOK)


@pytest.mark.modes("suid")
def test_where_only_some_places_are_allowed_nothing_is_staged_elsewhere(launch: Launcher, image: Path) -> None:
    limited = launch.configured("limit container paths = /software/images\n")
    result = limited("stage", image, env={"SINGULARITY_STAGEDIR": str(launch.home_inside / "staged")})
    assert result.status == 255
    assert "are not launched here (only below /software/images)" in result.err, str(result)
