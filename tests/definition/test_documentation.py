"""What the documentation and the examples show is what the parser understands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from singularity.build import agents
from singularity.definition.parse import KEYWORDS, SECTIONS, parse
from singularity.definition.template import expand

CHECKOUT = Path(__file__).resolve().parents[2]
GUIDE = (CHECKOUT / "docs" / "definition-files.md").read_text()
SHOWN = re.findall(r"^```singularity\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
EXAMPLES = sorted((CHECKOUT / "examples").glob("*.def"))


@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_definition_files_in_the_guide_are_understood(number: int) -> None:
    text = expand(SHOWN[number], "guide.def", {}).text
    definition = parse(text, "guide.def")
    assert definition.warnings == ()
    for stage in definition.stages:
        agents.find(stage, "guide.def")


def test_the_guide_shows_something() -> None:
    assert len(SHOWN) >= 7
    for name in (*SECTIONS, *agents.AGENTS):
        assert name in GUIDE
    for keyword in re.findall(r"^\| `(\w+)` \| ", GUIDE.split("## The sections")[0], re.MULTILINE):
        assert keyword in KEYWORDS


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_examples_are_understood(path: Path) -> None:
    definition = parse(expand(path.read_text(), path.name, {}).text, path.name)
    assert definition.warnings == ()
    for stage in definition.stages:
        agents.find(stage, path.name)
