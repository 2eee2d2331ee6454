"""`singularity check` as it is typed: what a launch would see, and what it would then do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from images import tool

if TYPE_CHECKING:
    from images import Images
    from launching import Launcher

ALL_FORMATS = ("sandbox", "squashfs", "sif", "ext3", "sif-ext3", "2.x")


@pytest.mark.modes("suid", "userns")
@pytest.mark.formats(*ALL_FORMATS)
def test_what_would_not_fail_does_not(launch: Launcher, images: Images, form: str) -> None:
    image = images.of_format(form)
    result = launch("check", image, "--", "cat", "/etc/image-name")
    assert result.status == 0, str(result)
    assert result.lines[0].split() == ["WHAT", "FOUND", "NEEDED", "VERDICT"]
    assert result.lines[-1] == "Nothing would fail."
    assert "\x1b" not in result.out
    launch("exec", image, "cat", "/etc/image-name").ok()


@pytest.mark.formats("sandbox", "sif")
def test_what_would_fail_does(launch: Launcher, images: Images, form: str) -> None:
    image = images.of_format(form)
    result = launch("check", image, "nosuch")
    assert result.status == 1, str(result)
    assert "not in the container" in result.out
    assert launch("exec", image, "nosuch").status == 127


@pytest.mark.modes("root")
def test_the_document_says_the_same(launch: Launcher, images: Images) -> None:
    result = launch("check", "--json", "--all", images.sif, "--", "nosuch", "word")
    assert result.status == 1, str(result)
    document = json.loads(result.stdout)
    assert (document["image"], document["program"]) == (str(images.sif), ["nosuch", "word"])
    assert document["fails"] is True
    assert {"binds", "program", "mpi", "gpu", "fabric"} <= {each["subject"] for each in document["findings"]}
    failing = [each for each in document["findings"] if each["verdict"] == "fails"]
    assert [each["what"] for each in failing] == ["nosuch"]
    assert failing[0]["advice"].startswith("install it in the image, or name its path: PATH is ")


@pytest.mark.modes("suid", "userns")
def test_options_of_a_launch_are_those_of_a_check(launch: Launcher, images: Images, directory: Path) -> None:
    tools = directory / "tools"
    tools.mkdir(mode=0o755)
    shutil.copy(images.probe, tools / "mytool")
    (tools / "mytool").chmod(0o755)
    assert launch("check", images.sif, "--", "/opt/tools/mytool").status == 1
    for words in (
        ("--bind", f"{tools}:/opt/tools"),
        (f"--bind={tools}:/opt/tools",),
        (f"-B{tools}:/opt/tools",),
        ("-cB", f"{tools}:/opt/tools"),
        ("--kernel", "--bind", f"{tools}:/opt/tools", "--contain"),
    ):
        result = launch("check", *words, images.sif, "--", "/opt/tools/mytool")
        assert result.status == 0, str(result)
    assert launch("check", images.sif, "/opt/tools/mytool", env={"SINGULARITY_BIND": f"{tools}:/opt/tools"}).status == 0


def test_a_bind_whose_source_is_missing_is_a_launch_that_fails(launch: Launcher, images: Images) -> None:
    result = launch("check", "--bind", "/nosuch:/mnt", images.sif, "--", "true")
    assert result.status == 1, str(result)
    assert "/nosuch" in result.out
    assert result.lines[-1] == "1 would fail."


def test_nothing_of_the_image_runs(launch: Launcher, images: Images, directory: Path) -> None:
    place = directory / "trace"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    tree = Path(shutil.copytree(images.sandbox, directory / "tree", symlinks=True))
    for name in (".singularity.d/env/90-environment.sh", ".singularity.d/runscript"):
        (tree / name).write_text(f"#!/bin/sh\ntouch {place}/ran\n")
    assert launch("check", "--bind", place, tree).status == 0
    assert os.listdir(place) == []
    launch("run", "--bind", place, tree)
    assert os.listdir(place) == ["ran"]


@pytest.mark.modes("userns")
def test_overlays_lie_over_the_image(launch: Launcher, images: Images, directory: Path) -> None:
    over = directory / "over"
    (over / "opt/over").mkdir(parents=True)
    shutil.copy(images.probe, over / "opt/over/mytool")
    (over / "opt/over/mytool").chmod(0o755)
    words = (images.sif, "--", "/opt/over/mytool")
    assert launch("check", "--overlay", f"{over}:ro", *words).status == 0
    assert launch("check", *words).status == 1
    assert launch("check", "--overlay", f"{over}:ro", images.sif, "--", "/opt/script").status == 0


@pytest.mark.modes("userns")
def test_an_archive_is_checked_as_it_would_be_launched(launch: Launcher, images: Images, directory: Path) -> None:
    archive = directory / "tree.tar"
    tool("tar", "-C", images.sandbox, "-cf", archive, ".")
    assert launch("check", archive, "--", "cat").status == 0
    assert launch("check", archive, "--", "nosuch").status == 1


@pytest.mark.modes("userns", "suid")
def test_names_beyond_ascii_are_found(launch: Launcher, images: Images, directory: Path) -> None:
    for name in ("größe.sif", os.fsdecode(b"a\xff.sif")):
        odd = directory / name
        odd.symlink_to(images.sif)
        (directory / f"{name}.d").mkdir()
        words = ("--bind", f"{directory}/{name}.d:/mnt/{name}", odd, "--", "cat")
        assert launch("check", *words).status == 0


@pytest.mark.modes("userns")
def test_wrong_usage_is_one_line(launch: Launcher, images: Images) -> None:
    launch("check").misused("IMAGE is missing")
    launch("check", "--nosuch", images.sif).misused("--nosuch")
    launch("check", images.sif, "--json").misused("options stand before IMAGE")


@pytest.mark.modes("userns")
def test_what_is_no_image_is_an_error_of_ours(launch: Launcher, images: Images) -> None:
    launch("check", "/nosuch.sif", "--", "true").refused("/nosuch.sif")
    launch("check", images.damaged()["text"]).refused("unknown format")


@pytest.mark.modes("userns")
def test_a_damaged_image_is_refused_or_fails(launch: Launcher, images: Images) -> None:
    for name in ("squashfs-cut-in-half", "sif-cut-in-the-data", "ext3-cut-in-half"):
        assert launch("check", images.damaged()[name], "--", "true").status in (1, 255), name
