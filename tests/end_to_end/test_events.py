"""`build --json` and `pull --json`: what programs are told, and that it is all that is on standard output."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import servers

if TYPE_CHECKING:
    from pathlib import Path

    from images import Images
    from launching import Launcher, Result

TEXT = "Bootstrap: localimage\nFrom: {source}\n%post\n    echo from the script\n%labels\n    A b\n"


def events(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.lines]


@pytest.fixture
def definition(images: Images, directory: Path) -> Path:
    place = directory / "work"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    path = place / "x.def"
    path.write_text(TEXT.format(source=images.sif))
    return path


@pytest.mark.modes("userns", "root")
def test_a_build_tells_its_steps_and_its_end(launch: Launcher, definition: Path) -> None:
    target = definition.with_name("x.sif")
    result = launch("build", "--json", target, definition, timeout=120)
    assert result.status == 0, str(result)
    found = events(result)
    begun = [each for each in found if each["event"] == "step"]
    ended = [each for each in found if each["event"] == "step-end"]
    assert [each["number"] for each in begun] == [each["number"] for each in ended] == list(range(1, len(begun) + 1))
    assert {each["total"] for each in begun} == {len(begun)}
    assert any("%post" in each["what"] for each in begun)
    assert not any(each["cached"] for each in ended)
    assert found[-1] == {"event": "end", "time": found[-1]["time"], "status": 0}
    assert "from the script" not in result.out
    assert "from the script" in result.err
    texts = [each["text"] for each in found if each["event"] == "message"]
    assert any(text.startswith("Build complete: ") for text in texts)
    assert all(f"INFO:    {text}" in result.err for text in texts)
    (packed,) = [each for each in found if each.get("what") == "packing" and each["done"]][-1:]
    assert 0 < packed["done"] <= packed["total"]
    again = launch("build", "--json", "--force", target, definition, timeout=120)
    assert any(each["cached"] for each in events(again) if each["event"] == "step-end")


@pytest.mark.modes("userns")
def test_a_failure_is_told_with_its_status(launch: Launcher, definition: Path) -> None:
    definition.write_text(TEXT.format(source="/nosuch"))
    result = launch("build", "--json", definition.with_name("x.sif"), definition)
    assert result.status == 255
    *_, message, end = events(result)
    assert (message["level"], end["status"]) == ("fatal", 255)
    assert message["text"] in result.err
    assert launch("build", "--json").status == 1
    assert "INFO" not in launch("-q", "build", "--json", definition.with_name("y.sif"), definition).err


@pytest.mark.modes("userns")
def test_a_reader_that_leaves_is_no_failure(launch: Launcher, definition: Path) -> None:
    target = definition.with_name("x.sif")
    child = launch.start(*launch.argv("build", "--json", target, definition), stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["event"]
    child.stdout.close()
    assert child.wait(timeout=120) == 0
    assert target.exists()


@pytest.mark.modes("userns")
def test_a_pull_tells_what_has_come(launch: Launcher, images: Images, directory: Path) -> None:
    place = directory / "pulled"
    place.mkdir()
    place.chmod(0o777)
    with servers.static(images.sif.parent) as static:
        result = launch("pull", "--json", "--dir", place, f"{static.url}/{images.sif.name}")
    assert result.status == 0, str(result)
    found = events(result)
    size = images.sif.stat().st_size
    assert [each for each in found if each.get("what") == "fetching"][-1]["done"] == size
    assert found[-1]["status"] == 0
    assert next(place.iterdir()).stat().st_size == size
